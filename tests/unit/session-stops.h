/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session halted in any state that one can be seen in: three writers (:f front-end, :b back-end, :s system) with data on
 * /data, and whoever the state waits for does not answer. */
#pragma once

#include "tests/unit/session-world.h"

struct stop {
	const char *state;
	const char *event, *writer; /* the call that is not answered (writer NULL: by nobody) */
	const char *op;             /* or the job */
	const char *fails;          /* the event that fails before, or the op */
	bool thaws_late;            /* expiry leads on, not to Abort */
};

extern const struct stop stops[];
extern const size_t n_stops;

/* The session, in stop->state; it fails the test if it does not get there. */
struct session *stop_in(struct world *world, const struct stop *stop);
/* Ends the session that was in the way in Waiting and WaitingForWriters; for others nothing. */
void stop_unblock(struct world *world);
/* On the tape: whoever heard Freeze heard Thaw or Abort after it. */
void stop_assert_nobody_frozen(void);
