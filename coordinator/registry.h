/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The writers: those that are registered, those that manifests expect, and what each said last. No D-Bus in here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/event.h"
#include "common/id.h"
#include "coordinator/manifest.h"
#include "coordinator/state-store.h"

#define REGISTRY_WRITERS_PER_CONNECTION 16
#define WRITER_COMPONENTS_MAX 256
#define WRITER_FILES_MAX 1024
#define WRITER_NAME_MAX 80
#define WRITER_PATH_MAX 4096

struct registry;

/* What the last event that failed was, or that all is well. */
struct writer_record {
	enum writer_state state;
	enum vss_error error; /* VSS_OK, or one of the writer errors */
	enum writer_event phase;
	char message[512];   /* the writer's own words */
	uint64_t failed_at;  /* seconds since the epoch; 0: never */
	uint64_t elapsed;    /* usec of the event that failed */
};

struct writer {
	unsigned refs;
	struct registry *registry; /* NULL once it is gone from there */
	struct writer *next;

	char id[ID_SIZE], instance[ID_SIZE];
	char *name, *instance_name, *version;
	enum writer_level level;
	bool events[WRITER_EVENT_COUNT];
	bool all_volumes;
	uint64_t freeze_limit; /* usec */
	json_t *components;    /* array, as in docs/protocol.md */
	json_t *metadata;      /* as it came, for the record on /run */
	const struct manifest *manifest; /* NULL: nobody expects it */

	bool present;
	char *bus_name, *path; /* unique name and object of a present one */
	uid_t uid;
	pid_t pid; /* 0: not known (yet) */
	uint64_t last_heard; /* usec, monotonic; 0: never */

	struct writer_record record;
	uint64_t timings[WRITER_EVENT_COUNT]; /* usec of the last time, 0: never */
};

struct writer *writer_ref(struct writer *writer);
struct writer *writer_unref(struct writer *writer);

/* What a registry tells its owner (the faces, the sessions). */
struct registry_listener {
	void (*added)(struct writer *writer, void *data);
	void (*removed)(struct writer *writer, void *data); /* still valid; gone after the call unless referenced */
	void (*changed)(struct writer *writer, void *data);
	void (*lost)(struct writer *writer, void *data);    /* its process or connection ended, before removed or changed */
	void *data;
};

/* store may be NULL (nothing is kept over a restart). manifests are borrowed. */
struct registry *registry_new(const struct manifests *manifests, struct state_store *store, unsigned max_writers,
			      const struct registry_listener *listener);
struct registry *registry_free(struct registry *registry);

/* Registers, or takes the place of an absent or of the same instance of the same owner. Whether uid may own it is the
 * caller's business, see registry_manifest_allows. metadata is borrowed and checked whole before anything changes. */
int registry_register(struct registry *registry, const char *bus_name, uid_t uid, const char *path, json_t *metadata,
		      struct writer **ret, struct err *err);
/* Does a manifest name uid as the owner of writers with the metadata's Id? */
bool registry_manifest_allows(const struct registry *registry, json_t *metadata, uid_t uid);
/* After Identify: takes over what the writer now says of itself (not id, instance, name). */
int registry_update(struct writer *writer, json_t *metadata, struct err *err);
int registry_unregister(struct registry *registry, const char *bus_name, const char *instance, struct err *err);
void registry_connection_lost(struct registry *registry, const char *bus_name);
/* Writers that were registered before a restart; each is kept if confirm says that bus_name still is uid's. */
json_t *registry_stored(struct registry *registry); /* array of {"BusName", "Uid", "Path", "Metadata", "Record"} */
void registry_restore_record(struct writer *writer, json_t *stored);

struct writer *registry_first(const struct registry *registry); /* then ->next; in the order of names */
size_t registry_present(const struct registry *registry);
/* By instance id, id or name (any instance); NULL if there is none. */
struct writer *registry_find(const struct registry *registry, const char *text);
/* By instance id alone: a name may look like another writer's id. */
struct writer *registry_find_instance(const struct registry *registry, const char *instance);
bool writer_matches(const struct writer *writer, const char *text);

/* "logical/path/name"; caller frees. */
char *component_name(json_t *component);
bool writer_has_component(const struct writer *writer, const char *name);

/* The end of an event: the one place that changes a record. error VSS_OK: it went well. */
void writer_event_ended(struct writer *writer, enum writer_event event, enum vss_error error, const char *message,
			uint64_t elapsed);
void writer_reset(struct writer *writer);
/* What an error means in VSS's terms: one of the six writer errors, NOT_RESPONDING, or Non-retryable. */
enum vss_error writer_error(enum vss_error error);

json_t *writer_row(const struct writer *writer); /* as WriterRecord1 */
json_t *registry_rows(const struct registry *registry);
