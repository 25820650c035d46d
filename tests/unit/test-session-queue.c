/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets that are in each other's way, sets that are repeated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-world.h"

static int setup(void **state)
{
	*state = world_new(NULL);
	world_writer(*state, "one", "front-end", "/data/one", NULL, NULL);
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

static struct session *prepared(struct world *w, const char *volume)
{
	struct session *s = world_session(w);
	struct err err = { 0 };

	world_add(w, s, volume);
	assert_int_equal(session_prepare(s, &err), 0);
	world_turns(w);
	assert_state(s, "Prepared");
	return s;
}

static void waits_for_its_turn(void **state)
{
	struct world *w = *state;
	struct session *first = prepared(w, "data"), *second = world_set(w), *third = world_set(w);
	autojson json_t *others = session_waiting_for(third);
	json_t *row = json_array_get(others, 0);

	assert_state(second, "Waiting");
	assert_state(third, "Waiting");
	assert_int_equal(json_array_size(others), 2);
	assert_string_equal(json_string_value(json_object_get(row, "Session")), first->id);
	assert_string_equal(json_string_value(json_object_get(row, "Command")), "backup tool");
	assert_string_equal(json_string_value(json_object_get(row, "Domain")), "data");
	tape_clear();
	session_close(first, false);
	world_turns(w);
	assert_state(second, "Created");
	assert_state(third, "Created");
	/* one after the other, never both frozen */
	assert_int_equal(tape_count("Freeze"), 2);
	assert_int_equal(tape_count("finished DoSnapshotSet ok"), 2);
	const char *freeze = strstr(tape_text(), "Freeze"), *thaw = strstr(tape_text(), "Thaw");
	assert_true(strstr(freeze + 1, "Freeze") > thaw);
}

static void names_who_is_in_the_way(void **state)
{
	struct world *w = *state;
	struct session *holder = prepared(w, "data"), *s;
	struct session_options options = world_options();

	options.wait = 0; /* at once */
	s = world_set_with(w, &options);
	assert_state(s, "Failed");
	assert_string_equal(world_result_text(w, "Error"), "SnapshotSetInProgress");
	assert_non_null(strstr(world_result_text(w, "Message"), holder->id));
	assert_non_null(strstr(world_result_text(w, "Message"), "pid 42, backup tool"));
	assert_non_null(strstr(world_result_text(w, "Message"), "shares data"));
	assert_true(json_is_true(json_object_get(w->result, "Retryable")));
	s = world_set(w); /* and after its patience */
	assert_state(s, "Waiting");
	world_expire(w, s);
	assert_state(s, "Failed");
	assert_string_equal(world_result_text(w, "Error"), "SnapshotSetInProgress");
	assert_non_null(strstr(world_result_text(w, "Message"), holder->id));
	assert_state(holder, "Prepared"); /* undisturbed */
}

static void names_who_has_the_writer(void **state)
{
	struct world *w = *state;
	struct session *holder, *s;
	struct session_options options = world_options();

	world_writer(w, "wide", "front-end", NULL, NULL, "{\"Scope\": \"all-volumes\"}");
	holder = prepared(w, "logs");
	options.wait = 0;
	s = world_set_with(w, &options);
	assert_state(s, "Failed");
	assert_string_equal(world_result_text(w, "Error"), "SnapshotSetInProgress");
	assert_non_null(strstr(world_result_text(w, "Message"), "writer:"));
	assert_non_null(strstr(world_result_text(w, "Message"), holder->id));
	assert_int_equal(tape_count("Abort"), 0); /* nobody was told anything */
	s = world_set(w);
	assert_state(s, "WaitingForWriters");
	session_close(holder, false);
	world_turns(w);
	assert_state(s, "Created");
}

static void disjoint_sets_run_side_by_side(void **state)
{
	struct world *w = *state;
	struct session *other;
	struct err err = { 0 };

	world_writer(w, "other", "front-end", "/logs", NULL, NULL);
	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	struct session *s = world_set(w);
	assert_state(s, "Cutting");
	other = world_session(w);
	world_add(w, other, "logs");
	assert_int_equal(session_snapshot(other, &err), 0);
	world_turns(w);
	assert_state(other, "Cutting");
	fake_workers_answer(w->workers, "cut", VSS_OK);
	fake_workers_answer(w->workers, "cut", VSS_OK);
	world_turns(w);
	assert_state(s, "Created");
	assert_state(other, "Created");
}

/* The requestor reads its copies for hours: that is in nobody's way. */
static void created_holds_nothing(void **state)
{
	struct world *w = *state;

	assert_state(world_set(w), "Created");
	assert_state(world_set(w), "Created");
}

static void volumes_with_a_common_domain(void **state)
{
	struct world *w = *state;
	struct session *s;
	struct err err = { 0 };

	fake_workers_volume(w->workers, "/a", "a", "disk");
	fake_workers_volume(w->workers, "/b", "b", "disk");
	prepared(w, "a");
	s = world_session(w);
	world_add(w, s, "b");
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_state(s, "Waiting");
}

/* What the plan adds is locked too. */
static void added_volumes_wait_as_well(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();
	struct session *holder = prepared(w, "logs"), *s;

	world_writer(w, "both", "front-end", NULL, NULL,
		     "{\"Components\": [{\"Name\": \"db\", \"Files\": [{\"Path\": \"/data/db\"}], \"Requires\": [\"/logs/db\"]}]}");
	options.add_missing_volumes = true;
	s = world_set_with(w, &options);
	assert_state(s, "WaitingForWriters");
	assert_int_equal(s->n_members, 2);
	session_close(holder, false);
	world_turns(w);
	assert_state(s, "Created");
	assert_int_equal(json_array_size(json_object_get(w->result, "Shadows")), 2);
}

static void prepared_and_forgotten(void **state)
{
	struct world *w = *state;
	struct session *s = prepared(w, "data"), *next = world_set(w);

	assert_true(world_limit_left(s) <= 60200 * USEC_PER_MSEC && world_limit_left(s) > 58 * USEC_PER_SEC);
	world_expire(w, s);
	assert_state(s, "Failed");
	assert_non_null(strstr(s->error.text, "within a minute"));
	assert_int_equal(tape_count("Abort :one"), 1);
	assert_state(next, "Created");
}

/* ---- retries ---- */

static struct session *retried(struct world *w, unsigned retries)
{
	struct session_options options = world_options();

	options.retries = retries;
	return world_set_with(w, &options);
}

static void fails_at(struct world *w, const char *event, enum vss_error error)
{
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":one", .event = event, .mode = FAKE_ERROR,
								.error = error });
}

static void not_retried_unless_asked(void **state)
{
	struct world *w = *state;

	fails_at(w, "Freeze", VSS_E_WRITER_RETRYABLE);
	assert_state(world_set(w), "Failed");
}

static void retried_until_it_works(void **state)
{
	static const enum vss_error errors[] = { VSS_E_WRITER_RETRYABLE, VSS_E_WRITER_TIMED_OUT,
						 VSS_E_WRITER_OUT_OF_RESOURCES };
	struct world *w = *state;
	char set[ID_SIZE], copy[ID_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		fails_at(w, "Freeze", errors[i]);
		struct session *s = retried(w, 2);
		assert_state(s, "Retrying");
		assert_null(s->lock); /* others may go first */
		assert_true(world_limit_left(s) <= 700 * USEC_PER_MSEC);
		memcpy(set, s->set, ID_SIZE);
		memcpy(copy, s->members[0].copy, ID_SIZE);
		tape_clear();
		world_expire(w, s);
		assert_state(s, "Retrying");
		assert_string_not_equal(s->set, set); /* a repeated attempt is another set */
		assert_string_not_equal(s->members[0].copy, copy);
		assert_int_equal(tape_count("Freeze :one"), 1);
		fake_fanout_obey(w->fanout);
		world_expire(w, s);
		assert_state(s, "Created");
		json_t *attempts = json_object_get(w->result, "Attempts");
		assert_int_equal(json_array_size(attempts), 3);
		assert_string_equal(json_string_value(json_object_get(json_array_get(attempts, 0), "Error")),
				    error_name(errors[i]));
		assert_string_equal(json_string_value(json_object_get(json_array_get(attempts, 2), "Error")), "");
		assert_int_equal(json_integer_value(json_object_get(json_array_get(attempts, 1), "Number")), 2);
		assert_string_equal(world_result_text(w, "Consistency"), "application");
	}
}

static void retried_in_vain(void **state)
{
	struct world *w = *state;
	struct session *s;

	fails_at(w, "PrepareSnapshot", VSS_E_WRITER_RETRYABLE);
	s = retried(w, 2);
	world_expire(w, s);
	world_expire(w, s);
	world_assert_failed(w, s, VSS_E_WRITER_RETRYABLE);
	assert_int_equal(json_array_size(json_object_get(w->result, "Attempts")), 3);
	assert_int_equal(tape_count("finished"), 1); /* the requestor hears the end only */
}

/* One of the failures would fail again by itself: then all of them are final. */
static void never_what_cannot_be_retried(void **state)
{
	struct world *w = *state;

	fails_at(w, "Freeze", VSS_E_WRITER_NON_RETRYABLE);
	world_assert_failed(w, retried(w, 5), VSS_E_WRITER_NON_RETRYABLE);
	world_writer(w, "two", "front-end", "/data", NULL, NULL);
	fails_at(w, "Freeze", VSS_E_WRITER_RETRYABLE);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":two", .event = "Abort", .mode = FAKE_ERROR,
								.error = VSS_E_WRITER_NON_RETRYABLE });
	world_assert_failed(w, retried(w, 5), VSS_E_WRITER_RETRYABLE);
	assert_int_equal(tape_count("finished"), 2);
}

static void provider_failures_are_retried_too(void **state)
{
	struct world *w = *state;
	struct session *s;

	fake_workers_rule(w->workers, "cut", FAKE_ERROR, VSS_E_INSUFFICIENT_STORAGE, NULL);
	assert_state(retried(w, 1), "Failed");
	fake_workers_rule(w->workers, "cut", FAKE_ERROR, VSS_E_UNEXPECTED_PROVIDER_ERROR, NULL);
	s = retried(w, 1);
	assert_state(s, "Retrying");
	fake_workers_obey(w->workers);
	world_expire(w, s);
	assert_state(s, "Created");
}

/* The next attempt queues again, for as long as the first one did. */
static void a_retry_waits_anew(void **state)
{
	struct world *w = *state;
	struct session *s, *other;

	fails_at(w, "Freeze", VSS_E_WRITER_RETRYABLE);
	s = retried(w, 1);
	assert_state(s, "Retrying");
	fake_fanout_obey(w->fanout);
	s->wait_deadline = s->wait_deadline > clock_now() + 59 * USEC_PER_SEC ? s->wait_deadline : 0;
	assert_true(s->wait_deadline != 0);
	other = prepared(w, "data");
	world_expire(w, s);
	assert_state(s, "Waiting");
	session_close(other, false);
	world_turns(w);
	assert_state(s, "Created");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(waits_for_its_turn),
		TEST(names_who_is_in_the_way),
		TEST(names_who_has_the_writer),
		TEST(disjoint_sets_run_side_by_side),
		TEST(created_holds_nothing),
		TEST(volumes_with_a_common_domain),
		TEST(added_volumes_wait_as_well),
		TEST(prepared_and_forgotten),
		TEST(not_retried_unless_asked),
		TEST(retried_until_it_works),
		TEST(retried_in_vain),
		TEST(never_what_cannot_be_retried),
		TEST(provider_failures_are_retried_too),
		TEST(a_retry_waits_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
