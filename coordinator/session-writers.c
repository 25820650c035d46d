/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The writers' side of a session: an event to many, each with its own limit, all in parallel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/session-internal.h"

#define COPIES_PER_MESSAGE 16
#define OVERDUE_SLACK (100 * USEC_PER_MSEC) /* what was sent in one turn is due in one turn */

bool participant_is_live(const struct participant *p)
{
	return p->takes_part && !p->error;
}

static uint64_t event_limit(const struct session *s, enum writer_event event)
{
	const struct config *config = s->context->config;

	switch (event) {
	case WRITER_EVENT_IDENTIFY:
		return config->identify;
	case WRITER_EVENT_PREPARE_BACKUP:
		return config->prepare_backup;
	case WRITER_EVENT_PREPARE_SNAPSHOT:
		return config->prepare_snapshot;
	case WRITER_EVENT_FREEZE:
		return config->freeze;
	case WRITER_EVENT_THAW:
	case WRITER_EVENT_POST_SNAPSHOT:
	case WRITER_EVENT_BACKUP_COMPLETE:
	case WRITER_EVENT_BACKUP_SHUTDOWN:
	case WRITER_EVENT_ABORT:
	case WRITER_EVENT_PRE_RESTORE:
	case WRITER_EVENT_POST_RESTORE:
	case WRITER_EVENT_COUNT:
		break;
	}
	return config->event;
}

/* ---- what a writer is told ---- */

static json_t *event_volumes(const struct participant *p, size_t first_copy, size_t *ret_n_fds, int *fds)
{
	const struct session *s = p->session;
	json_t *volumes = json_array();
	size_t copies = 0;

	*ret_n_fds = 0;
	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = &s->members[i];
		if (!(p->members & (UINT64_C(1) << i)))
			continue;
		json_t *row = json_pack("{sO sO sI}", "Path", json_object_get(m->volume, "Path"), "Id",
					json_object_get(m->volume, "Id"), "InstantGroup", (json_int_t)m->instant_group);
		if (fds && m->directory >= 0) {
			if (copies >= first_copy && *ret_n_fds < COPIES_PER_MESSAGE) {
				json_object_set_new(row, "Copy", json_pack("{si}", "$fd", (int)*ret_n_fds));
				fds[(*ret_n_fds)++] = m->directory;
			}
			copies++;
		}
		json_array_append_new(volumes, row);
	}
	return volumes;
}

static size_t participant_copies(const struct participant *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->session->n_members; i++)
		n += (p->members & (UINT64_C(1) << i)) && p->session->members[i].directory >= 0;
	return n;
}

static json_t *event_options(struct participant *p, enum writer_event event, size_t *ret_n_fds, int *fds)
{
	const struct session *s = p->session;
	bool copies = event == WRITER_EVENT_POST_SNAPSHOT;
	json_t *options = json_pack("{ss sb so sO}", "BackupType", s->options.backup_type, "Persistent",
				    s->options.persistent, "Volumes",
				    event_volumes(p, p->copies_sent, ret_n_fds, copies ? fds : NULL), "Components",
				    p->components);

	if (copies) {
		p->copies_sent += *ret_n_fds;
		json_object_set_new(options, "More", json_boolean(p->copies_sent < participant_copies(p)));
	}
	if (event == WRITER_EVENT_PREPARE_BACKUP && s->options.verify)
		json_object_set_new(options, "Verify", json_true());
	if (event == WRITER_EVENT_BACKUP_COMPLETE)
		json_object_update_new(options, json_pack("{sb sO}", "Succeeded", s->succeeded, "FailedComponents",
							  s->failed_components));
	return options;
}

/* ---- answers ---- */

static void answer_recorded(struct participant *p, enum vss_error error, const char *message)
{
	uint64_t now = clock_now();

	p->elapsed = now - p->call_began;
	writer_event_ended(p->writer, p->event, error, message, p->elapsed);
	session_timeline(p->session, writer_event_name(p->event), p->writer->name, p->call_began, now,
			 error ? error_text(writer_error(error)) : "ok");
}

/* A failed Abort, BackupShutdown or Identify is on record but fails nothing. */
bool event_can_fail_set(enum writer_event event)
{
	return event != WRITER_EVENT_ABORT && event != WRITER_EVENT_BACKUP_SHUTDOWN &&
	       event != WRITER_EVENT_IDENTIFY && event != WRITER_EVENT_BACKUP_COMPLETE;
}

static bool is_required(const struct session *s, const struct writer *writer)
{
	size_t i;
	json_t *name;

	json_array_foreach(s->options.require, i, name)
		if (writer_matches(writer, json_string_value(name)))
			return true;
	return false;
}

static void send_event(struct participant *p, enum writer_event event);

/* Sends Abort without waiting for its answer. */
static void send_abort_unawaited(struct participant *p)
{
	send_event(p, WRITER_EVENT_ABORT);
	if (!p->call)
		return;
	p->unawaited = true;
	p->session->outstanding--;
}

/* For the plan, which makes its participants anew. The writer's record is not asked: a stranger's probe writes there too. */
static void note_silent(struct participant *p, enum vss_error error, const char *message)
{
	json_object_set_new(p->session->silent, p->writer->instance,
			    json_pack("{si ss}", "Error", (int)writer_error(error), "Message", message));
}

static void participant_failed(struct participant *p, enum vss_error error, const char *message)
{
	struct session *s = p->session;
	enum writer_event event = p->event;
	struct err err = { 0 };

	if (event == WRITER_EVENT_IDENTIFY)
		note_silent(p, error, message);
	if (!p->error) {
		p->error = writer_error(error);
		p->failed_at = event;
		text_format(p->message, sizeof p->message, "%s", message);
	}
	if (!event_can_fail_set(event))
		return;
	err_set(&err, writer_error(error), "Writer '%s' failed at %s: %s%s%s", p->writer->name,
		writer_event_name(event), error_text(writer_error(error)), *message ? ": " : "", message);
	if (s->options.on_writer_failure == WRITER_FAILURE_FAILS || is_required(s, p->writer)) {
		session_fail(s, &err);
		return;
	}
	/* The set goes on without it: it must not stay quiesced until the set has ended. */
	plan_doubt(s, "%s", err.text);
	p->frozen = false;
	if (p->told && p->writer->present)
		send_abort_unawaited(p);
}

#define NO_SEQUENCE UINT64_MAX

static uint64_t sequence_of(json_t *answer)
{
	json_t *sequence = json_object_get(answer, "Sequence");

	return json_is_integer(sequence) && json_integer_value(sequence) >= 0 ? (uint64_t)json_integer_value(sequence) :
										NO_SEQUENCE;
}

/* Only "frozen without a break since that Freeze" is a thaw; everything else means that the copy may hold a mixture. */
static const char *thaw_flaw(const struct participant *p, json_t *answer)
{
	if (!json_is_true(json_object_get(answer, "Unbroken")))
		return "The freeze was broken before the thaw";
	if (p->sequence == NO_SEQUENCE || sequence_of(answer) != p->sequence)
		return "The thaw answers another freeze than the one of this set";
	return NULL;
}

static void event_succeeded(struct participant *p, json_t *answer)
{
	const char *flaw;

	struct err err = { 0 };

	if (p->event == WRITER_EVENT_IDENTIFY && registry_update(p->writer, answer, &err) < 0) {
		answer_recorded(p, VSS_E_WRITER_NON_RETRYABLE, err.text);
		note_silent(p, VSS_E_WRITER_NON_RETRYABLE, err.text);
		return;
	}
	remarks_keep(p, answer);
	if (p->event == WRITER_EVENT_FREEZE) {
		p->frozen = true;
		p->sequence = sequence_of(answer);
	}
	if (p->event == WRITER_EVENT_THAW) {
		p->frozen = false;
		flaw = thaw_flaw(p, answer);
		if (flaw) {
			answer_recorded(p, VSS_E_WRITER_TIMED_OUT, flaw);
			participant_failed(p, VSS_E_WRITER_TIMED_OUT, flaw);
			return;
		}
		p->unbroken = true;
	}
	answer_recorded(p, VSS_OK, "");
	if (p->event == WRITER_EVENT_ABORT)
		p->frozen = false;
	if (p->event == WRITER_EVENT_POST_SNAPSHOT && p->copies_sent < participant_copies(p))
		send_event(p, WRITER_EVENT_POST_SNAPSHOT);
}

static const char no_answer[] = "There was no answer within the limit";

static const char *failure_words(const struct participant *p, const struct bus_reply *reply)
{
	if (reply->error == VSS_E_TIMED_OUT && !reply->error_name)
		return no_answer;
	if (reply->error == VSS_E_WRITER_NOT_RESPONDING)
		return "The writer's process is gone";
	if (*reply->message)
		return reply->message;
	return reply->error_name ? reply->error_name : error_text(p->error);
}

static void event_answered(const struct bus_reply *reply, void *data)
{
	struct participant *p = data;
	struct session *s = p->session;

	p->call = NULL;
	if (p->unawaited)
		p->unawaited = false;
	else
		s->outstanding--;
	if (!reply->error) {
		event_succeeded(p, json_array_get(reply->args, 0));
	} else {
		answer_recorded(p, reply->error, failure_words(p, reply));
		participant_failed(p, reply->error, failure_words(p, reply));
	}
	participants_done(s);
}

static bool is_thawing(const struct session *s, enum writer_level level)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		const struct participant *p = &s->participants[i];
		if (p->call && !p->unawaited && p->writer->level == level)
			return true;
	}
	return false;
}

/* A level is thawed when it has answered: a slow one of the level before is waited for with the last. */
static bool is_waiting(const struct session *s)
{
	if (s->state == SESSION_THAWING_SYSTEM)
		return is_thawing(s, WRITER_LEVEL_SYSTEM);
	if (s->state == SESSION_THAWING_BACK_END)
		return is_thawing(s, WRITER_LEVEL_BACK_END);
	return s->outstanding > 0;
}

void participants_done(struct session *s)
{
	if (!is_waiting(s) && !copies_are_busy(s))
		session_post(s, SESSION_EVENT_DONE);
}

/* ---- sending ---- */

static uint64_t event_deadline(struct participant *p, enum writer_event event)
{
	struct session *s = p->session;
	uint64_t now = clock_now(), limit = event_limit(s, event);

	if (event == WRITER_EVENT_FREEZE) {
		/* The hold has one budget: the earliest of every writer's freeze sent plus its limit. */
		uint64_t own = p->writer->freeze_limit < limit ? p->writer->freeze_limit : limit;
		p->freeze_sent = now;
		if (!s->first_freeze)
			s->first_freeze = now;
		if (now + own < s->hold_deadline)
			s->hold_deadline = now + own;
		return s->hold_deadline;
	}
	return now + limit;
}

static void send_event(struct participant *p, enum writer_event event)
{
	struct session *s = p->session;
	int fds[COPIES_PER_MESSAGE];
	size_t n_fds = 0;
	struct err err = { 0 };
	uint64_t deadline = event_deadline(p, event);
	json_t *args;

	p->event = event;
	p->call_began = clock_now();
	p->deadline = deadline;
	if (event == WRITER_EVENT_IDENTIFY)
		args = json_pack("[{}]");
	else
		args = json_pack("[ssIo]", s->id, s->set, (json_int_t)deadline, event_options(p, event, &n_fds, fds));
	s->outstanding++;
	p->call = p->writer->present ? fanout_call(s->context->fanout, p->writer->bus_name, p->writer->path,
						   writer_event_name(event),
						   event == WRITER_EVENT_IDENTIFY ? "a{sv}" : "ssta{sv}", args, fds,
						   n_fds, deadline, event_answered, p, &err) :
				       NULL;
	if (p->call)
		return;
	if (!p->writer->present) {
		json_decref(args);
		err_set(&err, VSS_E_WRITER_NOT_RESPONDING, "The writer's process is gone");
	}
	s->outstanding--;
	answer_recorded(p, err.code, err.text);
	participant_failed(p, err.code, err.text);
}

/* Sends the event to every live participant of the level (-1: of all) that wants it. The state is saved first: whoever may
 * have been told has to be on /run before he is. */
static void send_to(struct session *s, enum writer_event event, int level)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (!participant_is_live(p) || !p->writer->events[event] || (level >= 0 && (int)p->writer->level != level))
			continue;
		if (event == WRITER_EVENT_THAW && !p->frozen)
			continue;
		send_event(p, event);
	}
}

void writers_identify(struct session *s)
{
	plan_forget(s);
	json_object_clear(s->silent);
	for (struct writer *w = registry_first(s->context->registry); w; w = w->next)
		s->n_participants += w->present;
	s->participants = calloc(s->n_participants ? s->n_participants : 1, sizeof *s->participants);
	s->n_participants = s->participants ? s->n_participants : 0;
	size_t n = 0;
	for (struct writer *w = registry_first(s->context->registry); w && n < s->n_participants; w = w->next) {
		if (!w->present)
			continue;
		struct participant *p = &s->participants[n++];
		*p = (struct participant){ .session = s, .writer = writer_ref(w), .documents = json_object() };
		if (w->events[WRITER_EVENT_IDENTIFY])
			send_event(p, WRITER_EVENT_IDENTIFY);
	}
	participants_done(s);
}

bool writers_hear(const struct session *s, enum writer_event event)
{
	for (size_t i = 0; i < s->n_participants; i++)
		if (participant_is_live(&s->participants[i]) && s->participants[i].writer->events[event])
			return true;
	return false;
}

void writers_send(struct session *s, enum writer_event event)
{
	bool news = false;

	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (!participant_is_live(p) || p->told)
			continue;
		p->told = true;
		news = true;
	}
	if (news)
		session_save(s);
	send_to(s, event, -1);
	participants_done(s);
}

void writers_freeze_level(struct session *s, enum writer_level level)
{
	send_to(s, WRITER_EVENT_FREEZE, level);
	participants_done(s);
}

void writers_thaw_level(struct session *s, enum writer_level level)
{
	send_to(s, WRITER_EVENT_THAW, level);
	participants_done(s);
}

void writers_post_snapshot(struct session *s)
{
	for (size_t i = 0; i < s->n_participants; i++)
		s->participants[i].copies_sent = 0;
	send_to(s, WRITER_EVENT_POST_SNAPSHOT, -1);
	participants_done(s);
}

/* Several that hang have one deadline: the first to be told ends the state, and the others are as late as it is. */
static void note_overdue(struct participant *p)
{
	if (clock_now() + OVERDUE_SLACK < p->deadline || !event_can_fail_set(p->event))
		return;
	answer_recorded(p, VSS_E_TIMED_OUT, no_answer);
	if (p->error)
		return;
	p->error = VSS_E_WRITER_TIMED_OUT;
	p->failed_at = p->event;
	text_format(p->message, sizeof p->message, "%s", no_answer);
}

void writers_forget_calls(struct session *s)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (p->call) {
			fanout_cancel(steal_pointer(p->call));
			note_overdue(p);
		}
		p->unawaited = false;
	}
	s->outstanding = 0;
}

/* To all levels at once: the applications shall run again now. Whoever did not answer before is told too, but not waited for. */
void writers_abort(struct session *s)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (!p->told || !p->writer->present)
			continue;
		if (p->error == VSS_E_WRITER_TIMED_OUT || p->error == VSS_E_WRITER_NOT_RESPONDING)
			send_abort_unawaited(p);
		else
			send_event(p, WRITER_EVENT_ABORT);
	}
	participants_done(s);
}

void writers_shutdown(struct session *s)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (p->told && p->writer->present && p->writer->events[WRITER_EVENT_BACKUP_SHUTDOWN] && !p->call)
			send_event(p, WRITER_EVENT_BACKUP_SHUTDOWN);
	}
	participants_done(s);
}

bool session_keep_alive(struct session *s, const char *bus_name)
{
	bool found = false;

	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		if (!p->call || !p->writer->present || strcmp(p->writer->bus_name, bus_name) != 0 ||
		    (p->event != WRITER_EVENT_PREPARE_BACKUP && p->event != WRITER_EVENT_PREPARE_SNAPSHOT))
			continue;
		p->deadline = clock_now() + event_limit(s, p->event);
		fanout_extend(p->call, p->deadline);
		found = true;
	}
	return found;
}

static void participant_lost(struct participant *p)
{
	struct session *s = p->session;

	if (p->call) {
		fanout_cancel(steal_pointer(p->call));
		s->outstanding -= !p->unawaited;
		p->unawaited = false;
	} else {
		p->event = p->frozen			 ? WRITER_EVENT_THAW :
			   event_can_fail_set(p->event) ? p->event :
							  WRITER_EVENT_PREPARE_BACKUP; /* it has heard nothing yet */
		p->call_began = clock_now();
	}
	p->frozen = false;
	answer_recorded(p, VSS_E_WRITER_NOT_RESPONDING, "The writer's process is gone");
	participant_failed(p, VSS_E_WRITER_NOT_RESPONDING, "The writer's process is gone");
	participants_done(s);
}

static struct participant *find_participant(struct session *s, const struct writer *writer)
{
	for (size_t i = 0; i < s->n_participants; i++)
		if (s->participants[i].writer == writer)
			return &s->participants[i];
	return NULL;
}

/* A writer that dies between two events, frozen perhaps, has no call under way that could tell. A session may end by it. */
void sessions_writer_lost(struct session_context *context, struct writer *writer)
{
	for (struct session *s = context->sessions, *next; s; s = next) {
		struct participant *p = find_participant(s, writer);
		next = s->next;
		if (p && (p->call || (session_state_holds_writers(s->state) && participant_is_live(p))))
			participant_lost(p);
	}
}
