/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/catalogue.h"
#include "coordinator/log.h"
#include "coordinator/session-internal.h"

#define TIMELINE_MAX 2000

/* ---- making and ending ---- */

static void options_done(struct session_options *options)
{
	json_decref(options->require);
	json_decref(options->exclude);
	json_decref(options->include);
}

static bool may_be_frozen(enum session_state state)
{
	return (state >= SESSION_FREEZING_FRONT_END && state <= SESSION_THAWING_FRONT_END) ||
	       state == SESSION_ABORTING_WRITERS;
}

static void hold_senders(struct session *s, enum session_state next)
{
	if (may_be_frozen(next) && !s->holds_senders)
		fanout_hold(s->context->fanout);
	if (!may_be_frozen(next) && s->holds_senders)
		fanout_release(s->context->fanout);
	s->holds_senders = may_be_frozen(next);
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	s->dispatching = true; /* nothing that ends below may move the state */
	hold_senders(s, SESSION_CLOSED);
	writers_forget_calls(s);
	copies_cancel(s);
	copies_close_fds(s);
	lock_release(s->writer_lock);
	lock_release(s->lock);
	activation_end(s);
	plan_forget(s);
	for (size_t i = 0; i < s->n_members; i++) {
		json_decref(s->members[i].volume);
		json_decref(s->members[i].below);
		json_decref(s->members[i].cut);
		json_decref(s->records[i]);
	}
	for (json_t **v = (json_t *[]){ s->selected, s->doubts, s->warnings, s->last_result, s->attempts, s->timeline,
					s->failed_components, NULL };
	     *v; v++)
		json_decref(*v);
	options_done(&s->options);
	sd_event_source_disable_unref(s->timer);
	sd_event_source_disable_unref(s->lease);
	free(s->owner);
	free(s);
	return NULL;
}

struct session *session_alloc(struct session_context *context)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->context = context;
	s->state = SESSION_IDLE;
	s->hold_deadline = USEC_INFINITY;
	s->clean = true;
	s->succeeded = true;
	s->attempt = 1;
	s->began = s->state_began = clock_now();
	s->created = clock_usec(CLOCK_REALTIME) / USEC_PER_SEC;
	s->selected = json_array();
	s->doubts = json_array();
	s->warnings = json_array();
	s->last_result = json_object();
	s->attempts = json_array();
	s->timeline = json_array();
	s->failed_components = json_array();
	return s;
}

void session_link(struct session *s)
{
	s->next = s->context->sessions;
	s->context->sessions = s;
	s->context->n_sessions++;
}

static void unlink_session(struct session *s)
{
	for (struct session **link = &s->context->sessions; *link; link = &(*link)->next) {
		if (*link != s)
			continue;
		*link = s->next;
		s->context->n_sessions--;
		return;
	}
}

/* So that no user can keep all others, and root least of all, from backing up. */
static int check_share(const struct session_context *context, uid_t uid, struct err *err)
{
	size_t own = 0, share = (context->config->max_sessions + 3) / 4;

	for (const struct session *s = context->sessions; s; s = s->next)
		own += s->uid == uid;
	if (uid == 0 || own < share)
		return 0;
	return err_set(err, VSS_E_LIMITS_EXCEEDED, "User %u has %zu sessions, as many as a user other than root may have",
		       (unsigned)uid, own);
}

int session_new(struct session **ret, struct session_context *context, const struct session_options *options,
		const char *owner, uid_t uid, pid_t pid, struct err *err)
{
	struct session_options taken = *options;
	struct session *s;

	if (context->n_sessions >= context->config->max_sessions) {
		options_done(&taken);
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "There are %zu sessions, as many as may be (MaxSessions in vssd.conf)",
			       context->n_sessions);
	}
	if (check_share(context, uid, err) < 0) {
		options_done(&taken);
		return -1;
	}
	s = session_alloc(context);
	if (!s || !(s->owner = strdup(owner))) {
		options_done(&taken);
		session_free(s);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	}
	s->options = taken;
	s->uid = uid;
	s->pid = pid;
	id_new(s->id);
	id_new(s->set);
	session_link(s);
	log_info("session %s: opened by %s, uid %u, pid %d%s%s", s->id, owner, (unsigned)uid, (int)pid,
		 *s->options.command ? ": " : "", s->options.command);
	*ret = s;
	return 0;
}

struct session *session_find(const struct session_context *context, const char *id)
{
	for (struct session *s = context->sessions; s; s = s->next)
		if (strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

void sessions_free(struct session_context *context)
{
	/* One's end gives its locks to another, which must not begin its set now. */
	for (struct session *s = context->sessions; s; s = s->next)
		s->dispatching = true;
	while (context->sessions) {
		struct session *s = context->sessions;
		unlink_session(s);
		session_free(s);
	}
}

/* ---- bookkeeping ---- */

void session_timeline(struct session *s, const char *phase, const char *writer, uint64_t begin, uint64_t end,
		      const char *outcome)
{
	if (json_array_size(s->timeline) >= TIMELINE_MAX)
		return;
	json_array_append_new(s->timeline, json_pack("{ss ss sI sI ss}", "Phase", phase, "Writer", writer, "BeginUsec",
						     (json_int_t)(begin - s->began), "EndUsec",
						     (json_int_t)(end - s->began), "Outcome", outcome));
}

void session_fail(struct session *s, const struct err *err)
{
	if (!s->error.code) {
		s->error = *err;
		log_notice("session %s: %s", s->id, err->text);
	}
	session_post(s, SESSION_EVENT_FAIL);
}

void session_save(struct session *s)
{
	autojson json_t *value = NULL;
	struct err err = { 0 };

	if (!s->context->store)
		return;
	s->saved = true;
	value = session_to_json(s);
	if (state_store_put(s->context->store, s->id, value, &err) < 0)
		log_warning("session %s: %s; a restart of vssd would end it", s->id, err.text);
}

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
	return result;
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
	s->context->listener.finished(s, s->last_operation, result, s->context->listener.data);
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

/* A set is repeated only if nothing that failed in it would fail again by itself. */
static bool should_retry(const struct session *s)
{
	if (s->closing || s->attempt > s->options.retries || !error_is_retryable(s->error.code))
		return false;
	for (size_t i = 0; i < s->n_participants; i++)
		if (s->participants[i].error && !error_is_retryable(s->participants[i].error))
			return false;
	return true;
}

static void begin_attempt(struct session *s)
{
	s->error = (struct err){ 0 };
	s->first_freeze = s->hold = 0;
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

/* ---- waiting for others ---- */

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

/* ---- states ---- */

static int timer_fired(sd_event_source *source, uint64_t usec, void *data)
{
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	session_post(data, SESSION_EVENT_EXPIRED);
	return 0;
}

/* Calls and jobs have deadlines of their own, and errors that say more: the state's timer comes after them. */
#define BACKSTOP (200 * USEC_PER_MSEC)

static uint64_t state_deadline(const struct session *s)
{
	uint64_t limit = session_state_limit(s->state, s->context->config), now = clock_now();

	if (s->state == SESSION_WAITING || s->state == SESSION_WAITING_FOR_WRITERS)
		return s->wait_deadline;
	/* While writers hold, the hold's budget is the state's limit; that each event has its own does not bind it. */
	if (s->state >= SESSION_FREEZING_FRONT_END && s->state <= SESSION_CUTTING && s->hold_deadline != USEC_INFINITY)
		return s->hold_deadline + BACKSTOP;
	return limit == USEC_INFINITY ? USEC_INFINITY : now + limit + BACKSTOP;
}

static void arm_timer(struct session *s, uint64_t deadline)
{
	if (deadline == USEC_INFINITY) {
		if (s->timer)
			sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
		return;
	}
	if (!s->timer) {
		sd_event_add_time(s->context->event, &s->timer, CLOCK_MONOTONIC, deadline, 1000, timer_fired, s);
		return;
	}
	sd_event_source_set_time(s->timer, deadline);
	sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

/* What expired has no error of its own yet. */
static void explain_expiry(struct session *s)
{
	if (s->error.code)
		return;
	if (s->state == SESSION_WAITING || s->state == SESSION_WAITING_FOR_WRITERS)
		waited_too_long(s);
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

static void explain_cancel(struct session *s)
{
	if (!s->error.code)
		err_set(&s->error, VSS_E_CANCELLED, "The session was ended in the phase %s",
			session_state_name(s->state));
}

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
	finish(s, set_result(s));
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
	explain_cancel(s);
	finish_failed(s);
	s->outstanding++; /* until both have begun */
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

static void do_state_work(struct session *s)
{
	switch (s->state) {
	case SESSION_NONE:
	case SESSION_STATE_COUNT:
	case SESSION_CLOSED:
		break;
	case SESSION_IDLE:
		plan_forget(s);
		finish(s, s->error.code ? error_result(&s->error) : json_pack("{sb}", "Success", 1));
		s->error = (struct err){ 0 };
		break;
	case SESSION_GATHERING:
	case SESSION_IDENTIFYING:
		writers_identify(s);
		break;
	case SESSION_WAITING:
		begin_attempt(s);
		s->n_locked = s->n_members;
		wait_for(s, &s->lock, plan_storage_domains(s));
		break;
	case SESSION_PLANNING:
		plan_start(s);
		break;
	case SESSION_WAITING_FOR_WRITERS:
		wait_for(s, &s->writer_lock, plan_late_domains(s));
		break;
	case SESSION_PREPARING_BACKUP:
		writers_send(s, WRITER_EVENT_PREPARE_BACKUP);
		break;
	case SESSION_PREPARED:
		if (s->want_snapshot)
			session_post(s, SESSION_EVENT_SNAPSHOT);
		else
			finish(s, json_pack("{sb}", "Success", 1));
		break;
	case SESSION_PREPARING:
		enter_preparing(s);
		break;
	case SESSION_FLUSHING:
		copies_flush(s);
		break;
	case SESSION_FREEZING_FRONT_END:
		writers_freeze_level(s, WRITER_LEVEL_FRONT_END);
		break;
	case SESSION_FREEZING_BACK_END:
		writers_freeze_level(s, WRITER_LEVEL_BACK_END);
		break;
	case SESSION_FREEZING_SYSTEM:
		writers_freeze_level(s, WRITER_LEVEL_SYSTEM);
		break;
	case SESSION_CUTTING:
		copies_cut(s);
		break;
	case SESSION_THAWING_SYSTEM:
		writers_thaw_level(s, WRITER_LEVEL_SYSTEM);
		break;
	case SESSION_THAWING_BACK_END:
		writers_thaw_level(s, WRITER_LEVEL_BACK_END);
		break;
	case SESSION_THAWING_FRONT_END:
		writers_thaw_level(s, WRITER_LEVEL_FRONT_END);
		break;
	case SESSION_OPENING:
		enter_opening(s);
		break;
	case SESSION_POST_SNAPSHOT:
		writers_post_snapshot(s);
		break;
	case SESSION_SEALING:
		copies_seal(s);
		break;
	case SESSION_CREATED:
		enter_created(s);
		break;
	case SESSION_COMPLETING:
		writers_send(s, WRITER_EVENT_BACKUP_COMPLETE);
		break;
	case SESSION_COMPLETED:
		enter_completed(s);
		break;
	case SESSION_ABORTING_WRITERS:
		writers_abort(s);
		break;
	case SESSION_ABORTING_COPIES:
		copies_abort(s);
		break;
	case SESSION_RETRYING:
		record_attempt(s, &s->error);
		release_locks(s);
		session_renew_wait(s);
		s->attempt++;
		break;
	case SESSION_FAILED:
		enter_failed(s);
		break;
	case SESSION_CLOSING:
		enter_closing(s);
		break;
	}
}

/* A slow thaw goes on while the next level is thawed; any other state ends what the one before it left under way. */
static bool keeps_calls(enum session_state next)
{
	return next == SESSION_THAWING_BACK_END || next == SESSION_THAWING_FRONT_END;
}

/* What the former state has left in the queue means nothing in the next one, unless it is the end of all. */
static void forget_queued(struct session *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->queued; i++)
		if (s->queue[i] == SESSION_EVENT_FAIL || s->queue[i] == SESSION_EVENT_CANCEL)
			s->queue[kept++] = s->queue[i];
	s->queued = kept;
}

/* The one function that changes the state. */
static void enter(struct session *s, enum session_state next, enum session_event event)
{
	uint64_t now = clock_now();

	if (session_state_is_creating(next) || session_state_is_creating(s->state))
		session_timeline(s, session_state_name(s->state), "", s->state_began, now, session_event_name(event));
	log_line(LOG_LEVEL_DEBUG, "session %s: %s -> %s (%s, after %llu us)", s->id, session_state_name(s->state),
		 session_state_name(next), session_event_name(event), (unsigned long long)(now - s->state_began));
	if (event == SESSION_EVENT_EXPIRED && next != SESSION_WAITING && !keeps_calls(next))
		explain_expiry(s);
	if (event == SESSION_EVENT_CANCEL)
		explain_cancel(s);
	if (!keeps_calls(next)) {
		activation_end(s);
		writers_forget_calls(s);
		copies_cancel(s);
	}
	hold_senders(s, next);
	forget_queued(s);
	s->state = next;
	s->state_began = now;
	s->saved = false;
	arm_timer(s, state_deadline(s));
	do_state_work(s);
	/* The hold's budget begins with the first Freeze that the state's work has sent. */
	if (s->state == next && next >= SESSION_FREEZING_FRONT_END && next <= SESSION_CUTTING)
		arm_timer(s, state_deadline(s));
}

static void handle(struct session *s, enum session_event event)
{
	enum session_state next;

	if (s->state == SESSION_ABORTING_COPIES && event == SESSION_EVENT_DONE && should_retry(s))
		event = SESSION_EVENT_RETRY;
	next = session_next(s->state, event);
	if (next != SESSION_NONE)
		enter(s, next, event);
}

/* A set that is being created is undone as a whole after a restart: what that needs is saved when it begins (who has been
 * told, which copies may be half made), and not again while writers are held, a thousand perhaps. */
static bool needs_saving(const struct session *s)
{
	return !s->saved && !session_state_holds_writers(s->state) && s->state != SESSION_SEALING;
}

static void settle(struct session *s)
{
	struct session_context *context = s->context;

	context->listener.state_changed(s, context->listener.data);
	if (s->state != SESSION_CLOSED) {
		if (needs_saving(s))
			session_save(s);
		return;
	}
	if (s->removing > 0)
		return; /* freed when the last removal has ended */
	log_info("session %s: closed", s->id);
	state_store_remove(context->store, s->id);
	context->listener.closed(s, context->listener.data);
	unlink_session(s);
	session_free(s);
}

static void drain(struct session *s)
{
	while (s->queued > 0) {
		enum session_event first = s->queue[0];
		memmove(s->queue, s->queue + 1, --s->queued * sizeof *s->queue);
		handle(s, first);
	}
	s->dispatching = false;
	settle(s);
}

/* Each event is in the queue once at most, so that there is room for all. */
static void queue_event(struct session *s, enum session_event event)
{
	for (size_t i = 0; i < s->queued; i++)
		if (s->queue[i] == event)
			return;
	s->queue[s->queued++] = event;
}

void session_post(struct session *s, enum session_event event)
{
	queue_event(s, event);
	if (s->dispatching)
		return;
	s->dispatching = true;
	drain(s);
}

/* ---- after a restart ---- */

/* What was being created when vssd ended cannot be finished; the rest goes on. */
void session_resume(struct session *s, bool owner_lives)
{
	if (s->lease_until && !s->owner)
		session_arm_lease(s);
	if (!owner_lives)
		s->closing = true;
	s->dispatching = true;
	if (session_state_is_creating(s->state) || s->state == SESSION_RETRYING) {
		if (!s->error.code)
			err_set(&s->error, VSS_E_COORDINATOR_RESTARTED,
				"vssd was restarted while the set was being created (phase %s or later): no copy was made",
				session_state_name(s->state));
		enter(s, SESSION_ABORTING_WRITERS, SESSION_EVENT_FAIL);
	} else if (s->state == SESSION_IDENTIFYING || s->state == SESSION_PLANNING ||
		   s->state == SESSION_WAITING_FOR_WRITERS) {
		enter(s, SESSION_WAITING, SESSION_EVENT_FAIL); /* the locks went with the former vssd */
	} else if (s->state == SESSION_COMPLETING || s->state == SESSION_CLOSING || s->state == SESSION_WAITING ||
		   s->state == SESSION_GATHERING) {
		enter(s, s->state, SESSION_EVENT_FAIL); /* begins it anew */
	}
	if (s->closing)
		queue_event(s, SESSION_EVENT_CANCEL);
	drain(s);
}
