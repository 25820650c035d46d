/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd is killed and started again in every state: what was created goes on, what was being created is undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-stops.h"

/* Who was told by the former vssd, from its tape: every one of them has to hear Abort from the new one. */
static unsigned told_of_the_set(void)
{
	static const char *const events[] = { "PrepareBackup", "PrepareSnapshot", "Freeze" };
	unsigned told = 0;

	for (int i = 0; i < 3; i++) {
		for (size_t e = 0; e < ARRAY_SIZE(events); e++) {
			char line[64];
			snprintf(line, sizeof line, "%s :%c\n", events[e], "bfs"[i]);
			if (tape_count(line))
				told |= 1u << i;
		}
	}
	return told;
}

static void assert_all_told_are_aborted(unsigned told)
{
	for (int i = 0; i < 3; i++) {
		char line[64];
		snprintf(line, sizeof line, "Abort :%c\n", "bfs"[i]);
		if (told & (1u << i) && tape_count(line) == 0)
			fail_msg("no %s in\n%s", line, tape_text());
	}
}

static bool is_between(enum session_state s, enum session_state first, enum session_state last)
{
	return s >= first && s <= last;
}

static void after_restart(struct world *w, struct session *s, const struct stop *stop, enum session_state before,
			  bool undo, unsigned told)
{
	if (undo) {
		assert_all_told_are_aborted(told);
		world_assert_failed(w, s,
				    stop->fails ? VSS_E_WRITER_RETRYABLE : VSS_E_COORDINATOR_RESTARTED);
	} else if (is_between(before, SESSION_GATHERING, SESSION_WAITING_FOR_WRITERS)) {
		/* Nobody was told anything: it begins anew, or gives up, but does not hang. */
		assert_string_equal(s->operation, "");
		assert_true(w->finished > 0);
	} else if (before == SESSION_CREATED) {
		assert_state(s, "Created");
		assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 1);
	} else if (before == SESSION_COMPLETING || before == SESSION_COMPLETED) {
		assert_state(s, "Completed");
	} else if (before == SESSION_CLOSING) {
		assert_null(s);
	}
}

static void restarted_in_every_state(void **state)
{
	for (size_t i = 0; i < n_stops; i++) {
		struct world *w = world_new(NULL);
		print_message("%s\n", stops[i].state);
		struct session *s = stop_in(w, &stops[i]);
		enum session_state before = s->state;
		char id[ID_SIZE];
		/* A set that is prepared is not yet in the requestor's hands as an operation. */
		bool undo = is_between(before, SESSION_PREPARING_BACKUP, SESSION_SEALING) && before != SESSION_PREPARED;
		unsigned told = told_of_the_set();
		undo = undo || before == SESSION_ABORTING_WRITERS || before == SESSION_ABORTING_COPIES;
		fake_fanout_obey(w->fanout);
		fake_workers_obey(w->workers);
		w->finished = 0;
		memcpy(id, s->id, ID_SIZE);
		world_restart(w, true);
		world_turns(w);
		after_restart(w, session_find(&w->context, id), &stops[i], before, undo, undo ? told : 0);
		world_free(w);
	}
}

static void owner_went_with_it(void **state)
{
	for (size_t i = 0; i < n_stops; i++) {
		struct world *w = world_new(NULL);
		print_message("%s\n", stops[i].state);
		struct session *s = stop_in(w, &stops[i]);
		bool undo = session_state_is_creating(s->state);
		unsigned told = told_of_the_set();
		fake_fanout_obey(w->fanout);
		fake_workers_obey(w->workers);
		world_restart(w, false);
		world_turns(w);
		if (undo)
			assert_all_told_are_aborted(told);
		/* An idle session that never had anything to say may not even be on /run. */
		assert_int_equal(w->context.n_sessions, 0);
		/* What is left of volatile copies is swept when storage is read. */
		catalogue_refresh(w->catalogue, NULL, NULL);
		world_turns(w);
		assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
		world_free(w);
	}
}

static void all_of_it_is_kept(void **state)
{
	struct world *w = world_new(NULL);
	struct session_options options = world_options();
	struct session *s;
	autojson json_t *before = NULL, *after = NULL;
	struct err err = { 0 };

	options.require = json_pack("[s]", "one");
	options.exclude = json_pack("[s]", "none");
	options.include = json_pack("[s]", "one");
	options.retries = 3;
	options.recursive = options.add_missing_volumes = options.persistent = true;
	options.on_writer_failure = WRITER_FAILURE_DEGRADES;
	world_writer(w, "one", "front-end", "/data/one", NULL, NULL);
	s = world_session_with(w, &options);
	assert_int_equal(session_select(s, "one", "/data/one", &err), 0);
	world_add(w, s, "data");
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_state(s, "Created");
	assert_int_equal(session_set_succeeded(s, false, "one", "/data/one", &err), 0);
	before = session_to_json(s);
	world_restart(w, true);
	after = session_to_json(w->context.sessions);
	assert_true(json_equal(before, after));
	/* and it goes on: the same writers hear the rest, with what was said before */
	assert_int_equal(session_complete(w->context.sessions, &err), 0);
	world_turns(w);
	assert_int_equal(tape_count("BackupComplete :one"), 1);
	json_t *event = json_array_get(fake_fanout_last(w->fanout, "BackupComplete", ":one")->args, 3);
	assert_int_equal(json_array_size(json_object_get(event, "FailedComponents")), 1);
	world_free(w);
}

static void lease_goes_on(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s = world_set(w);
	char token[ID_SIZE];
	struct err err = { 0 };

	assert_int_equal(session_detach(s, 1, token, &err), 0);
	world_restart(w, true);
	s = w->context.sessions;
	assert_string_equal(s->token, token);
	assert_non_null(s->lease);
	assert_int_equal(session_adopt(s, ":new", 1, 7, &err), -1); /* another user */
	assert_int_equal(session_adopt(s, ":new", 0, 7, &err), 0);
	assert_null(s->lease);
	assert_int_equal(session_adopt(s, ":third", 0, 8, &err), -1);
	assert_int_equal(session_detach(s, 0, token, &err), -1);
	assert_int_equal(session_detach(s, 8 * 24 * 3600, token, &err), -1);
	assert_int_equal(session_detach(s, 1, token, &err), 0);
	sd_event_source_set_time(s->lease, clock_now());
	world_turns(w);
	assert_int_equal(w->closed, 1);
	world_free(w);
}

/* A retry that was waiting for its turn, and a set that may be retried, are retried by the new vssd. */
static void retries_are_kept(void **state)
{
	struct world *w = world_new(NULL);
	struct session_options options = world_options();
	struct session *s;

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	options.retries = 1;
	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	world_set_with(w, &options);
	fake_workers_obey(w->workers);
	world_restart(w, true);
	world_turns(w);
	s = w->context.sessions;
	assert_state(s, "Retrying");
	world_expire(w, s);
	assert_state(s, "Created");
	assert_int_equal(json_array_size(json_object_get(w->result, "Attempts")), 2);
	world_free(w);
}

static void nonsense_on_run_is_refused(void **state)
{
	static const char *const stored[] = {
		"{}", "[]", "{\"State\": \"Nowhere\", \"Id\": \"x\"}",
		"{\"State\": \"Created\", \"Id\": \"00000000-0000-4000-8000-000000000001\", \"Set\": \"..\"}",
		"{\"State\": 7, \"Id\": 8, \"Set\": 9}",
	};
	struct world *w = world_new(NULL);
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(stored); i++) {
		autojson json_t *value = json_loads(stored[i], 0, NULL);
		assert_int_equal(session_restore(&w->context, value, &err), -1);
		assert_int_equal(err.code, VSS_E_INVALID_DOCUMENT);
	}
	assert_int_equal(w->context.n_sessions, 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restarted_in_every_state), cmocka_unit_test(owner_went_with_it),
		cmocka_unit_test(all_of_it_is_kept),	    cmocka_unit_test(lease_goes_on),
		cmocka_unit_test(retries_are_kept),	    cmocka_unit_test(nonsense_on_run_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
