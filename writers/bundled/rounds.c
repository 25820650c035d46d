/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/bundled/rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "writers/script/log.h"

#define OWN_ABORT_LIMIT (30 * USEC_PER_SEC)
#define HOLD_LIMIT_SEC 900
#define MARGIN_MAX (500 * USEC_PER_MSEC) /* so that our words are there before the limit passes */
#define KEEP_ALIVE_MIN (100 * USEC_PER_MSEC)
#define KEEP_ALIVE_MAX (30 * USEC_PER_SEC)

static bool may_be_prolonged(enum vss_event event)
{
	return event == VSS_EVENT_PREPARE_BACKUP || event == VSS_EVENT_PREPARE_SNAPSHOT;
}

/* ---- beginning ---- */

static uint64_t task_deadline(const struct rounds *rounds, const struct instance *instance, const struct event_copy *event)
{
	uint64_t now = clock_now(), left = event->deadline > now ? event->deadline - now : 0;

	if (may_be_prolonged(event->event))
		return now + bundled_setting_span(rounds->settings, instance->name, "PrepareLimit");
	return event->deadline - (left / 10 < MARGIN_MAX ? left / 10 : MARGIN_MAX);
}

static bool concerns(const struct instance *instance, const struct event_copy *event)
{
	if (!instance->served)
		return false;
	if (event->event == VSS_EVENT_ABORT)
		return instance->state;
	if (instance->left_out && event->event >= VSS_EVENT_FREEZE && event->event <= VSS_EVENT_POST_SNAPSHOT)
		return false;
	return event_copy_names(event, instance->name);
}

static void note(struct round *round, enum vss_result result, const char *name, const char *text)
{
	if (result != VSS_RESULT_OK && round->result == VSS_RESULT_OK)
		round->result = result;
	if (*text)
		text_append(round->message, sizeof round->message, "%s%s: %s", *round->message ? "; " : "", name, text);
}

static void start_task(struct rounds *rounds, struct round *round, struct instance *instance)
{
	uint64_t deadline = task_deadline(rounds, instance, round->event);
	struct err err = { 0 };
	instance->left_out = false;
	struct task_run *run = task_run_start(rounds->kind, rounds->settings, instance, round->event, deadline,
					      &rounds->done, &err);

	if (!run) {
		note(round, VSS_RESULT_OUT_OF_RESOURCES, instance->name, err.text);
		return;
	}
	round->runs[round->n++] = run;
	round->pending++;
	if (deadline > round->alive_until)
		round->alive_until = deadline;
}

static void note_missing(struct rounds *rounds, struct round *round)
{
	if (round->event->event != VSS_EVENT_PREPARE_SNAPSHOT && round->event->event != VSS_EVENT_FREEZE)
		return;
	for (char **name = round->event->components; name && *name; name++)
		if (!instances_find(rounds->instances, *name))
			note(round, VSS_RESULT_RETRYABLE, *name, "it is no longer there");
}

static void start(struct rounds *rounds, struct round *round)
{
	uint64_t now = clock_now(), span = round->event->deadline > now ? round->event->deadline - now : 0;
	size_t n = 0;

	round->kept_alive_at = now;
	round->keep_alive_every = span / 3 < KEEP_ALIVE_MIN ? KEEP_ALIVE_MIN :
				  span / 3 > KEEP_ALIVE_MAX ? KEEP_ALIVE_MAX :
							      span / 3;
	for (struct instance *i = rounds->instances->first; i; i = i->next)
		n++;
	round->runs = calloc(n + 1, sizeof *round->runs);
	note_missing(rounds, round);
	for (struct instance *i = rounds->instances->first; i && round->runs; i = i->next)
		if (concerns(i, round->event))
			start_task(rounds, round, i);
}

/* An abort is carried out to its end, whether somebody waits for it or not. */
static void give_up(struct round *round)
{
	round->given_up = true;
	if (round->event->event == VSS_EVENT_ABORT)
		return;
	for (size_t i = 0; i < round->n; i++)
		if (round->runs[i])
			task_run_cancel(round->runs[i]);
}

/* ---- ending ---- */

/* To the library, in whose hands the event still is. */
static void pass_on_remarks(struct rounds *rounds, const char *name, const struct bundled_task *task)
{
	char text[640];
	json_t *value;
	size_t i;

	json_array_foreach(task->doubts, i, value) {
		text_format(text, sizeof text, "%s: %s", name, json_string_value(value));
		log_line(LOG_WARNING, NULL, "%s", text);
		vss_writer_add_doubt(rounds->writer, text);
	}
	json_array_foreach(task->checks, i, value)
		vss_writer_add_check(rounds->writer, name, json_string_value(json_object_get(value, "Check")),
				     (enum vss_verdict)json_integer_value(json_object_get(value, "Verdict")),
				     json_string_value(json_object_get(value, "Text")));
}

/* A failure that is to be a doubt instead. A copy that lacks a part, or has several instants, is not what anybody wants. */
static bool may_be_left_out(const struct rounds *rounds, const struct task_run *run)
{
	return rounds->kind->degrades && run->result != VSS_RESULT_OK && run->result != VSS_RESULT_INCONSISTENT_SNAPSHOT &&
	       run->task.event >= VSS_EVENT_PREPARE_SNAPSHOT && run->task.event <= VSS_EVENT_POST_SNAPSHOT &&
	       strcmp(bundled_setting_text(rounds->settings, run->instance->name, "OnFailure"), "degrade") == 0;
}

static void leave_out(const struct rounds *rounds, struct task_run *run)
{
	char why[sizeof run->task.message];

	memcpy(why, run->task.message, sizeof why);
	bundled_doubt(&run->task, "is in the copy as it ran: %s failed: %.440s", vss_event_name(run->task.event), why);
	*run->task.message = '\0';
	run->result = VSS_RESULT_OK;
	run->instance->left_out = true;
	if (run->instance->state)
		rounds->kind->forget(run->instance->state);
	run->instance->state = NULL;
}

static void collect(struct rounds *rounds, struct round *round, struct task_run *run)
{
	const char *name = run->instance->name;

	for (size_t i = 0; i < round->n; i++)
		if (round->runs[i] == run)
			round->runs[i] = NULL;
	if (run->result != VSS_RESULT_OK && !round->given_up)
		log_line(LOG_ERR, name, "%s failed: %s", vss_event_name(run->task.event), run->task.message);
	if (!round->given_up && may_be_left_out(rounds, run))
		leave_out(rounds, run);
	note(round, run->result, name, run->task.message);
	if (!round->given_up && !round->event->own)
		pass_on_remarks(rounds, name, &run->task);
	if (run->task.document)
		json_object_set(round->documents, name, run->task.document);
	run->instance->held_since = !run->instance->state ? 0 : run->instance->held_since ?: clock_now();
	round->pending--;
	task_run_free(run);
}

static void answer(struct rounds *rounds, struct round *round)
{
	enum vss_event event = round->event->event;

	if (round->given_up || round->event->own)
		return;
	if (round->result == VSS_RESULT_OK && json_object_size(round->documents) > 0) {
		autofree char *text = json_dumps(round->documents, JSON_COMPACT);
		if (text && vss_writer_set_document(rounds->writer, text) < 0)
			log_line(LOG_WARNING, NULL, "what is to be known of the copy is too long to be kept with it");
	}
	vss_writer_done(rounds->writer, event, round->result, *round->message ? round->message : NULL);
}

static void round_free(struct round *round)
{
	event_copy_free(round->event);
	json_decref(round->documents);
	free(round->runs);
	free(round);
}

/* The first ends when nothing of it runs any more; the next begins. */
static void advance(struct rounds *rounds)
{
	while (rounds->first && rounds->first->pending == 0) {
		struct round *ended = rounds->first;
		rounds->first = ended->next;
		answer(rounds, ended);
		round_free(ended);
		if (rounds->first)
			start(rounds, rounds->first);
	}
}

/* ---- the outside ---- */

static size_t count(const struct rounds *rounds)
{
	size_t n = 0;

	for (const struct round *r = rounds->first; r; r = r->next)
		n++;
	return n;
}

int rounds_add(struct rounds *rounds, struct event_copy *event, struct err *err)
{
	struct round **link = &rounds->first, *round;

	for (struct round *r = rounds->first; r; r = r->next)
		if (!event || !event->own || r->event->event != VSS_EVENT_ABORT)
			give_up(r);
	if (!event)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory or descriptors");
	if (count(rounds) >= ROUNDS_MAX && event->event != VSS_EVENT_ABORT) {
		event_copy_free(event);
		return err_set(err, VSS_E_WRITER_RETRYABLE, "Still at work on an earlier event, which hangs");
	}
	round = calloc(1, sizeof *round);
	if (!round) {
		event_copy_free(event);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	}
	*round = (struct round){ .event = event, .documents = json_object() };
	while (*link)
		link = &(*link)->next;
	*link = round;
	if (rounds->first == round) {
		start(rounds, round);
		advance(rounds);
	}
	return 0;
}

void rounds_abort(struct rounds *rounds, const char *why)
{
	const struct vss_event_info info = {
		.size = sizeof info,
		.event = VSS_EVENT_ABORT,
		.session = "",
		.set = "",
		.backup_type = "copy",
		.deadline_usec = clock_now() + OWN_ABORT_LIMIT,
	};
	struct event_copy *event = event_copy_new(&info);
	struct err err = { 0 };

	log_line(LOG_WARNING, NULL, "what is held is let go: %s", why);
	if (event)
		event->own = true;
	if (rounds_add(rounds, event, &err) < 0)
		log_line(LOG_ERR, NULL, "abort failed: %s", err.text);
}

static void keep_alive(struct rounds *rounds)
{
	struct round *round = rounds->first;
	uint64_t now = clock_now();

	if (!round || round->given_up || !may_be_prolonged(round->event->event) || now > round->alive_until ||
	    now - round->kept_alive_at < round->keep_alive_every)
		return;
	round->kept_alive_at = now;
	vss_writer_keep_alive(rounds->writer);
}

static uint64_t hold_limit(const struct rounds *rounds)
{
	return (rounds->kind->hold_limit_sec ?: HOLD_LIMIT_SEC) * USEC_PER_SEC;
}

void rounds_turn(struct rounds *rounds)
{
	for (struct task_run *run = done_list_take(&rounds->done), *next; run; run = next) {
		next = run->next;
		collect(rounds, rounds->first, run);
	}
	advance(rounds);
	keep_alive(rounds);
	for (const struct instance *i = rounds->instances->first; i && !rounds->first; i = i->next)
		if (i->state && clock_now() >= i->held_since + hold_limit(rounds)) {
			rounds_abort(rounds, "the coordinator has not ended it in time");
			break;
		}
}

uint64_t rounds_next_time(const struct rounds *rounds)
{
	const struct round *round = rounds->first;
	uint64_t next = USEC_INFINITY;

	if (round && !round->given_up && may_be_prolonged(round->event->event) && clock_now() <= round->alive_until)
		return round->kept_alive_at + round->keep_alive_every;
	for (const struct instance *i = rounds->instances->first; i && !round; i = i->next)
		if (i->state && i->held_since + hold_limit(rounds) < next)
			next = i->held_since + hold_limit(rounds);
	return next;
}
