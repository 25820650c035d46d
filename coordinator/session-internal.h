/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between session.c and its stages. */
#pragma once

#include "coordinator/session.h"

/* The one way on: queues the event; it is handled when the caller's turn ends. */
void session_post(struct session *session, enum session_event event);
/* Records the attempt's first failure (later ones only in the timeline) and posts FAIL. */
void session_fail(struct session *session, const struct err *err);
void session_timeline(struct session *session, const char *phase, const char *writer, uint64_t begin, uint64_t end,
		      const char *outcome);
void session_save(struct session *session);
/* Paths below members that are no members themselves: what the set does not hold. */
json_t *session_not_included(const struct session *session);

/* Ends the requestor's operation. more (taken): members of the result besides Success or the error. */
void session_finish(struct session *session, const struct err *err, json_t *more);

/* session-work.c: begins the state's work; fills in the error where a state was left without one. */
void session_begin_work(struct session *session);
void session_explain_expiry(struct session *session);
void session_explain_cancel(struct session *session);

/* plan.c: who takes part, and why the set is less than the best. */
void plan_start(struct session *session);
void plan_resolve(struct session *session); /* the second half of plan_start */
void plan_forget(struct session *session);
/* The finished set's word on itself: {"Consistency", "ConsistencyReason", "Instant", "InstantReason"}. */
json_t *plan_label(const struct session *session);
void plan_doubt(struct session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));
json_t *plan_storage_domains(const struct session *session); /* what the members share with other sets */
/* The writers that take part, and what volumes that the plan has added share. */
json_t *plan_late_domains(const struct session *session);

/* plan-storage.c: the rules that concern the volumes as such; where the copies' stores go, and what has to make room for them.
 * plan_storage ends the planning, with DONE or FAIL. */
int plan_check_volumes(const struct session *session, struct err *err);
void plan_storage(struct session *session);

/* plan-activation.c: expected writers that are not running and can be started by the bus. False: there are none, or
 * nobody can start them; else plan_resolve is called when they are there, have failed, or have had their time. */
bool activation_start(struct session *session);
void activation_end(struct session *session);

/* session-writers.c: events to writers. */
void writers_identify(struct session *session);
void writers_send(struct session *session, enum writer_event event);
/* Whether there is anybody to whom that would be sent. */
bool writers_hear(const struct session *session, enum writer_event event);
void writers_freeze_level(struct session *session, enum writer_level level);
void writers_thaw_level(struct session *session, enum writer_level level);
void writers_post_snapshot(struct session *session);
void writers_abort(struct session *session);
void writers_shutdown(struct session *session);
void writers_forget_calls(struct session *session);
bool participant_is_live(const struct participant *participant); /* takes part and has not failed */
void participants_done(struct session *session);
bool event_can_fail_set(enum writer_event event);

/* session-remarks.c: what an answer carries besides the answer. */
void remarks_keep(struct participant *participant, json_t *answer);
/* Adds a row to the participant's checklist; takes the values. */
void remarks_check(struct participant *participant, json_t *object, json_t *check, const char *verdict, json_t *text);

/* The descriptors of a request, which names them by number. */
struct fd_slots {
	int fds[SESSION_MEMBERS_MAX * 2];
	size_t n;
};

/* session-copies.c: work on the copies. */
void copies_prepare(struct session *session);
void copies_flush(struct session *session);
void copies_cut(struct session *session);
void copies_open(struct session *session);
void copies_seal(struct session *session);
void copies_abort(struct session *session);
void copies_remove(struct session *session);
bool copies_remain(const struct session *session); /* volatile ones that the session's end should have removed */
void copies_close_fds(struct session *session);
json_t *copies_rows(const struct session *session); /* as ListShadows, of this set */
/* A member as a provider's op is asked about it; descriptors go into slots. */
json_t *copies_member_row(struct session *session, struct member *member, struct fd_slots *slots);

/* session-window.c: the cut of a set that has to be held. It goes on with DONE or FAIL. */
bool window_is_needed(const struct session *session);
void window_cut(struct session *session);
/* Nothing stays held, locked or open, whatever has been reached. */
void window_end(struct session *session);

/* session-hold.c: volumes that are held and not copied. */
int hold_check(const struct session *session, struct err *err);
void hold_open(struct session *session);    /* Flushing */
void hold_begin(struct session *session);   /* Cutting; goes on with HOLD or FAIL */
void hold_release(struct session *session); /* Holding; goes on with RELEASE or FAIL */
bool hold_goes_on(const struct session *session, enum session_state next);
void hold_forget(struct session *session, enum session_state next);
/* {"Path", "FrozenUsec"} each; *ret_usec: from the first freeze's beginning to the last one's end. */
json_t *hold_rows(const struct session *session, uint64_t *ret_usec);

/* session-jobs.c: an op of all the set's providers. */
struct copies_op {
	const char *name;
	bool patient; /* whatever becomes of one job, the others are waited for */
	/* The member's row in the request, without what is null; NULL: the op does not concern it. */
	json_t *(*ask)(struct session *session, struct member *member, struct fd_slots *slots);
	/* Nullable: what the answer says of a member, and beside its "Members". -1: it does not fit. */
	int (*take)(struct session *session, struct member *member, json_t *row, int *fds, size_t n_fds);
	int (*take_whole)(struct session *session, json_t *answer, int *fds, size_t n_fds);
	void (*done)(struct session *session, const struct err *err);
};

void copies_run(struct session *session, const struct copies_op *op, uint64_t deadline);
void copies_cancel(struct session *session); /* ends all jobs; done does not run */
bool copies_are_busy(const struct session *session); /* with an op, or the window */
const struct role_info *member_role(const struct member *member);
/* fd as the number that a request names it by; null for -1. */
json_t *fd_slot(struct fd_slots *slots, int fd);
/* The descriptor that a row of an answer names, taken from fds; -1: none. */
int answer_fd(json_t *row, const char *name, int *fds, size_t n_fds);

/* session-restore.c: a restore that nobody has ended is told to the writers as failed. */
void restore_abandon(struct session *session);

/* session-store.c */
json_t *session_to_json(const struct session *session);
int session_from_json(struct session *session, json_t *stored, struct err *err);

struct session *session_alloc(struct session_context *context);
struct session *session_free(struct session *session);
void session_link(struct session *session);
void session_arm_lease(struct session *session);
/* How long the session queues behind other sets, from now. */
void session_renew_wait(struct session *session);
