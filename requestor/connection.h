/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside libvssrequestor: one connection to the bus, calls of vssd, and the only place that waits. */
#pragma once

#include "common/bus.h"
#include "common/clock.h"
#include "requestor/vssrequestor.h"

#define CALL_USEC (30 * USEC_PER_SEC)  /* a call that vssd answers from memory, or after a look at the storage */
#define OWNER_USEC (30 * USEC_PER_SEC) /* how long a restarting vssd may stay away */
#define OWNER_POLL_USEC (200 * USEC_PER_MSEC)
#define CLOSE_USEC (120 * USEC_PER_SEC)	   /* the end of a session: copies are deleted, writers hear of it */
#define PING_AFTER_USEC (3 * USEC_PER_SEC) /* silence after which vssd is asked whether it lives */
#define PING_LIMIT_USEC (10 * USEC_PER_SEC)

struct vss_connection {
	struct bus *bus;
	int cancel_fd; /* written by vss_cancel */
	struct bus_watch *owner_watch;
	unsigned losses; /* how often org.vssd has lost its owner since we connected */
	uint64_t heard;	 /* when vssd last said anything */
	bool ping_pending, hung;
	struct bus_pending *ping;
};

/* One call under way, or its answer. */
struct answer {
	struct vss_connection *connection;
	struct bus_pending *pending;
	const char *method;
	uint64_t limit_usec;
	bool done;
	bool late;    /* the limit has passed */
	bool gone;    /* vssd went away (or could not be started) before it answered */
	bool unknown; /* vssd answers, but has no such object */
	enum vss_error error;
	char text[1024];
	json_t *args;
	int fd; /* the first descriptor of the answer, or -1 */
};

#define ANSWER_INIT                                                                                                    \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

/* Cancels what is under way and drops what has come. */
void answer_clear(struct answer *answer);

/* Where and what to call. args is taken; fds are borrowed. */
struct target {
	const char *path, *interface, *method, *signature;
};
int connection_start(struct vss_connection *c, const struct target *target, json_t *args, const int *fds, size_t n_fds,
		     uint64_t limit_usec, struct answer *answer, struct vss_failure *error);
/* Waits until ready(data). Fails when cancelled, when the bus is lost, when vssd has not answered a ping for 10 s, or
 * at the deadline (WAIT_DEADLINE, which leaves the error alone: what it means is the caller's to say). */
enum wait_result { WAIT_DONE = 0, WAIT_FAILED = -1, WAIT_DEADLINE = 1 };
enum wait_result connection_wait(struct vss_connection *c, bool (*ready)(const void *), const void *data,
				 uint64_t deadline, struct vss_failure *error);
/* Start, wait, and -1 with the error if the answer is one. The answer is for the caller to clear in either case. */
int connection_call(struct vss_connection *c, const struct target *target, json_t *args, uint64_t limit_usec,
		    struct answer *answer, struct vss_failure *error);
/* Waits for a call that was started. */
int connection_finish(struct vss_connection *c, struct answer *answer, struct vss_failure *error);
/* Waits until a vssd that went away is back (started by the bus where that is set up), at most OWNER_USEC. */
int connection_await_vssd(struct vss_connection *c, struct vss_failure *error);
/* Forgets a vss_cancel that nobody has noticed. */
void connection_uncancel(struct vss_connection *c);

/* ---- errors ---- */

int fail(struct vss_failure *error, enum vss_error code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int fail_from(struct vss_failure *error, const struct err *err);
/* The error in an answer; what says which call it was. */
int fail_from_answer(struct vss_failure *error, const struct answer *answer);
/* The result of a long method, as in docs/protocol.md: 0 if it says Success. */
int fail_from_result(struct vss_failure *error, json_t *result);
