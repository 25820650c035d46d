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
#include "coordinator/restore.h"
#include "coordinator/session-channel.h"
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

/* Whatever the state has under way ends with it. */
static void end_work(struct session *s, enum session_state next)
{
	activation_end(s);
	writers_forget_calls(s);
	copies_cancel(s);
	if (!hold_goes_on(s, next))
		window_end(s);
	hold_forget(s, next);
	if (s->job)
		job_cancel(steal_pointer(s->job));
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
	end_work(s, SESSION_CLOSED);
	session_channel_free(s->channel);
	restore_free(s->restore);
	copies_close_fds(s);
	lock_release(s->writer_lock);
	lock_release(s->lock);
	plan_forget(s);
	for (size_t i = 0; i < s->n_members; i++) {
		json_decref(s->members[i].volume);
		json_decref(s->members[i].below);
		json_decref(s->members[i].place);
		json_decref(s->members[i].cut);
		json_decref(s->records[i]);
	}
	for (json_t **v = (json_t *[]){ s->selected, s->silent, s->doubts, s->warnings, s->last_result, s->attempts,
					s->timeline, s->failed_components, NULL };
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
	s->silent = json_object();
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

/* ---- states ---- */

static int timer_fired(sd_event_source *source, uint64_t usec, void *data)
{
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	session_post(data, SESSION_EVENT_EXPIRED);
	return 0;
}

/* Calls and jobs have deadlines of their own, and errors that say more: the state's timer comes after them. */
#define BACKSTOP (200 * USEC_PER_MSEC)

static bool is_held(enum session_state state)
{
	return state >= SESSION_FREEZING_FRONT_END && state <= SESSION_HOLDING;
}

static uint64_t state_deadline(const struct session *s)
{
	uint64_t limit = session_state_limit(s->state, s->context->config), now = clock_now();

	if (s->state == SESSION_WAITING || s->state == SESSION_WAITING_FOR_WRITERS)
		return s->wait_deadline;
	/* While writers hold, the hold's budget is the state's limit; that each event has its own does not bind it. */
	if (is_held(s->state) && s->hold_deadline != USEC_INFINITY)
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
		session_explain_expiry(s);
	if (event == SESSION_EVENT_CANCEL)
		session_explain_cancel(s);
	if (!keeps_calls(next))
		end_work(s, next);
	hold_senders(s, next);
	forget_queued(s);
	s->state = next;
	s->state_began = now;
	s->saved = false;
	arm_timer(s, state_deadline(s));
	session_begin_work(s);
	/* The hold's budget begins with the first Freeze that the state's work has sent. */
	if (s->state == next && is_held(next))
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
	if (copies_remain(s))
		catalogue_storage_changed(context->catalogue); /* which sweeps what belongs to no session */
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
