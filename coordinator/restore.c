/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/restore.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/reach.h"

struct concerned {
	struct concerned *next;
	struct restore *restore;
	struct writer *writer; /* referenced */
	json_t *components;
	enum writer_event event;
	bool begun; /* the restore has begun for it */
	struct fanout_call *call;
	uint64_t began;
	json_t *outcomes; /* {event: text} */
};

struct restore {
	struct restore_context context;
	char id[ID_SIZE];
	json_t *volumes, *event_volumes;
	struct job *job;
	struct concerned *concerned; /* those that were sent PreRestore */
	size_t outstanding;
	struct err err;
	restore_fn fn;
	void *data;
};

static json_t *describe_volumes(json_t *volumes)
{
	json_t *rows = json_array(), *volume;
	size_t i;

	json_array_foreach(volumes, i, volume)
		json_array_append_new(rows, json_pack("{sO sO sI}", "Path", json_object_get(volume, "Path"), "Id",
						      json_object_get(volume, "Id"), "InstantGroup", (json_int_t)0));
	return rows;
}

struct restore *restore_new(const struct restore_context *context, const char *id, json_t *volumes)
{
	struct restore *r = calloc(1, sizeof *r);

	if (!r) {
		json_decref(volumes);
		return NULL;
	}
	r->context = *context;
	r->volumes = volumes;
	r->event_volumes = describe_volumes(volumes);
	memcpy(r->id, id, ID_SIZE);
	return r;
}

static void concerned_free(struct concerned *c)
{
	if (c->call)
		fanout_cancel(c->call);
	writer_unref(c->writer);
	json_decref(c->components);
	json_decref(c->outcomes);
	free(c);
}

struct restore *restore_free(struct restore *r)
{
	if (!r)
		return NULL;
	r->fn = NULL;
	if (r->job)
		job_cancel(r->job);
	while (r->concerned) {
		struct concerned *c = r->concerned;
		r->concerned = c->next;
		concerned_free(c);
	}
	json_decref(r->volumes);
	json_decref(r->event_volumes);
	free(r);
	return NULL;
}

json_t *restore_rows(const struct restore *r)
{
	json_t *rows = json_array();

	for (const struct concerned *c = r->concerned; c; c = c->next) {
		json_t *row = json_pack("{ss ss sO}", "Writer", c->writer->name, "Instance", c->writer->instance,
					"Components", c->components);
		json_object_update(row, c->outcomes);
		json_array_append_new(rows, row);
	}
	return rows;
}

/* ---- the events ---- */

static void step_ended(struct restore *r)
{
	restore_fn fn = r->fn;

	if (--r->outstanding > 0 || !fn)
		return;
	r->fn = NULL;
	fn(&r->err, r->data);
}

static void note_failure(struct concerned *c, enum vss_error error, const char *words)
{
	struct restore *r = c->restore;

	if (r->err.code)
		return;
	err_set(&r->err, writer_error(error), "Writer '%s' failed at %s: %s%s%s", c->writer->name,
		writer_event_name(c->event), error_text(writer_error(error)), *words ? ": " : "", words);
}

static void answered(const struct bus_reply *reply, void *data)
{
	struct concerned *c = data;
	const char *words = reply->error && reply->message ? reply->message : "";

	c->call = NULL;
	writer_event_ended(c->writer, c->event, reply->error, words, clock_now() - c->began);
	json_object_set_new(c->outcomes, writer_event_name(c->event),
			    json_string(reply->error ? error_text(writer_error(reply->error)) : "ok"));
	if (reply->error)
		note_failure(c, reply->error, words);
	step_ended(c->restore);
}

static void send_event(struct concerned *c, enum writer_event event, bool succeeded)
{
	struct restore *r = c->restore;
	uint64_t deadline = clock_now() + r->context.config->event;
	struct err err = { 0 };

	c->event = event;
	c->began = clock_now();
	if (!c->writer->events[event])
		return;
	c->call = fanout_call(r->context.fanout, c->writer->bus_name, c->writer->path, writer_event_name(event), "ssta{sv}",
			      json_pack("[ssI{ss sb sO sO sb}]", r->id, "", (json_int_t)deadline, "BackupType", "copy",
					"Persistent", 1, "Volumes", r->event_volumes, "Components", c->components, "Succeeded",
					succeeded),
			      NULL, 0, deadline, answered, c, &err);
	if (c->call)
		r->outstanding++;
	else
		note_failure(c, err.code, err.text);
}

/* ---- who is concerned ---- */

static bool is_restored(const struct restore *r, json_t *volume)
{
	size_t i;
	json_t *restored;

	json_array_foreach(r->volumes, i, restored)
		if (json_equal(json_object_get(restored, "Id"), json_object_get(volume, "Id")))
			return true;
	return false;
}

static bool lies_there(const struct restore *r, json_t *component, json_t *volumes)
{
	autojson json_t *paths = json_object();
	const char *path;
	json_t *unused;

	reach_component_paths(component, paths);
	json_object_foreach(paths, path, unused) {
		json_t *volume = json_object_get(volumes, path);
		if (volume && is_restored(r, volume))
			return true;
	}
	return false;
}

static json_t *components_there(const struct restore *r, const struct writer *writer, json_t *volumes)
{
	json_t *names = json_array(), *component;
	size_t i;

	json_array_foreach(writer->components, i, component) {
		autofree char *name = lies_there(r, component, volumes) ? component_name(component) : NULL;
		if (name)
			json_array_append_new(names, json_string(name));
	}
	return names;
}

static bool wants_restores(const struct writer *writer)
{
	return writer->present && (writer->events[WRITER_EVENT_PRE_RESTORE] || writer->events[WRITER_EVENT_POST_RESTORE]);
}

static void add_concerned(struct restore *r, struct writer *writer, json_t *components)
{
	struct concerned *c = calloc(1, sizeof *c);

	if (!c) {
		json_decref(components);
		if (!r->err.code)
			err_set(&r->err, VSS_E_OUT_OF_MEMORY, "Out of memory for the writers of a restore");
		return;
	}
	*c = (struct concerned){ .next = r->concerned, .restore = r, .writer = writer_ref(writer), .components = components,
				 .outcomes = json_object() };
	r->concerned = c;
}

static void find_concerned(struct restore *r, json_t *volumes)
{
	for (struct writer *w = registry_first(r->context.registry); w; w = w->next) {
		json_t *components = wants_restores(w) ? components_there(r, w, volumes) : NULL;
		if (json_array_size(components) > 0)
			add_concerned(r, w, components);
		else
			json_decref(components);
	}
}

static void resolved(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct restore *r = data;
	autojson json_t *volumes = reach_volumes(answer);

	r->job = NULL;
	if (!r->fn)
		return;
	r->err = *err;
	if (!err->code)
		find_concerned(r, volumes);
	for (struct concerned *c = r->concerned; c && !r->err.code; c = c->next) {
		c->begun = true;
		send_event(c, WRITER_EVENT_PRE_RESTORE, false);
	}
	step_ended(r);
}

int restore_begin(struct restore *r, restore_fn fn, void *data, struct err *err)
{
	autojson json_t *paths = reach_all_paths(r->context.registry);
	json_t *list = json_array(), *unused;
	const char *path;

	json_object_foreach(paths, path, unused)
		json_array_append_new(list, json_string(path));
	r->job = workers_run(r->context.workers, "volumes", "resolve", json_pack("{so sb}", "Paths", list, "Missing", 1), NULL,
			     0, clock_now() + r->context.config->resolve, resolved, r, err);
	if (!r->job)
		return -1;
	r->outstanding = 1;
	r->fn = fn;
	r->data = data;
	return 0;
}

void restore_end(struct restore *r, bool succeeded, restore_fn fn, void *data)
{
	r->err = (struct err){ 0 };
	r->fn = fn;
	r->data = data;
	r->outstanding = 1;
	for (struct concerned *c = r->concerned; c; c = c->next)
		if (c->begun)
			send_event(c, WRITER_EVENT_POST_RESTORE, succeeded);
	step_ended(r);
}
