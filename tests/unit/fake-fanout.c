/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake-fanout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/tape.h"

#define RULES_MAX 64

struct fanout_call {
	struct fanout *fanout;
	struct fanout_call *next; /* newer ones first */
	struct fake_call seen;
	struct fake_fanout_rule rule;
	bus_reply_fn fn;
	void *data;
	sd_event_source *source;
};

struct fanout {
	sd_event *event;
	struct fake_fanout_rule rules[RULES_MAX];
	size_t n_rules;
	struct fanout_call *calls;
	json_int_t sequence;
	json_t *sequences; /* {writer: the last Freeze's number} */
	unsigned holds;
};

struct fanout *fanout_new(sd_event *event)
{
	struct fanout *f = calloc(1, sizeof *f);

	f->event = event;
	f->sequences = json_object();
	return f;
}

struct fanout *fanout_free(struct fanout *f)
{
	while (f->calls) {
		struct fanout_call *call = f->calls;
		f->calls = call->next;
		sd_event_source_disable_unref(call->source);
		json_decref(call->seen.args);
		free(call);
	}
	json_decref(f->sequences);
	free(f);
	return NULL;
}

void fake_fanout_rule(struct fanout *f, const struct fake_fanout_rule *rule)
{
	if (f->n_rules == RULES_MAX)
		abort();
	f->rules[f->n_rules++] = *rule;
}

void fake_fanout_obey(struct fanout *f)
{
	f->n_rules = 0;
}

static struct fake_fanout_rule find_rule(const struct fanout *f, const char *writer, const char *event)
{
	for (size_t i = f->n_rules; i-- > 0;) {
		const struct fake_fanout_rule *rule = &f->rules[i];
		if ((!rule->writer || strcmp(rule->writer, writer) == 0) && (!rule->event || strcmp(rule->event, event) == 0))
			return *rule;
	}
	return (struct fake_fanout_rule){ .mode = FAKE_OK };
}

static json_t *usual_answer(struct fanout *f, const struct fake_call *seen)
{
	if (strcmp(seen->event, "Freeze") == 0) {
		json_object_set_new(f->sequences, seen->writer, json_integer(++f->sequence));
		return json_pack("{sI}", "Sequence", f->sequence);
	}
	if (strcmp(seen->event, "Thaw") == 0)
		return json_pack("{sO sb}", "Sequence", json_object_get(f->sequences, seen->writer), "Unbroken", 1);
	return json_object();
}

static void reply(struct fanout_call *call, enum vss_error error, const char *message, const char *answer)
{
	json_t *value = answer ? json_loads(answer, 0, NULL) : error ? json_object() : usual_answer(call->fanout, &call->seen);
	autojson json_t *args = json_pack("[o]", value);
	bool local = error == VSS_E_TIMED_OUT || error == VSS_E_CANCELLED;
	struct bus_reply r = { .error = error,
			       .error_name = error && !local ? error_dbus_name(error) : NULL,
			       .message = message ? message : "",
			       .sender = local ? "" : call->seen.writer,
			       .args = args };

	if (!value || !call->seen.open)
		abort();
	call->seen.open = call->seen.held = false;
	call->source = sd_event_source_disable_unref(call->source);
	call->fn(&r, call->data);
}

static int answer_now(sd_event_source *source, void *data)
{
	struct fanout_call *call = data;
	const struct fake_fanout_rule *rule = &call->rule;

	reply(call, rule->mode == FAKE_ERROR ? rule->error : VSS_OK, rule->message, rule->answer);
	return 0;
}

static int deadline_passed(sd_event_source *source, uint64_t usec, void *data)
{
	reply(data, VSS_E_TIMED_OUT, NULL, NULL);
	return 0;
}

static void arm(struct fanout_call *call)
{
	sd_event *event = call->fanout->event;

	if (call->rule.mode == FAKE_OK || call->rule.mode == FAKE_ERROR)
		sd_event_add_defer(event, &call->source, answer_now, call);
	else
		sd_event_add_time(event, &call->source, CLOCK_MONOTONIC, call->seen.deadline, 1, deadline_passed, call);
	call->seen.held = call->rule.mode == FAKE_HOLD;
}

struct fanout_call *fanout_call(struct fanout *f, const char *destination, const char *path, const char *method,
				const char *signature, json_t *args, const int *fds, size_t n_fds, uint64_t deadline,
				bus_reply_fn fn, void *data, struct err *err)
{
	struct fake_fanout_rule rule = find_rule(f, destination, method);
	struct fanout_call *call;

	if (!args)
		abort(); /* json_pack failed: somebody packed what is not there */
	if (rule.mode == FAKE_REFUSE) {
		json_decref(args);
		err_set(err, VSS_E_LIMITS_EXCEEDED, "Too many writers are still to answer");
		return NULL;
	}
	call = calloc(1, sizeof *call);
	*call = (struct fanout_call){ .fanout = f, .next = f->calls, .rule = rule, .fn = fn, .data = data };
	call->seen = (struct fake_call){
		.args = args, .n_fds = n_fds, .sent = clock_now(), .deadline = deadline, .open = true
	};
	snprintf(call->seen.writer, sizeof call->seen.writer, "%s", destination);
	snprintf(call->seen.event, sizeof call->seen.event, "%s", method);
	f->calls = call;
	tape_add("%s %s", method, destination);
	arm(call);
	return call;
}

void fanout_extend(struct fanout_call *call, uint64_t deadline)
{
	call->seen.deadline = deadline;
	sd_event_source_set_time(call->source, deadline);
}

void fanout_cancel(struct fanout_call *call)
{
	if (!call->seen.open)
		abort();
	call->seen.open = call->seen.held = false;
	call->source = sd_event_source_disable_unref(call->source);
	tape_add("forget %s %s", call->seen.event, call->seen.writer);
}

void fanout_hold(struct fanout *f)
{
	f->holds++;
}

void fanout_release(struct fanout *f)
{
	if (f->holds-- == 0)
		abort();
}

void fanout_trim(struct fanout *f)
{
}

bool fanout_is_idle(const struct fanout *f)
{
	for (const struct fanout_call *call = f->calls; call; call = call->next)
		if (call->seen.open)
			return false;
	return true;
}

unsigned fake_fanout_holds(const struct fanout *f)
{
	return f->holds;
}

const struct fake_call *fake_fanout_last(const struct fanout *f, const char *event, const char *writer)
{
	for (const struct fanout_call *call = f->calls; call; call = call->next)
		if (strcmp(call->seen.event, event) == 0 && strcmp(call->seen.writer, writer) == 0)
			return &call->seen;
	return NULL;
}

void fake_fanout_answer(struct fanout *f, const char *event, const char *writer, enum vss_error error, const char *answer)
{
	for (struct fanout_call *call = f->calls; call; call = call->next) {
		if (!call->seen.open || strcmp(call->seen.event, event) != 0 || strcmp(call->seen.writer, writer) != 0)
			continue;
		reply(call, error, NULL, answer);
		return;
	}
	abort(); /* the test waits for a call that was not sent */
}
