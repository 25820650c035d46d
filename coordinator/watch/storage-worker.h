/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vss-worker of the role lvm, which knows LVM's commands; started when it is needed, let go when it has been idle. */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct storage_worker {
	const char *program;
	pid_t pid; /* 0: none */
	int fd;
	uint64_t used; /* when, usec */
};

/* Asks and waits, limit usec at most: a worker that takes longer is killed. request is taken. NULL with err. */
json_t *storage_worker_ask(struct storage_worker *worker, const char *op, json_t *request, uint64_t limit,
			   struct err *err);

/* Lets it go if it has had nothing to do for a while; always with now UINT64_MAX. */
void storage_worker_rest(struct storage_worker *worker, uint64_t now);
