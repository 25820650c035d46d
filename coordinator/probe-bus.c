/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ProbeWriters. Everybody may ask for it, and a probe asks every writer: callers at the same time share one, so that
 * each writer has at most one Identify of it to answer, however many ask. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/faces.h"

#define SHORTEST (100 * USEC_PER_MSEC) /* else anybody could have every writer called silent */
#define LONGEST (60 * USEC_PER_SEC)

struct caller {
	struct caller *next;
	struct bus_call *call;
	uint64_t deadline;
};

struct probed_writer {
	struct probed_writer *next;
	struct probe *probe;
	struct writer *writer;
	struct fanout_call *call;
	uint64_t began;
};

struct probe {
	struct coordinator *coordinator;
	struct caller *callers;
	struct probed_writer *asked; /* and not answered yet */
	sd_event_source *timer;	     /* the first caller's deadline */
};

static void record_silence(struct probed_writer *p, const char *message)
{
	writer_event_ended(p->writer, WRITER_EVENT_IDENTIFY, VSS_E_WRITER_NOT_RESPONDING, message,
			   clock_now() - p->began);
}

static void record_answer(struct probed_writer *p, const struct bus_reply *reply)
{
	struct err err = { 0 };

	if (reply->error == VSS_E_CANCELLED && !reply->error_name)
		return; /* vssd is ending: no news about the writer */
	if (!reply->error && registry_update(p->writer, json_array_get(reply->args, 0), &err) < 0)
		writer_event_ended(p->writer, WRITER_EVENT_IDENTIFY, VSS_E_WRITER_NON_RETRYABLE, err.text,
				   clock_now() - p->began);
	else if (!reply->error || (reply->error_name && reply->error != VSS_E_WRITER_NOT_RESPONDING))
		/* one that does not know Identify has answered too */
		writer_event_ended(p->writer, WRITER_EVENT_IDENTIFY, VSS_OK, "", clock_now() - p->began);
	else
		record_silence(p, reply->error == VSS_E_TIMED_OUT ? "No answer to a probe within its limit"
								  : "The writer's process is gone");
}

static void probed_writer_free(struct probed_writer *p)
{
	for (struct probed_writer **link = &p->probe->asked; *link; link = &(*link)->next) {
		if (*link == p) {
			*link = p->next;
			break;
		}
	}
	writer_unref(p->writer);
	free(p);
}

static void probe_free(struct probe *probe)
{
	while (probe->asked) {
		fanout_cancel(probe->asked->call);
		probed_writer_free(probe->asked);
	}
	sd_event_source_disable_unref(probe->timer);
	probe->coordinator->probe = NULL;
	free(probe);
}

/* Answers those whose time is over, or all, and ends with the last of them. */
static void answer_callers(struct probe *probe, uint64_t now)
{
	autojson json_t *rows = registry_rows(probe->coordinator->registry);
	uint64_t next = USEC_INFINITY;

	for (struct caller **link = &probe->callers; *link;) {
		struct caller *caller = *link;
		if (caller->deadline > now) {
			next = caller->deadline < next ? caller->deadline : next;
			link = &caller->next;
			continue;
		}
		*link = caller->next;
		bus_call_reply(caller->call, json_pack("[O]", rows));
		free(caller);
	}
	if (!probe->callers) {
		probe_free(probe);
		return;
	}
	sd_event_source_set_time(probe->timer, next);
	sd_event_source_set_enabled(probe->timer, SD_EVENT_ONESHOT);
}

static int time_over(sd_event_source *source, uint64_t usec, void *data)
{
	struct probe *probe = data;

	for (struct probed_writer *p = probe->asked; p; p = p->next)
		record_silence(p, "No answer to a probe within its limit");
	answer_callers(probe, clock_now());
	return 0;
}

static void probed(const struct bus_reply *reply, void *data)
{
	struct probed_writer *p = data;
	struct probe *probe = p->probe;

	record_answer(p, reply);
	probed_writer_free(p);
	if (!probe->asked)
		answer_callers(probe, USEC_INFINITY);
}

static bool is_asked(const struct probe *probe, const struct writer *writer)
{
	for (const struct probed_writer *p = probe->asked; p; p = p->next)
		if (p->writer == writer)
			return true;
	return false;
}

static void ask(struct probe *probe, struct writer *writer, uint64_t deadline)
{
	struct probed_writer *p = malloc(sizeof *p);

	if (!p)
		return;
	*p = (struct probed_writer){ probe->asked, probe, writer_ref(writer), NULL, clock_now() };
	probe->asked = p;
	p->call = fanout_call(probe->coordinator->fanout, writer->bus_name, writer->path, "Identify", "a{sv}",
			      json_pack("[{}]"), NULL, 0, deadline, probed, p, NULL);
	if (!p->call)
		probed_writer_free(p);
}

static struct probe *running_probe(struct coordinator *c)
{
	struct probe *probe = c->probe ? c->probe : calloc(1, sizeof *probe);

	if (!probe || c->probe)
		return probe;
	probe->coordinator = c;
	if (sd_event_add_time(c->event, &probe->timer, CLOCK_MONOTONIC, USEC_INFINITY, 1000, time_over, probe) < 0) {
		free(probe);
		return NULL;
	}
	c->probe = probe;
	return probe;
}

static void probe_writers(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	json_t *limit = json_object_get(call_options(call), "TimeoutUsec");
	uint64_t timeout = limit ? (uint64_t)json_integer_value(limit) : c->config.probe, now = clock_now();
	struct caller *caller = err->code ? NULL : malloc(sizeof *caller);
	bool joins = c->probe;
	struct probe *probe = caller ? running_probe(c) : NULL;

	if (!probe) {
		free(caller);
		bus_call_error(call,
			       err->code ? err : &(struct err){ VSS_E_OUT_OF_MEMORY, "Out of memory for a probe" });
		return;
	}
	timeout = timeout < SHORTEST ? SHORTEST : timeout > LONGEST ? LONGEST : timeout;
	*caller = (struct caller){ probe->callers, call, now + timeout };
	probe->callers = caller;
	for (struct writer *w = registry_first(c->registry); w; w = w->next)
		if (w->present && !(joins && is_asked(probe, w)))
			ask(probe, w, now + LONGEST);
	answer_callers(probe, probe->asked ? now : USEC_INFINITY);
}

void face_probe_writers(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "TimeoutUsec", JSON_INTEGER }, { NULL, JSON_NULL } };
	struct coordinator *c = object;

	if (options_accept(call, rules))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, probe_writers, c);
}
