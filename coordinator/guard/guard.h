/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-guard: what its parts share. The releaser is the main process: it serves the socket, arms, watches and fences.
 * The executor holds, cuts and releases; one executor serves one window and ends. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/names.h"
#include "coordinator/guard/kernel.h"

#define GUARD_SOCKET_NAME "guard.sock"
#define GUARD_DEADLINE_DEFAULT (10 * USEC_PER_SEC)
#define GUARD_DEADLINE_MAX (60 * USEC_PER_SEC)
/* The executor's own deadline comes later than the releaser's, which can name what is stuck. */
#define GUARD_EXECUTOR_GRACE (250 * USEC_PER_MSEC)
/* Whoever has killed one half often means both. The other waits this long, lest it be killed while it thaws a btrfs. */
#define GUARD_LAST_MOMENT (50 * USEC_PER_MSEC)

/* One byte each, between the two halves. */
enum guard_word {
	WORD_READY = 'R', /* executor: locked in memory, may be armed */
	WORD_ARM = 'A',	  /* with the window's descriptors */
	WORD_ARMED = 'a',
	WORD_REFUSED = 'n', /* no threads */
	WORD_GO = 'G',
	WORD_HELD = 'H',
	WORD_RELEASE = 'L',
	WORD_DONE = 'D',
};

extern const struct kernel *guard_kernel;

/* The program, with the kernel or with something that looks like it. */
int guard_main(int argc, char **argv, const struct kernel *kernel);

int executor_main(int socket, const char *run_directory, const char *program);
int releaser_main(const char *run_directory, const char *program);
/* Third layer: releases what the lists in the directory still name. Exit codes as of vssctl; prints what it did. */
int leftovers_main(const char *run_directory, bool only_list, bool json);

/* settle.c: locked, real-time, never chosen when memory ends. What is not allowed is left out quietly. */
void settle(int priority);
/* rcu_expedited: -1 where it cannot be used, otherwise what it was. */
int rcu_expedite(void);
void rcu_restore(int before);
