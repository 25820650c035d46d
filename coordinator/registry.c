/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/writer-metadata.h"

#define GONE_WRITERS_MAX 64 /* unexpected writers that failed and went, kept for the list */

struct registry {
	const struct manifests *manifests;
	struct state_store *store;
	struct registry_listener listener;
	struct writer *first;
	size_t n_present, max_writers;
};

/* ---- writers ---- */

struct writer *writer_ref(struct writer *writer)
{
	writer->refs++;
	return writer;
}

struct writer *writer_unref(struct writer *writer)
{
	if (!writer || --writer->refs > 0)
		return NULL;
	free(writer->name);
	free(writer->instance_name);
	free(writer->version);
	free(writer->bus_name);
	free(writer->path);
	json_decref(writer->components);
	json_decref(writer->metadata);
	free(writer);
	return NULL;
}

static struct writer *writer_new(void)
{
	struct writer *writer = calloc(1, sizeof *writer);

	if (!writer)
		return NULL;
	writer->refs = 1;
	writer->uid = (uid_t)-1;
	writer->record.state = WRITER_STATE_STABLE;
	return writer;
}

static void insert(struct registry *registry, struct writer *writer)
{
	struct writer **link = &registry->first;

	while (*link && strcasecmp((*link)->name, writer->name) <= 0)
		link = &(*link)->next;
	writer->next = *link;
	*link = writer;
	writer->registry = registry;
	registry->listener.added(writer, registry->listener.data);
}

static void drop(struct writer *writer)
{
	struct registry *registry = writer->registry;

	for (struct writer **link = &registry->first; *link; link = &(*link)->next) {
		if (*link == writer) {
			*link = writer->next;
			break;
		}
	}
	registry->listener.removed(writer, registry->listener.data);
	writer->registry = NULL;
	writer->next = NULL;
	writer_unref(writer);
}

static void changed(struct writer *writer)
{
	if (writer->registry)
		writer->registry->listener.changed(writer, writer->registry->listener.data);
}

/* An expected writer that is not there is a row of its own, with the manifest's id in place of an instance. */
static struct writer *add_expected(struct registry *registry, const struct manifest *manifest)
{
	struct writer *writer = writer_new();

	if (!writer)
		return NULL;
	memcpy(writer->id, manifest->id, ID_SIZE);
	memcpy(writer->instance, manifest->id, ID_SIZE);
	writer->name = strdup(manifest->name);
	writer->instance_name = strdup("");
	writer->version = strdup("");
	writer->components = json_array();
	writer->manifest = manifest;
	writer->level = manifest->level >= 0 ? (enum writer_level)manifest->level : WRITER_LEVEL_FRONT_END;
	if (!writer->name || !writer->instance_name || !writer->version)
		return writer_unref(writer);
	insert(registry, writer);
	return writer;
}

struct registry *registry_new(const struct manifests *manifests, struct state_store *store, unsigned max_writers,
			      const struct registry_listener *listener)
{
	struct registry *registry = calloc(1, sizeof *registry);

	if (!registry)
		return NULL;
	*registry = (struct registry){ .manifests = manifests, .store = store, .max_writers = max_writers };
	registry->listener = *listener;
	for (size_t i = 0; i < manifests->n; i++)
		if (!add_expected(registry, &manifests->items[i]))
			return registry_free(registry);
	return registry;
}

struct registry *registry_free(struct registry *registry)
{
	if (!registry)
		return NULL;
	while (registry->first)
		drop(registry->first);
	free(registry);
	return NULL;
}

struct writer *registry_first(const struct registry *registry)
{
	return registry->first;
}

size_t registry_present(const struct registry *registry)
{
	return registry->n_present;
}

bool writer_matches(const struct writer *writer, const char *text)
{
	char id[ID_SIZE];

	if (strcasecmp(writer->name, text) == 0)
		return true;
	return id_parse(text, id) && (strcmp(writer->id, id) == 0 || strcmp(writer->instance, id) == 0);
}

struct writer *registry_find(const struct registry *registry, const char *text)
{
	for (struct writer *w = registry->first; w; w = w->next)
		if (writer_matches(w, text))
			return w;
	return NULL;
}

struct writer *registry_find_instance(const struct registry *registry, const char *instance)
{
	for (struct writer *w = registry->first; w; w = w->next)
		if (strcmp(w->instance, instance) == 0)
			return w;
	return NULL;
}

/* ---- keeping over a restart ---- */

static void keep(struct writer *writer)
{
	autojson json_t *value = NULL;

	if (!writer->registry->store || !writer->present)
		return;
	value = json_pack("{ss ss sI sO s{si si ss si sI sI}}", "BusName", writer->bus_name, "Path", writer->path, "Uid",
			  (json_int_t)writer->uid, "Metadata", writer->metadata, "Record", "State",
			  (int)writer->record.state, "Error", (int)writer->record.error, "Message",
			  writer->record.message, "Phase", (int)writer->record.phase, "FailedAt",
			  (json_int_t)writer->record.failed_at, "Elapsed", (json_int_t)writer->record.elapsed);
	state_store_put(writer->registry->store, writer->instance, value, NULL);
}

json_t *registry_stored(struct registry *registry)
{
	autojson json_t *all = state_store_all(registry->store);
	json_t *list = json_array(), *value;
	const char *name;

	json_object_foreach(all, name, value) {
		json_array_append(list, value);
		state_store_remove(registry->store, name); /* whoever is confirmed is kept anew */
	}
	return list;
}

void registry_restore_record(struct writer *writer, json_t *stored)
{
	json_t *record = json_object_get(stored, "Record");
	struct writer_record *r = &writer->record;

	r->state = (enum writer_state)json_integer_value(json_object_get(record, "State"));
	r->error = (enum vss_error)json_integer_value(json_object_get(record, "Error"));
	r->phase = (enum writer_event)json_integer_value(json_object_get(record, "Phase"));
	r->failed_at = (uint64_t)json_integer_value(json_object_get(record, "FailedAt"));
	r->elapsed = (uint64_t)json_integer_value(json_object_get(record, "Elapsed"));
	text_format(r->message, sizeof r->message, "%s", json_string_value(json_object_get(record, "Message")) ?: "");
	keep(writer);
	changed(writer);
}

/* ---- coming and going ---- */

bool registry_manifest_allows(const struct registry *registry, json_t *metadata, uid_t uid)
{
	const char *id = json_string_value(json_object_get(metadata, "Id"));
	const struct manifest *manifest = id ? manifests_find(registry->manifests, id) : NULL;

	return manifest && manifest->uid == uid && uid != (uid_t)-1;
}

static size_t writers_of_connection(const struct registry *registry, const char *bus_name)
{
	size_t n = 0;

	for (const struct writer *w = registry->first; w; w = w->next)
		n += w->present && strcmp(w->bus_name, bus_name) == 0;
	return n;
}

static int check_room(const struct registry *registry, const struct writer *same, const char *id, const char *bus_name,
		      uid_t uid, struct err *err)
{
	/* An expected writer's row bears its manifest's id as an instance: taking that would make it expected no more. */
	if (same && (same->present || same->manifest) && strcmp(same->id, id) != 0)
		return err_set(err, VSS_E_OBJECT_ALREADY_EXISTS, "Instance %s belongs to the writer '%s', which has another Id",
			       same->instance, same->name);
	if (same && same->present && same->uid != uid)
		return err_set(err, VSS_E_OBJECT_ALREADY_EXISTS,
			       "Instance %s is registered already, by user %u: each instance of a writer needs an instance id of its own",
			       same->instance, (unsigned)same->uid);
	if (same && same->present && strcmp(same->bus_name, bus_name) == 0)
		return 0;
	if (writers_of_connection(registry, bus_name) >= REGISTRY_WRITERS_PER_CONNECTION)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "A connection may register at most %d writers",
			       REGISTRY_WRITERS_PER_CONNECTION);
	if (!(same && same->present) && registry->n_present >= registry->max_writers)
		return err_set(err, VSS_E_LIMITS_EXCEEDED,
			       "At most %zu writers may be registered (MaxWriters in vssd.conf)", registry->max_writers);
	return 0;
}

static struct writer *make_present(const char *bus_name, uid_t uid, const char *path, json_t *metadata,
				   const struct manifest *manifest, struct err *err)
{
	struct writer *writer = writer_new();

	if (!writer)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a writer"), NULL;
	writer->manifest = manifest;
	writer->present = true;
	writer->uid = uid;
	writer->bus_name = strdup(bus_name);
	writer->path = strdup(path);
	writer->last_heard = clock_now();
	snprintf(writer->id, ID_SIZE, "%s", json_string_value(json_object_get(metadata, "Id")));
	snprintf(writer->instance, ID_SIZE, "%s", json_string_value(json_object_get(metadata, "Instance")));
	if (!writer->bus_name || !writer->path || writer_metadata_apply(writer, metadata, err) < 0)
		return writer_unref(writer);
	return writer;
}

static struct writer *find_placeholder(const struct registry *registry, const char *id)
{
	for (struct writer *w = registry->first; w; w = w->next)
		if (!w->present && strcmp(w->id, id) == 0)
			return w;
	return NULL;
}

int registry_register(struct registry *registry, const char *bus_name, uid_t uid, const char *path, json_t *metadata,
		      struct writer **ret, struct err *err)
{
	struct writer *same, *writer, *placeholder;
	const char *id;

	if (writer_metadata_check(metadata, err) < 0)
		return -1;
	id = json_string_value(json_object_get(metadata, "Id"));
	same = registry_find_instance(registry, json_string_value(json_object_get(metadata, "Instance")));
	if (check_room(registry, same, id, bus_name, uid, err) < 0)
		return -1;
	writer = make_present(bus_name, uid, path, metadata, manifests_find(registry->manifests, id), err);
	if (!writer)
		return -1;
	if (same) {
		writer->record = same->record;
		if (same->present) {
			registry->n_present--;
			/* Another process took over; the same connection only says the same again. */
			if (strcmp(same->bus_name, bus_name) != 0)
				registry->listener.lost(same, registry->listener.data);
		}
		drop(same);
	}
	placeholder = find_placeholder(registry, id);
	if (placeholder)
		drop(placeholder);
	registry->n_present++;
	insert(registry, writer);
	keep(writer);
	if (ret)
		*ret = writer;
	return 0;
}

int registry_update(struct writer *writer, json_t *metadata, struct err *err)
{
	autojson json_t *merged = json_copy(writer->metadata);

	/* Who it is does not change while it is registered. */
	json_object_update(merged, metadata);
	for (const char **key = (const char *[]){ "Id", "Instance", "Name", NULL }; *key; key++)
		json_object_set(merged, *key, json_object_get(writer->metadata, *key));
	if (writer_metadata_check(merged, err) < 0 || writer_metadata_apply(writer, merged, err) < 0)
		return -1;
	writer->last_heard = clock_now();
	if (writer->registry)
		keep(writer);
	changed(writer);
	return 0;
}

static bool has_present_instance(const struct registry *registry, const char *id)
{
	for (const struct writer *w = registry->first; w; w = w->next)
		if (w->present && strcmp(w->id, id) == 0)
			return true;
	return false;
}

/* One that nobody expects but that failed and went stays as a row: at three in the morning that is the news. */
static bool is_worth_keeping(const struct registry *registry, const struct writer *writer)
{
	size_t kept = 0;

	for (const struct writer *w = registry->first; w; w = w->next)
		kept += !w->present && !w->manifest;
	return !writer->manifest && writer->record.error && kept < GONE_WRITERS_MAX;
}

static void leave(struct writer *writer)
{
	struct registry *registry = writer->registry;
	const struct manifest *manifest = writer->manifest;
	struct writer *placeholder;

	state_store_remove(registry->store, writer->instance);
	registry->n_present--;
	writer->present = false;
	writer_ref(writer);
	registry->listener.lost(writer, registry->listener.data);
	if (is_worth_keeping(registry, writer)) {
		changed(writer);
		writer_unref(writer);
		return;
	}
	drop(writer);
	if (manifest && !has_present_instance(registry, manifest->id) && !find_placeholder(registry, manifest->id)) {
		placeholder = add_expected(registry, manifest);
		if (placeholder) {
			/* Where its data lie is still known, and what happened to it last. */
			placeholder->record = writer->record;
			json_decref(placeholder->components);
			placeholder->components = json_incref(writer->components);
			placeholder->last_heard = writer->last_heard;
		}
	}
	writer_unref(writer);
}

int registry_unregister(struct registry *registry, const char *bus_name, const char *instance, struct err *err)
{
	struct writer *writer = registry_find_instance(registry, instance);

	if (!writer || !writer->present || strcmp(writer->bus_name, bus_name) != 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "This connection has not registered an instance %s", instance);
	leave(writer);
	return 0;
}

void registry_connection_lost(struct registry *registry, const char *bus_name)
{
	struct writer *writer = registry->first;

	while (writer) {
		if (!writer->present || strcmp(writer->bus_name, bus_name) != 0) {
			writer = writer->next;
			continue;
		}
		leave(writer);
		writer = registry->first; /* leaving may have changed the list in several places */
	}
}

/* ---- records ---- */

enum vss_error writer_error(enum vss_error error)
{
	switch ((int)error) {
	case VSS_OK:
	case VSS_E_WRITER_INCONSISTENT_SNAPSHOT:
	case VSS_E_WRITER_OUT_OF_RESOURCES:
	case VSS_E_WRITER_TIMED_OUT:
	case VSS_E_WRITER_RETRYABLE:
	case VSS_E_WRITER_NON_RETRYABLE:
	case VSS_E_WRITER_NOT_RESPONDING:
	case VSS_E_WRITER_RECOVERY_FAILED:
		return error;
	case VSS_E_TIMED_OUT:
		return VSS_E_WRITER_TIMED_OUT;
	case VSS_E_CANCELLED:
		return VSS_E_WRITER_RETRYABLE;
	default:
		return VSS_E_WRITER_NON_RETRYABLE;
	}
}

void writer_event_ended(struct writer *writer, enum writer_event event, enum vss_error error, const char *message,
			uint64_t elapsed)
{
	struct writer_record *r = &writer->record;
	bool had_failed = r->error != VSS_OK;

	writer->timings[event] = elapsed;
	if (error != VSS_E_WRITER_NOT_RESPONDING && error != VSS_E_TIMED_OUT && error != VSS_E_WRITER_TIMED_OUT)
		writer->last_heard = clock_now();
	/* The end of a set that has failed is no news about why: who hangs in Freeze hangs in Abort too. */
	if (error && had_failed && (event == WRITER_EVENT_ABORT || event == WRITER_EVENT_BACKUP_SHUTDOWN))
		return;
	if (error) {
		r->state = writer_state_failed_at(event, r->state);
		r->error = writer_error(error);
		r->phase = event;
		r->failed_at = clock_usec(CLOCK_REALTIME) / USEC_PER_SEC;
		r->elapsed = elapsed;
		text_format(r->message, sizeof r->message, "%s", message);
	} else if (!had_failed || event == WRITER_EVENT_PREPARE_BACKUP || event == WRITER_EVENT_PREPARE_SNAPSHOT ||
		   event == WRITER_EVENT_FREEZE || (event == WRITER_EVENT_IDENTIFY && r->phase == WRITER_EVENT_IDENTIFY)) {
		/* A failure stays on record until the next session's first event overwrites it (or a reset): the abort
		 * that follows it is no news about it. What a probe found, the next probe overwrites. */
		r->state = writer_state_after(event, had_failed ? WRITER_STATE_STABLE : r->state);
		r->error = VSS_OK;
		r->message[0] = '\0';
	}
	/* Going well is no news: with a thousand writers an event must not cost a file and a signal for each. */
	if (!had_failed && !error)
		return;
	if (writer->registry)
		keep(writer);
	changed(writer);
}

void writer_reset(struct writer *writer)
{
	writer->record = (struct writer_record){ .state = WRITER_STATE_STABLE };
	if (writer->registry && !writer->present && !writer->manifest) {
		drop(writer);
		return;
	}
	if (writer->registry)
		keep(writer);
	changed(writer);
}

char *component_name(json_t *component)
{
	const char *logical = json_string_value(json_object_get(component, "LogicalPath"));
	const char *name = json_string_value(json_object_get(component, "Name"));
	char *full = NULL;

	if (asprintf(&full, "%s%s%s", logical ? logical : "", logical && *logical ? "/" : "", name) < 0)
		return NULL;
	return full;
}

bool writer_has_component(const struct writer *writer, const char *name)
{
	json_t *component;
	size_t i;

	json_array_foreach(writer->components, i, component) {
		autofree char *full = component_name(component);
		if (full && strcmp(full, name) == 0)
			return true;
	}
	return false;
}

static json_t *timings_row(const struct writer *writer)
{
	json_t *row = json_object();

	for (int e = 0; e < WRITER_EVENT_COUNT; e++)
		if (writer->timings[e])
			json_object_set_new(row, writer_event_name((enum writer_event)e),
					    json_integer((json_int_t)writer->timings[e]));
	return row;
}

json_t *writer_row(const struct writer *writer)
{
	const struct writer_record *r = &writer->record;
	const struct manifest *m = writer->manifest;
	bool silent = !writer->present && !r->error;
	enum writer_state state = silent ? WRITER_STATE_UNKNOWN : r->state;
	enum vss_error error = silent ? VSS_E_WRITER_NOT_RESPONDING : r->error;
	json_t *row = json_pack("{ss ss ss ss ss ss si ss sI ss ss}", "Name", writer->name, "WriterId", writer->id,
				"InstanceId", writer->instance, "Instance", writer->instance_name, "Version",
				writer->version, "Level", writer_level_name(writer->level), "State", (int)state,
				"StateText", writer_state_text(state), "Code", (json_int_t)error_code(error),
				"LastError", error_text(error), "Message",
				silent ? "Expected, but not running" : r->message);

	json_object_update_new(
		row, json_pack("{ss sI sI ss ss sI sI sb sb sI sO ss sI so}", "Phase",
			       r->error ? writer_event_name(r->phase) : "", "FailedAt", (json_int_t)r->failed_at,
			       "ElapsedUsec", (json_int_t)r->elapsed, "Unit", m && m->unit ? m->unit : "", "BusName",
			       writer->present ? writer->bus_name : (m && m->bus_name ? m->bus_name : ""), "Uid",
			       (json_int_t)(int)writer->uid, "Pid", (json_int_t)writer->pid, "Present", writer->present, "Expected", m != NULL,
			       "AgeUsec", (json_int_t)(writer->last_heard ? clock_now() - writer->last_heard : 0),
			       "Components", writer->components, "Scope",
			       writer->all_volumes ? "all-volumes" : "components", "FreezeLimitUsec",
			       (json_int_t)writer->freeze_limit, "Timings", timings_row(writer)));
	return row;
}

json_t *registry_rows(const struct registry *registry)
{
	json_t *rows = json_array();

	for (const struct writer *w = registry->first; w; w = w->next)
		json_array_append_new(rows, writer_row(w));
	return rows;
}
