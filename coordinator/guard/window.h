/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A window in the releaser: armed for a client, run by an executor, and fenced when that is too late, ends, or is no
 * longer wanted. Fencing means: revoke the plan, kill the executor, release everything here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "coordinator/guard/board.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/half.h"
#include "coordinator/guard/release.h"

enum window_state {
	WINDOW_ARMING, /* also again, with another executor, when the first one ended with nothing begun */
	WINDOW_ARMED,
	WINDOW_RUNNING,
	WINDOW_HELD,
	WINDOW_RELEASING, /* the executor has been told to */
	WINDOW_FENCED,	  /* the releaser does it */
	WINDOW_CLOSING,	  /* nothing is held; descriptors are being closed, which may take time */
	WINDOW_OVER,	  /* may be freed */
};

struct window {
	enum window_state state;
	struct board *board;
	int directory; /* borrowed */
	int board_fd, control;
	int fds[BOARD_FDS_MAX];
	size_t n_fds;
	struct crew *crew;
	struct half half;
	struct release release;
	unsigned replaced; /* executors that ended before anything was begun */
	uint64_t half_due; /* the executor has to answer by then, while ARMING */
	uint64_t deadline, fenced_at;
	uint64_t sweep_from, sweep_due; /* not before the first; the next */
	bool counted; /* among those for which grace periods are expedited */
	bool told;    /* the client, that it is armed */
	bool going;   /* it has said go */

	/* Hears of every answer: at ARMED, HELD, and the end. NULL once the client is gone. */
	void (*tell)(struct window *window, json_t *answer, void *client);
	void *client;
};

/* Arms: afterwards the plan is on the list and half (taken) has been told, or will be when it is ready. The descriptors
 * are taken (set to -1 in fds). */
int window_new(struct window **ret, json_t *plan, int *fds, size_t n_fds, int directory, struct half *half,
	       struct err *err);
/* What a guard that ended has left on its list: fenced at once. */
int window_adopt(struct window **ret, int board_fd, int directory, struct err *err);
struct window *window_free(struct window *window); /* must be over */

/* Its executor is lost, with nothing begun: another one has to be given. */
bool window_wants_half(const struct window *window);
void window_take_half(struct window *window, struct half *half);

int window_go(struct window *window, struct err *err);
int window_release(struct window *window, struct err *err);
void window_fence(struct window *window, enum fault_kind fault);
/* Its executor has spoken, or has ended; its crew has moved; time has passed. */
void window_heard(struct window *window);
void window_half_ended(struct window *window);
void window_step(struct window *window);
/* When window_step has to be called at the latest: absolute usec. */
uint64_t window_due(const struct window *window);
