/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each state begins when it is entered, and how operations end: with a result for the requestor. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/session-channel.h"
#include "coordinator/session-internal.h"

/* ---- results ---- */

static json_t *error_result(const struct err *err)
{
	return json_pack("{sb ss sI ss sb}", "Success", 0, "Error", error_name(err->code), "Code",
			 (json_int_t)error_code(err->code), "Message", err->text, "Retryable",
			 error_is_retryable(err->code));
}

static bool is_member_path(const struct session *s, json_t *path)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (json_equal(json_object_get(s->members[i].volume, "Path"), path))
			return true;
	return false;
}

json_t *session_not_included(const struct session *s)
{
	json_t *paths = json_array(), *row;
	size_t i, j;

	for (i = 0; i < s->n_members; i++)
		json_array_foreach(s->members[i].below, j, row)
			if (!is_member_path(s, json_object_get(row, "Path")))
				json_array_append(paths, json_object_get(row, "Path"));
	return paths;
}

static json_t *set_result(const struct session *s)
{
	json_t *result = json_pack("{sb ss so sO so sI sO}", "Success", 1, "Set", s->set, "Shadows", copies_rows(s),
				   "Warnings", s->warnings, "NotIncluded", session_not_included(s), "HoldUsec",
				   (json_int_t)s->hold, "Attempts", s->attempts);

	json_object_update_new(result, plan_label(s));
	if (window_is_needed(s))
		json_object_set_new(result, "WritesHeldUsec", json_integer((json_int_t)s->writes_held));
	return result;
}

/* Who is still, and what is not as it should be. */
static json_t *held_result(const struct session *s)
{
	json_t *result = json_pack("{sb ss sI so sO sO}", "Success", 1, "Set", s->set, "HoldLeftUsec",
				   (json_int_t)(s->hold_deadline - clock_now()), "Writers", session_participant_rows(s),
				   "Doubts", s->doubts, "Warnings", s->warnings);
	uint64_t freeze = 0;

	if (s->options.hold != HOLD_VOLUMES)
		return result;
	json_object_set_new(result, "Volumes", hold_rows(s, &freeze));
	json_object_set_new(result, "FreezeUsec", json_integer((json_int_t)freeze));
	return result;
}

static json_t *released_result(const struct session *s)
{
	return json_pack("{sb ss sI so sO sO}", "Success", 1, "Set", s->set, "HoldUsec", (json_int_t)s->hold, "Writers",
			 session_participant_rows(s), "Doubts", s->doubts, "Warnings", s->warnings);
}

/* Ends the requestor's operation, if one is under way. result is taken. */
static void finish(struct session *s, json_t *result)
{
	if (!*s->operation) {
		json_decref(result);
		return;
	}
	memcpy(s->last_operation, s->operation, sizeof s->last_operation);
	s->operation[0] = '\0';
	s->want_snapshot = false;
	json_decref(s->last_result);
	s->last_result = result;
	session_save(s);
	session_channel_tell(s, s->last_operation, result);
	s->context->listener.finished(s, s->last_operation, result, s->context->listener.data);
}

void session_finish(struct session *s, const struct err *err, json_t *more)
{
	autojson json_t *owned = more;
	json_t *result = err->code ? error_result(err) : json_pack("{sb}", "Success", 1);

	json_object_update(result, owned);
	finish(s, result);
}

static void finish_failed(struct session *s)
{
	json_t *result = error_result(&s->error);

	json_object_set(result, "Attempts", s->attempts);
	json_object_set(result, "Warnings", s->warnings);
	finish(s, result);
}

static void record_attempt(struct session *s, const struct err *err)
{
	json_array_append_new(s->attempts, json_pack("{sI ss ss}", "Number", (json_int_t)s->attempt, "Error",
						     error_name(err->code), "Message", err->text));
}

/* ---- waiting for others ---- */

static void begin_attempt(struct session *s)
{
	s->error = (struct err){ 0 };
	s->first_freeze = s->hold = s->writes_held = 0;
	s->hold_deadline = USEC_INFINITY;
	s->clean = true;
	s->began = clock_now();
	json_array_clear(s->timeline);
	json_array_clear(s->doubts);
	json_array_clear(s->warnings);
	id_new(s->set);
	for (size_t i = 0; i < s->n_members; i++)
		id_new(s->members[i].copy);
}

static void lock_granted(void *data)
{
	session_post(data, SESSION_EVENT_DONE);
}

static json_t *lock_holder(const struct session *s)
{
	return json_pack("{ss sI sI ss sI}", "Session", s->id, "Uid", (json_int_t)s->uid, "Pid", (json_int_t)s->pid,
			 "Command", s->options.command, "Since", (json_int_t)s->created);
}

static void wait_for(struct session *s, struct lock **lock, json_t *domains)
{
	autojson json_t *owned = domains;

	*lock = locks_request(s->context->locks, owned, lock_holder(s), lock_granted, s);
	if (*lock && lock_is_granted(*lock))
		session_post(s, SESSION_EVENT_DONE);
	else if (!*lock || s->options.wait == 0)
		session_post(s, SESSION_EVENT_EXPIRED);
}

static void release_locks(struct session *s)
{
	s->writer_lock = lock_release(s->writer_lock);
	s->lock = lock_release(s->lock);
}

json_t *session_waiting_for(const struct session *s)
{
	if (s->writer_lock && !lock_is_granted(s->writer_lock))
		return lock_waits_for(s->writer_lock);
	if (s->lock && !lock_is_granted(s->lock))
		return lock_waits_for(s->lock);
	return json_array();
}

static void waited_too_long(struct session *s)
{
	autojson json_t *others = session_waiting_for(s);
	json_t *other = json_array_get(others, 0);

	if (s->error.code)
		return;
	err_set(&s->error, VSS_E_SNAPSHOT_SET_IN_PROGRESS,
		"Session %s (pid %" JSON_INTEGER_FORMAT "%s%s) is creating a set that shares %s with this one: wait for it, or end it with vssctl abort",
		json_string_value(json_object_get(other, "Session")) ?: "?",
		json_integer_value(json_object_get(other, "Pid")),
		json_string_length(json_object_get(other, "Command")) ? ", " : "",
		json_string_value(json_object_get(other, "Command")) ?: "",
		json_string_value(json_object_get(other, "Domain")) ?: "something");
}

/* ---- why a state was left ---- */

/* What expired has no error of its own yet. */
void session_explain_expiry(struct session *s)
{
	if (s->error.code)
		return;
	if (s->state == SESSION_WAITING || s->state == SESSION_WAITING_FOR_WRITERS)
		waited_too_long(s);
	else if (s->state == SESSION_HOLDING)
		err_set(&s->error, VSS_E_HOLD_WRITES_TIMEOUT,
			"Release did not come within the time for which the writers can be held: they run again");
	else if (s->state >= SESSION_FREEZING_FRONT_END && s->state <= SESSION_CUTTING)
		err_set(&s->error, VSS_E_HOLD_WRITES_TIMEOUT,
			"The writers were held for as long as they bear it and the copies were not made (phase %s)",
			session_state_name(s->state));
	else if (s->state == SESSION_PREPARED)
		err_set(&s->error, VSS_E_TIMED_OUT,
			"The requestor prepared the backup and did not go on within a minute, while others wait");
	else
		err_set(&s->error, VSS_E_TIMED_OUT, "The phase %s took longer than its limit",
			session_state_name(s->state));
}

void session_explain_cancel(struct session *s)
{
	if (!s->error.code)
		err_set(&s->error, VSS_E_CANCELLED, "The session was ended in the phase %s",
			session_state_name(s->state));
}

/* ---- states ---- */

static void enter_failed(struct session *s)
{
	record_attempt(s, &s->error);
	release_locks(s);
	finish_failed(s);
	if (s->closing)
		session_post(s, SESSION_EVENT_CANCEL);
}

static void enter_created(struct session *s)
{
	release_locks(s);
	copies_close_fds(s);
	record_attempt(s, &(struct err){ 0 });
	finish(s, s->options.hold ? released_result(s) : set_result(s));
	if (s->closing)
		session_post(s, SESSION_EVENT_CANCEL);
}

static void enter_completed(struct session *s)
{
	json_t *result = json_pack("{sb}", "Success", 1);

	for (size_t i = 0; i < s->n_participants; i++) {
		const struct participant *p = &s->participants[i];
		struct err err = { 0 };
		if (!p->error || p->failed_at != WRITER_EVENT_BACKUP_COMPLETE)
			continue;
		err_set(&err, p->error, "Writer '%s' failed at BackupComplete: %s%s%s", p->writer->name,
			error_text(p->error), *p->message ? ": " : "", p->message);
		json_decref(result);
		result = error_result(&err);
		break;
	}
	finish(s, result);
}

static void enter_closing(struct session *s)
{
	release_locks(s);
	session_explain_cancel(s);
	finish_failed(s);
	s->outstanding++; /* until both have begun */
	restore_abandon(s);
	writers_shutdown(s);
	copies_remove(s);
	s->outstanding--;
	participants_done(s);
}

static void enter_preparing(struct session *s)
{
	s->outstanding++; /* until both have begun */
	copies_prepare(s);
	writers_send(s, WRITER_EVENT_PREPARE_SNAPSHOT);
	s->outstanding--;
	participants_done(s);
}

static void enter_opening(struct session *s)
{
	s->hold = s->first_freeze ? clock_now() - s->first_freeze : 0;
	s->hold_deadline = USEC_INFINITY;
	copies_open(s);
}

static void enter_idle(struct session *s)
{
	plan_forget(s);
	finish(s, s->error.code ? error_result(&s->error) : json_pack("{sb}", "Success", 1));
	s->error = (struct err){ 0 };
}

static void enter_waiting(struct session *s)
{
	begin_attempt(s);
	s->n_locked = s->n_members;
	wait_for(s, &s->lock, plan_storage_domains(s));
}

static void enter_waiting_for_writers(struct session *s)
{
	wait_for(s, &s->writer_lock, plan_late_domains(s));
}

static void enter_preparing_backup(struct session *s)
{
	writers_send(s, WRITER_EVENT_PREPARE_BACKUP);
}

static void enter_prepared(struct session *s)
{
	if (s->want_snapshot)
		session_post(s, SESSION_EVENT_SNAPSHOT);
	else
		finish(s, json_pack("{sb}", "Success", 1));
}

static void enter_flushing(struct session *s)
{
	if (s->options.hold == HOLD_VOLUMES)
		hold_open(s);
	else
		copies_flush(s);
}

static void freeze_front_end(struct session *s)
{
	writers_freeze_level(s, WRITER_LEVEL_FRONT_END);
}

static void freeze_back_end(struct session *s)
{
	writers_freeze_level(s, WRITER_LEVEL_BACK_END);
}

static void freeze_system(struct session *s)
{
	writers_freeze_level(s, WRITER_LEVEL_SYSTEM);
}

/* Somebody else makes the copies, while all is still. */
static void enter_cutting(struct session *s)
{
	if (!s->options.hold)
		copies_cut(s);
	else if (s->options.hold == HOLD_WRITERS)
		session_post(s, SESSION_EVENT_HOLD);
	else
		hold_begin(s);
}

/* The requestor's wish counts from the first Freeze, as the writers' limits do. */
static void enter_holding(struct session *s)
{
	uint64_t limit = s->options.hold_limit ? s->options.hold_limit : s->context->config->freeze;
	uint64_t end = (s->first_freeze ? s->first_freeze : clock_now()) + limit;

	if (end < s->hold_deadline)
		s->hold_deadline = end;
	finish(s, held_result(s));
}

static void thaw_system(struct session *s)
{
	writers_thaw_level(s, WRITER_LEVEL_SYSTEM);
}

static void thaw_back_end(struct session *s)
{
	writers_thaw_level(s, WRITER_LEVEL_BACK_END);
}

static void thaw_front_end(struct session *s)
{
	writers_thaw_level(s, WRITER_LEVEL_FRONT_END);
}

static void enter_completing(struct session *s)
{
	writers_send(s, WRITER_EVENT_BACKUP_COMPLETE);
}

static void enter_retrying(struct session *s)
{
	record_attempt(s, &s->error);
	release_locks(s);
	session_renew_wait(s);
	s->attempt++;
}

static void (*const works[SESSION_STATE_COUNT])(struct session *s) = {
	[SESSION_IDLE] = enter_idle,
	[SESSION_GATHERING] = writers_identify,
	[SESSION_WAITING] = enter_waiting,
	[SESSION_IDENTIFYING] = writers_identify,
	[SESSION_PLANNING] = plan_start,
	[SESSION_WAITING_FOR_WRITERS] = enter_waiting_for_writers,
	[SESSION_PREPARING_BACKUP] = enter_preparing_backup,
	[SESSION_PREPARED] = enter_prepared,
	[SESSION_PREPARING] = enter_preparing,
	[SESSION_FLUSHING] = enter_flushing,
	[SESSION_FREEZING_FRONT_END] = freeze_front_end,
	[SESSION_FREEZING_BACK_END] = freeze_back_end,
	[SESSION_FREEZING_SYSTEM] = freeze_system,
	[SESSION_CUTTING] = enter_cutting,
	[SESSION_HOLDING] = enter_holding,
	[SESSION_THAWING_SYSTEM] = thaw_system,
	[SESSION_THAWING_BACK_END] = thaw_back_end,
	[SESSION_THAWING_FRONT_END] = thaw_front_end,
	[SESSION_OPENING] = enter_opening,
	[SESSION_POST_SNAPSHOT] = writers_post_snapshot,
	[SESSION_SEALING] = copies_seal,
	[SESSION_CREATED] = enter_created,
	[SESSION_COMPLETING] = enter_completing,
	[SESSION_COMPLETED] = enter_completed,
	[SESSION_ABORTING_WRITERS] = writers_abort,
	[SESSION_ABORTING_COPIES] = copies_abort,
	[SESSION_RETRYING] = enter_retrying,
	[SESSION_FAILED] = enter_failed,
	[SESSION_CLOSING] = enter_closing,
	[SESSION_CLOSED] = NULL, /* nothing is left to do */
};

void session_begin_work(struct session *s)
{
	if (works[s->state])
		works[s->state](s);
}
