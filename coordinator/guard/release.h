/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Releasing what a board says is held, each object on a thread of its own: the same for the executor, the releaser, and
 * whoever finds the board when both are gone. */
#pragma once

#include <stdbool.h>

#include "coordinator/guard/board.h"
#include "coordinator/guard/crew.h"

struct release {
	struct board *board;
	struct crew *crew; /* a thread for each object */
	int control;	   /* /dev/mapper/control; -1 when the plan names no device */
	int *fds;	   /* the window's descriptors; -1: to be opened when needed */
	/* The process whose threads may be within the ioctls that hold; 0 when there is none (any more). */
	pid_t holder;
	bool mortal; /* we are the executor: whoever fences kills us */
};

/* The executor is thawing a btrfs: it must not be killed before that has returned. */
bool release_is_delicate(const struct release *release);

/* Starts an attempt for every object that may be held and whose thread is idle; to be called again, every few
 * milliseconds while something is in flight, until release_pending is 0. */
void release_sweep(struct release *release);
/* How many objects may still be held. */
size_t release_pending(const struct release *release);
/* One attempt for one object (a crew_fn; context: struct release). */
void release_object(void *context, size_t index);
