/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Redis and Valkey servers on this machine: how they are reached, and where their files are. */
#pragma once

#include "writers/redis/server.h"

/* discover of the kind. A row's own members: Socket s, or Host s and Port s, or both; Config s, Pid i, RunId s: where
 * they are known; Configured b: not only seen among the processes, whose names anybody may take. */
json_t *servers_discover(const json_t *settings, struct err *err);

/* What a running server consists of, as in a row: {Paths [..]}. NULL: task->message. */
json_t *server_files(struct bundled_task *task, redisContext *context, uint64_t until);
