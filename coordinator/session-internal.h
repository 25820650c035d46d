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

/* plan-activation.c: expected writers that are not running and can be started by the bus. False: there are none, or
 * nobody can start them; else plan_resolve is called when they are there, have failed, or have had their time. */
bool activation_start(struct session *session);
void activation_end(struct session *session);

/* session-writers.c: events to writers. */
void writers_identify(struct session *session);
void writers_send(struct session *session, enum writer_event event);
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
void copies_cancel(struct session *session);
json_t *copies_rows(const struct session *session); /* as ListShadows, of this set */

/* session-store.c */
json_t *session_to_json(const struct session *session);
int session_from_json(struct session *session, json_t *stored, struct err *err);

struct session *session_alloc(struct session_context *context);
struct session *session_free(struct session *session);
void session_link(struct session *session);
void session_arm_lease(struct session *session);
/* How long the session queues behind other sets, from now. */
void session_renew_wait(struct session *session);
