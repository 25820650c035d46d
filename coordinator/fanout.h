/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls to writers. They go out over sender connections of their own: a bus with Debian's limits allows a connection
 * 128 unanswered calls and frees the place of an unanswered call never, so a sender has at most 100, takes no new calls
 * once one of its has timed out, and is closed when its last live call has ended. A writer that hangs therefore never
 * keeps another from its event. */
#pragma once

#include <systemd/sd-event.h>

#include "common/bus.h"

struct fanout;
struct fanout_call;

#define FANOUT_CALLS_PER_SENDER 100
#define FANOUT_SENDERS_MAX 64

struct fanout *fanout_new(sd_event *event);
struct fanout *fanout_free(struct fanout *fanout); /* open calls complete with Cancelled */

/* As bus_call: fn runs exactly once, never from fanout_call itself. NULL with err: not sent. */
struct fanout_call *fanout_call(struct fanout *fanout, const char *destination, const char *path, const char *method,
				const char *signature, json_t *args, const int *fds, size_t n_fds, uint64_t deadline,
				bus_reply_fn fn, void *data, struct err *err);
void fanout_extend(struct fanout_call *call, uint64_t deadline);
/* Gives up waiting, without running fn. The sender counts the call as unanswered. */
void fanout_cancel(struct fanout_call *call);

/* While somebody is frozen no sender is closed: to a writer the end of the connection that froze it means that the
 * coordinator is gone. Counted. */
void fanout_hold(struct fanout *fanout);
void fanout_release(struct fanout *fanout);

/* Closes the senders that are not needed while nothing is under way, but for one. */
void fanout_trim(struct fanout *fanout);
bool fanout_is_idle(const struct fanout *fanout);
