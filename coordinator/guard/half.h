/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An executor process, as the releaser sees it. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

struct half {
	pid_t pid; /* 0: none */
	int pidfd, socket;
	bool ready; /* locked in memory: may be armed */
};

#define HALF_NONE ((struct half){ .pidfd = -1, .socket = -1 })

/* Runs this program as an executor. */
int half_start(struct half *half, const char *program, const char *run_directory, struct err *err);
/* Takes over one that another releaser started: it can be killed and its end can be seen. No half when it has ended. */
void half_adopt(struct half *half, pid_t pid);
void half_kill(struct half *half);
/* Kills it and forgets it, however long it takes to end: only for one that holds nothing. */
void half_forget(struct half *half);
/* It has ended: closes what led to it. Its number was given back by the kernel (SA_NOCLDWAIT). */
void half_bury(struct half *half);
