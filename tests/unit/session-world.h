/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vssd without bus and storage: the coordinator's modules over fake writers and workers, on a real event loop.
 * Include after cmocka.h. */
#pragma once

#include "coordinator/catalogue.h"
#include "coordinator/session-internal.h"
#include "tests/unit/fake-fanout.h"
#include "tests/unit/fake-guard.h"
#include "tests/unit/fake-workers.h"
#include "tests/unit/tape.h"

#define WORLD_MACHINE "00000000000000000000000000000001"

struct world {
	sd_event *event;
	struct config config;
	struct manifests manifests;
	struct workers *workers;
	struct fanout *fanout;
	struct guard *guard;
	struct locks *locks;
	struct catalogue *catalogue;
	struct registry *registry;
	struct state_store *store, *writer_store;
	struct session_context context;
	char dir[64];
	unsigned n_writers;

	/* what the requestor was told */
	unsigned finished, closed, state_changes;
	char operation[24];
	json_t *result;
};

/* manifests: of expected writers, borrowed; NULL: none. Two volumes are there: /data (id "data") and /logs (id "logs"),
 * each a filesystem of its own; and /vol and /more (ids "vol", "more"), each a logical volume. */
struct world *world_new(const struct manifests *manifests);
/* Sessions that are still there are ended as when vssd ends. Nothing may be open after it. */
void world_free(struct world *world);
/* As vssd killed and started again: sessions are restored from the store and resumed; writers stay registered. */
void world_restart(struct world *world, bool owner_lives);

/* A writer ":NAME" with one component on each of the paths (separated by ':', may be NULL). events: JSON array of those it
 * wants besides the three; NULL: all. more: JSON object of further members of its metadata; NULL: none. */
struct writer *world_writer(struct world *world, const char *name, const char *level, const char *paths,
			    const char *events, const char *more);
void world_writer_dies(struct world *world, const char *name);

/* All that can happen without time passing. */
void world_turns(struct world *world);
/* Until n operations have finished in all; fails the test after half a minute. */
void world_wait_finished(struct world *world, unsigned n);
void world_wait_closed(struct world *world, unsigned n);
/* Ends the state's limit now; there has to be one. */
void world_expire(struct world *world, struct session *session);
/* When the state's limit ends, in usec from now; USEC_INFINITY: it has none. */
uint64_t world_limit_left(const struct session *session);

struct session *world_session(struct world *world);
struct session *world_session_with(struct world *world, const struct session_options *options);
void world_add(struct world *world, struct session *session, const char *volume);
/* DoSnapshotSet of /data in a new session, as far as it goes without time passing. */
struct session *world_set(struct world *world);
struct session *world_set_with(struct world *world, const struct session_options *options);
/* The usual options, to be changed. */
struct session_options world_options(void);

/* ---- what came of it ---- */

#define assert_state(session, name) assert_string_equal(session_state_name((session)->state), name)
bool world_succeeded(const struct world *world);
/* Members of the last result. */
const char *world_result_text(const struct world *world, const char *member);
/* A set has failed as it should: the error, Abort to all that are told, no copies, no descriptors, locks free. */
void world_assert_failed(struct world *world, struct session *session, enum vss_error error);
/* A new session makes a set from the same volume, with what has happened before forgotten. */
void world_assert_next_set_works(struct world *world);
const struct participant *world_participant(const struct session *session, const char *name);
/* Has the timeline a row of this phase, writer and outcome (NULL: any)? */
bool world_timeline_has(const struct session *session, const char *phase, const char *writer, const char *outcome);
