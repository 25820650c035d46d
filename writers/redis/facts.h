/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server says of itself (INFO), and what of it stands in the way of a copy. */
#pragma once

#include "writers/redis/server.h"

struct server_facts {
	char version[32], run_id[64];
	bool aof, aof_broken; /* its last write to the append-only file failed */
	bool aof_quiet;	      /* nothing of it waits in the server any more */
	bool loading, saving, save_failed;
	bool replica, link_up, syncing;
	char master[160];     /* "HOST:PORT", of a replica */
	long long down_since; /* seconds that the link to the master has been down; -1: it was never up */
	long long replicas, offset, changes, last_save;
};

enum vss_result facts_ask(struct bundled_task *task, redisContext *context, struct server_facts *ret_facts);
/* Whatever keeps it from being copied as it is now: task->message. */
enum vss_result facts_judge(struct bundled_task *task, const struct server_facts *facts);
/* "replica of 10.0.0.1:6379, in step with it" */
void facts_describe_role(const struct server_facts *facts, char *text, size_t size);

/* The directory of the dump, as the row says. */
const char *server_directory(const json_t *row);
