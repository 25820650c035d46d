/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Expected writers that are not running are started before a set, where their manifest names a bus service. One that does
 * not come is no failure: the plan finds it absent and the label says so. */
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/session-internal.h"

#define START_PATIENCE (5 * USEC_PER_SEC) /* from the first request to the last registration */

static void go_on(struct session *s)
{
	activation_end(s);
	session_timeline(s, "start writers", "", s->state_began, clock_now(), "ok");
	plan_resolve(s);
}

static int patience_over(sd_event_source *source, uint64_t usec, void *data)
{
	go_on(data);
	return 0;
}

void activation_end(struct session *s)
{
	json_decref(steal_pointer(s->awaited));
	s->patience = sd_event_source_disable_unref(s->patience);
}

bool activation_start(struct session *s)
{
	struct session_context *context = s->context;
	autojson json_t *wanted = json_object();
	const char *bus_name;
	json_t *id;

	for (const struct writer *w = registry_first(context->registry); w && context->activate; w = w->next)
		if (!w->present && w->manifest && w->manifest->bus_name)
			json_object_set_new(wanted, w->manifest->bus_name, json_string(w->id));
	if (json_object_size(wanted) == 0 ||
	    sd_event_add_time(context->event, &s->patience, CLOCK_MONOTONIC, clock_now() + START_PATIENCE, 1000,
			      patience_over, s) < 0)
		return false;
	s->awaited = json_incref(wanted);
	json_object_foreach(wanted, bus_name, id)
		context->activate(s->id, bus_name, context->activate_data);
	return true;
}

static void settled(struct session *s, const char *bus_name)
{
	json_object_del(s->awaited, bus_name);
	if (json_object_size(s->awaited) == 0)
		go_on(s);
}

void session_activation_failed(struct session *s, const char *bus_name)
{
	if (json_object_get(s->awaited, bus_name))
		settled(s, bus_name);
}

void sessions_writer_added(struct session_context *context, const struct writer *writer)
{
	const char *bus_name = writer->manifest ? writer->manifest->bus_name : NULL;

	for (struct session *s = context->sessions; s && bus_name; s = s->next)
		if (json_object_get(s->awaited, bus_name))
			settled(s, bus_name);
}
