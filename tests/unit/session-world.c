/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-world.h"

#define PATIENCE (30 * USEC_PER_SEC)

/* ---- listeners ---- */

static void state_changed(struct session *session, void *data)
{
	((struct world *)data)->state_changes++;
}

static void finished(struct session *session, const char *operation, json_t *result, void *data)
{
	struct world *w = data;

	w->finished++;
	snprintf(w->operation, sizeof w->operation, "%s", operation);
	json_decref(w->result);
	w->result = json_incref(result);
	tape_add("finished %s %s", operation, json_is_true(json_object_get(result, "Success")) ? "ok" : "failed");
}

static void closed(struct session *session, void *data)
{
	((struct world *)data)->closed++;
	tape_add("closed");
}

static void writer_added(struct writer *writer, void *data)
{
	if (writer->present)
		sessions_writer_added(&((struct world *)data)->context, writer);
}

static void writer_lost(struct writer *writer, void *data)
{
	sessions_writer_lost(&((struct world *)data)->context, writer);
}

static void writer_nothing(struct writer *writer, void *data)
{
}

static void copy_nothing(const char *copy, void *data)
{
}

static bool session_lives(const char *session, void *data)
{
	return session_find(&((struct world *)data)->context, session) != NULL;
}

static bool set_lives(const char *set, void *data)
{
	for (struct session *s = ((struct world *)data)->context.sessions; s; s = s->next)
		if (strcmp(s->set, set) == 0)
			return true;
	return false;
}

/* ---- making and ending ---- */

static void make_context(struct world *w)
{
	struct catalogue_listener copies = { copy_nothing, copy_nothing, session_lives, set_lives, w };

	w->catalogue = catalogue_new(w->event, w->workers, &w->config, WORLD_MACHINE, &copies);
	w->locks = locks_new();
	w->context = (struct session_context){ .event = w->event,
					       .config = &w->config,
					       .registry = w->registry,
					       .workers = w->workers,
					       .fanout = w->fanout,
					       .locks = w->locks,
					       .catalogue = w->catalogue,
					       .guard = w->guard,
					       .store = w->store,
					       .machine_id = WORLD_MACHINE,
					       .host_name = "testhost",
					       .listener = { state_changed, finished, closed, w } };
}

struct world *world_new(const struct manifests *manifests)
{
	struct world *w = calloc(1, sizeof *w);
	struct registry_listener writers = { writer_added, writer_nothing, writer_nothing, writer_lost, w };
	struct err err = { 0 };

	tape_clear();
	config_defaults(&w->config);
	if (manifests)
		w->manifests = *manifests;
	snprintf(w->dir, sizeof w->dir, "/tmp/vssd-unit-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_true(sd_event_new(&w->event) >= 0);
	assert_int_equal(state_store_new(&w->store, w->dir, "sessions", &err), 0);
	assert_int_equal(state_store_new(&w->writer_store, w->dir, "writers", &err), 0);
	w->workers = fake_workers_new(w->event);
	w->fanout = fanout_new(w->event);
	w->guard = fake_guard_new(w->event);
	fake_workers_volume(w->workers, "/data", "data", NULL);
	fake_workers_volume(w->workers, "/logs", "logs", NULL);
	fake_workers_held_volume(w->workers, "/vol", "vol");
	fake_workers_held_volume(w->workers, "/more", "more");
	w->registry = registry_new(&w->manifests, w->writer_store, w->config.max_writers, &writers);
	make_context(w);
	return w;
}

static void remove_dir(const char *dir, const char *kind)
{
	char path[128];
	DIR *d;

	snprintf(path, sizeof path, "%s/%s", dir, kind);
	d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(path);
}

/* In the order of main.c. */
void world_free(struct world *w)
{
	sessions_free(&w->context);
	assert_int_equal(fake_fanout_holds(w->fanout), 0);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	assert_int_equal(fake_guard_open(w->guard), 0);
	w->workers = workers_free(w->workers);
	fanout_free(w->fanout);
	fake_guard_free(w->guard);
	catalogue_free(w->catalogue);
	registry_free(w->registry);
	locks_free(w->locks);
	state_store_free(w->store);
	state_store_free(w->writer_store);
	json_decref(w->result);
	sd_event_unref(w->event);
	remove_dir(w->dir, "sessions");
	remove_dir(w->dir, "writers");
	assert_int_equal(rmdir(w->dir), 0);
	free(w);
}

/* What lies in storage stays; the catalogue, the locks, the calls and jobs under way are gone with the process. */
void world_restart(struct world *w, bool owner_lives)
{
	autojson json_t *stored = NULL;
	json_t *value;
	const char *id;
	struct err err = { 0 };

	sessions_free(&w->context);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	fake_workers_cancel_all(w->workers);
	locks_free(w->locks);
	catalogue_free(w->catalogue);
	make_context(w);
	tape_clear();
	stored = sessions_stored(&w->context);
	json_object_foreach(stored, id, value) {
		assert_int_equal(session_restore(&w->context, value, &err), 0);
		session_resume(session_find(&w->context, id), owner_lives);
	}
}

/* ---- writers ---- */

static json_t *component_at(const char *path, size_t length)
{
	return json_pack("{ss% ss s[{ss%}]}", "Name", path, length, "Type", "database", "Files", "Path", path, length);
}

struct writer *world_writer(struct world *w, const char *name, const char *level, const char *paths, const char *events,
			    const char *more)
{
	char id[ID_SIZE], bus_name[64];
	json_t *components = json_array();
	autojson json_t *metadata = NULL, *further = more ? json_loads(more, 0, NULL) : NULL;
	struct writer *writer = NULL;
	struct err err = { 0 };

	snprintf(id, sizeof id, "00000000-0000-4000-8000-%012x", ++w->n_writers);
	snprintf(bus_name, sizeof bus_name, ":%s", name);
	for (const char *path = paths; path && *path;) {
		size_t n = strcspn(path, ":");
		json_array_append_new(components, component_at(path, n));
		path += n + (path[n] == ':');
	}
	metadata = json_pack("{ss ss ss ss so}", "Id", id, "Instance", id, "Name", name, "Level", level, "Components",
			     components);
	if (events)
		json_object_set_new(metadata, "Events", json_loads(events, 0, NULL));
	assert_true(!more || further);
	json_object_update(metadata, further);
	if (registry_register(w->registry, bus_name, 0, "/org/vssd/Writer", metadata, &writer, &err) < 0)
		fail_msg("%s", err.text);
	return writer;
}

void world_writer_dies(struct world *w, const char *name)
{
	char bus_name[64];

	snprintf(bus_name, sizeof bus_name, ":%s", name);
	registry_connection_lost(w->registry, bus_name);
}

/* ---- time ---- */

void world_turns(struct world *w)
{
	while (sd_event_run(w->event, 0) > 0)
		;
}

static void wait_for(struct world *w, const unsigned *counter, unsigned n)
{
	uint64_t end = clock_now() + PATIENCE;

	while (*counter < n && clock_now() < end)
		sd_event_run(w->event, USEC_PER_SEC);
	if (*counter < n)
		fail_msg("it did not end:\n%s", tape_text());
	world_turns(w);
}

void world_wait_finished(struct world *w, unsigned n)
{
	wait_for(w, &w->finished, n);
}

void world_wait_closed(struct world *w, unsigned n)
{
	wait_for(w, &w->closed, n);
}

uint64_t world_limit_left(const struct session *s)
{
	int enabled = SD_EVENT_OFF;
	uint64_t usec = 0;

	if (s->timer)
		sd_event_source_get_enabled(s->timer, &enabled);
	if (enabled == SD_EVENT_OFF)
		return USEC_INFINITY;
	sd_event_source_get_time(s->timer, &usec);
	return usec - clock_now();
}

void world_expire(struct world *w, struct session *s)
{
	assert_true(world_limit_left(s) != USEC_INFINITY);
	sd_event_source_set_time(s->timer, clock_now());
	world_turns(w);
}

/* ---- sessions ---- */

struct session_options world_options(void)
{
	return (struct session_options){ .backup_type = "copy", .wait = 60 * USEC_PER_SEC, .command = "backup tool" };
}

struct session *world_session_with(struct world *w, const struct session_options *options)
{
	struct session *s = NULL;
	struct err err = { 0 };

	if (session_new(&s, &w->context, options, ":requestor", 0, 42, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

struct session *world_session(struct world *w)
{
	struct session_options options = world_options();

	return world_session_with(w, &options);
}

void world_add(struct world *w, struct session *s, const char *volume)
{
	struct err err = { 0 };

	if (session_add_volume(s, fake_workers_volume_row(w->workers, volume), &err) < 0)
		fail_msg("%s", err.text);
}

struct session *world_set_with(struct world *w, const struct session_options *options)
{
	struct session *s = world_session_with(w, options);
	struct err err = { 0 };

	world_add(w, s, "data");
	if (session_snapshot(s, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
	return s;
}

struct session *world_set(struct world *w)
{
	struct session_options options = world_options();

	return world_set_with(w, &options);
}

/* ---- what came of it ---- */

bool world_succeeded(const struct world *w)
{
	return json_is_true(json_object_get(w->result, "Success"));
}

const char *world_result_text(const struct world *w, const char *member)
{
	return json_string_value(json_object_get(w->result, member)) ?: "";
}

void world_assert_failed(struct world *w, struct session *s, enum vss_error error)
{
	assert_state(s, "Failed");
	assert_string_equal(s->operation, "");
	assert_false(world_succeeded(w));
	if (strcmp(world_result_text(w, "Error"), error_name(error)) != 0)
		fail_msg("failed with %s: %s\n%s", world_result_text(w, "Error"), world_result_text(w, "Message"),
			 tape_text());
	assert_null(s->lock);
	assert_null(s->writer_lock);
	assert_null(s->job);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	assert_int_equal(catalogue_count(w->catalogue), 0);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	assert_int_equal(fake_fanout_holds(w->fanout), 0);
	assert_int_equal(fake_guard_open(w->guard), 0);
	assert_int_equal(workers_busy(w->workers), 0);
	for (size_t i = 0; i < s->n_participants; i++) {
		char abort_line[64];
		const struct participant *p = &s->participants[i];
		if (!p->told || !p->writer->present)
			continue;
		snprintf(abort_line, sizeof abort_line, "Abort %s\n", p->writer->bus_name);
		if (tape_count(abort_line) == 0)
			fail_msg("no %s in\n%s", abort_line, tape_text());
	}
}

void world_assert_next_set_works(struct world *w)
{
	unsigned before = w->finished;
	struct session *s;

	fake_fanout_obey(w->fanout);
	fake_workers_obey(w->workers);
	fake_guard_obey(w->guard);
	s = world_set(w);
	if (w->finished != before + 1 || !world_succeeded(w))
		fail_msg("the next set: %s, %s\n%s", session_state_name(s->state), world_result_text(w, "Message"),
			 tape_text());
	for (size_t i = 0; i < s->n_participants; i++)
		assert_true(!s->participants[i].takes_part || s->participants[i].writer->record.error == VSS_OK);
}

const struct participant *world_participant(const struct session *s, const char *name)
{
	for (size_t i = 0; i < s->n_participants; i++)
		if (strcmp(s->participants[i].writer->name, name) == 0)
			return &s->participants[i];
	fail_msg("no participant %s", name);
	return NULL;
}

bool world_timeline_has(const struct session *s, const char *phase, const char *writer, const char *outcome)
{
	size_t i;
	json_t *row;

	json_array_foreach(s->timeline, i, row) {
		if (strcmp(json_string_value(json_object_get(row, "Phase")), phase) == 0 &&
		    strcmp(json_string_value(json_object_get(row, "Writer")), writer) == 0 &&
		    (!outcome || strcmp(json_string_value(json_object_get(row, "Outcome")), outcome) == 0))
			return json_integer_value(json_object_get(row, "BeginUsec")) <=
			       json_integer_value(json_object_get(row, "EndUsec"));
	}
	return false;
}
