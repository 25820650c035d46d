/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The window itself, in the order that the plan's depths demand: hold, check, cut, check, release. Nothing in here
 * allocates, logs, or waits without an end. */
#pragma once

#include <stdbool.h>

#include "coordinator/guard/release.h"

/* Why a wait ends before its work does. */
enum stop { STOP_NONE, STOP_ORDER, STOP_DEADLINE, STOP_PEER };

struct run {
	struct release release; /* board, crew, control, fds; holder 0: its own threads are known to be idle or not */
	/* Waits until the crew has become idle, an order, the peer's end, or the deadline. STOP_NONE: look at the crew.
	 */
	enum stop (*wait)(struct run *run);
	void *data;
	enum stop stopped; /* from then on only releasing */
};

/* Everything is held, and seen to be. false: a fault is on the board, something may be held. */
bool run_hold(struct run *run);
/* Checks, cuts, checks. */
bool run_cut(struct run *run);
/* Releases all that is held, in order; in whatever order is possible once stopped. Ends when nothing is held. */
void run_release(struct run *run);
/* After the release: what strangers did meanwhile is a fault. */
void run_verify(struct run *run);
