/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets with volumes that have to be held: what the guard is told, what is one instant, and that nothing stays held, locked or
 * open, whatever fails. */
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

/* A set of these volumes (their ids, separated by blanks), as far as it goes without time passing. */
static struct session *set_of(struct world *w, const char *volumes)
{
	struct session *s = world_session(w);
	struct err err = { 0 };
	char id[16];

	for (int used = 0; sscanf(volumes, "%15s%n", id, &used) == 1; volumes += used)
		world_add(w, s, id);
	if (session_snapshot(s, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
	return s;
}

static struct world *world_with_writer(void)
{
	struct world *w = world_new(NULL);

	world_writer(w, "f", "front-end", "/vol/f:/data/f", NULL, NULL);
	return w;
}

static void assert_created(const struct world *w, const struct session *s)
{
	if (strcmp(session_state_name(s->state), "Created") != 0)
		fail_msg("%s: %s\n%s", session_state_name(s->state), world_result_text(w, "Message"), tape_text());
}

static size_t rows(const struct world *w, const char *member)
{
	return json_array_size(json_object_get(fake_guard_plan(w->guard), member));
}

/* ---- the way it goes ---- */

static void held_between_freeze_and_thaw(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s;

	world_writer(w, "f", "front-end", "/vol/f", NULL, NULL);
	s = set_of(w, "vol more");
	assert_created(w, s);
	assert_true(tape_before("Freeze :f", "job arm"));
	assert_true(tape_before("job arm", "guard arm"));
	assert_true(tape_before("guard arm", "guard go"));
	assert_true(tape_before("guard go", "guard free"));
	assert_true(tape_before("guard free", "Thaw :f"));
	assert_true(tape_before("Thaw :f", "job open"));
	assert_int_equal(tape_find("job cut"), -1);
	assert_string_equal(world_result_text(w, "Consistency"), "application");
	assert_string_equal(world_result_text(w, "Instant"), "set");
	assert_string_equal(world_result_text(w, "InstantReason"), "");
	world_free(w);
}

static void plan_names_everything_once(void **state)
{
	struct world *w = world_new(NULL);
	json_t *plan, *row;
	size_t i;

	set_of(w, "vol more");
	plan = fake_guard_plan(w->guard);
	assert_int_equal(rows(w, "Filesystems"), 2);
	assert_int_equal(rows(w, "Devices"), 2);
	assert_int_equal(rows(w, "Cuts"), 2);
	json_array_foreach(json_object_get(plan, "Filesystems"), i, row)
		assert_int_equal(json_integer_value(json_object_get(row, "Fd")), i);
	assert_true(json_is_false(json_object_get(plan, "Hold")));
	assert_true(json_integer_value(json_object_get(plan, "Deadline")) > (json_int_t)clock_now());
	world_free(w);
}

/* Two members on one superblock: it is frozen once, or the second freeze would find it busy. */
static void one_freeze_a_superblock(void **state)
{
	struct world *w = world_new(NULL);

	fake_workers_held_volume(w->workers, "/twin", "twin");
	fake_workers_rule(w->workers, "arm", FAKE_HOLD, VSS_OK, NULL);
	struct session *s = set_of(w, "vol twin");
	char answer[1024];
	snprintf(answer, sizeof answer,
		 "{\"Members\": [{\"Copy\": \"%s\", \"Window\": {\"Suspend\": [{\"Device\": \"253:1\"}], \"Cut\": [{}]}},"
		 "{\"Copy\": \"%s\", \"Window\": {\"Suspend\": [{\"Device\": \"253:1\"}, {\"Device\": \"253:2\"}],"
		 "\"Cut\": [{}]}}]}",
		 s->members[0].copy, s->members[1].copy);
	fake_workers_answer_with(w->workers, "arm", answer);
	world_turns(w);
	assert_created(w, s);
	assert_int_equal(rows(w, "Devices"), 2);
	world_free(w);
}

static void times_are_recorded(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s = set_of(w, "vol more");

	assert_int_equal(json_integer_value(json_object_get(s->members[0].cut, "Begin")), 1000);
	assert_int_equal(json_integer_value(json_object_get(s->members[1].cut, "Begin")), 2000);
	assert_int_equal(s->writes_held, 3000);
	assert_int_equal(json_integer_value(json_object_get(w->result, "WritesHeldUsec")), 3000);
	assert_true(world_timeline_has(s, "window", "", "ok"));
	world_free(w);
}

/* ---- instants ---- */

struct instant_case {
	const char *volumes, *instant;
	unsigned groups[4];
};

static void instants(void **state)
{
	static const struct instant_case cases[] = {
		{ "vol", "set", { 1 } },
		{ "vol more", "set", { 1, 1 } },
		{ "vol data more", "set", { 1, 1, 1 } },            /* one btrfs, while the others are held */
		{ "data vol logs", "volume", { 2, 1, 3 } },         /* two: each an instant of its own */
		{ "data logs", "volume", { 1, 2 } },
		{ "data", "set", { 1 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world *w = world_new(NULL);
		struct session *s = set_of(w, cases[i].volumes);
		assert_created(w, s);
		if (strcmp(world_result_text(w, "Instant"), cases[i].instant) != 0)
			fail_msg("%s: %s", cases[i].volumes, world_result_text(w, "Instant"));
		assert_int_equal(*world_result_text(w, "InstantReason") != '\0', strcmp(cases[i].instant, "volume") == 0);
		for (size_t m = 0; m < s->n_members; m++)
			if (s->members[m].instant_group != cases[i].groups[m])
				fail_msg("%s: member %zu is in group %u", cases[i].volumes, m, s->members[m].instant_group);
		world_free(w);
	}
}

/* A volume whose provider cannot keep it to the others' instant says so before anybody is told. */
static void provider_may_exclude_from_the_instant(void **state)
{
	struct world *w = world_new(NULL);
	json_t *volume = fake_workers_volume_row(w->workers, "more");

	json_object_set_new(volume, "Instant", json_string("volume"));
	json_object_set_new(volume, "InstantReason", json_string("/more is odd"));
	set_of(w, "vol more");
	assert_string_equal(world_result_text(w, "Instant"), "volume");
	assert_string_equal(world_result_text(w, "InstantReason"), "/more is odd");
	world_free(w);
}

/* ---- refused before anybody is told ---- */

static void refused_without_a_guard(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	w->context.guard = NULL;
	s = set_of(w, "vol");
	world_assert_failed(w, s, VSS_E_NOT_AVAILABLE);
	assert_int_equal(tape_find("PrepareBackup"), -1);
	w->context.guard = w->guard;
	world_assert_next_set_works(w);
	world_free(w);
}

static void refused_on_top_of_each_other(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	json_object_set_new(fake_workers_volume_row(w->workers, "data"), "Layers", json_pack("[{ss}]", "Number", "vol"));
	s = set_of(w, "data vol");
	world_assert_failed(w, s, VSS_E_NESTED_VOLUME_LIMIT);
	assert_non_null(strstr(world_result_text(w, "Message"), "/data lies on /vol"));
	assert_int_equal(tape_find("PrepareBackup"), -1);
	world_free(w);
}

/* What takes long to flush would take long to copy, and the held volumes would wait for it. */
static void slow_flush_of_the_btrfs_fails_the_set(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	fake_workers_rule(w->workers, "flush", FAKE_HOLD, VSS_OK, NULL);
	s = set_of(w, "data vol");
	assert_state(s, "Flushing");
	w->config.mixed_hold = 0; /* whatever it took was too long */
	fake_workers_answer(w->workers, "flush", VSS_OK);
	fake_workers_answer(w->workers, "flush", VSS_OK);
	world_turns(w);
	world_assert_failed(w, s, VSS_E_HOLD_WRITES_TIMEOUT);
	assert_non_null(strstr(world_result_text(w, "Message"), "/data"));
	assert_int_equal(tape_find("Freeze"), -1);
	w->config.mixed_hold = USEC_PER_SEC;
	world_assert_next_set_works(w);
	world_free(w);
}

/* ---- where the stores go ---- */

static void stores_are_placed_before_prepare(void **state)
{
	struct world *w = world_new(NULL);
	json_t *member;

	assert_created(w, set_of(w, "vol data"));
	assert_true(tape_before("job storage-list", "job prepare"));
	member = json_array_get(json_object_get(fake_workers_request(w->workers, "lvm prepare"), "Members"), 0);
	assert_true(json_integer_value(json_object_get(member, "StoreSize")) > 0);
	assert_int_equal(json_array_size(json_object_get(member, "Pvs")), 1);
	member = json_array_get(json_object_get(fake_workers_request(w->workers, "btrfs prepare"), "Members"), 0);
	assert_null(json_object_get(member, "StoreSize"));
	world_free(w);
}

static void no_room(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	fake_workers_rule(w->workers, "lvm storage-list", FAKE_OK, VSS_OK,
			  "{\"Groups\": [{\"Uuid\": \"vg-1\", \"Name\": \"vg\", \"Size\": 1073741824, \"Free\": 0, \"ExtentSize\": 4194304,"
			  "\"Pvs\": [{\"Uuid\": \"pv-1\", \"Device\": \"/dev/sda\", \"Size\": 1073741824, \"Free\": 0,"
			  "\"Disks\": [{\"Device\": \"sda\", \"Number\": \"8:0\", \"Kind\": \"disk\", \"Virtual\": false}]}]}]}");
	s = set_of(w, "vol");
	world_assert_failed(w, s, VSS_E_INSUFFICIENT_STORAGE);
	assert_int_equal(tape_find("PrepareBackup"), -1);
	world_assert_next_set_works(w);
	world_free(w);
}

static void storage_cannot_be_asked(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	fake_workers_rule(w->workers, "storage-list", FAKE_ERROR, VSS_E_TIMED_OUT, NULL);
	s = set_of(w, "vol");
	world_assert_failed(w, s, VSS_E_TIMED_OUT);
	world_free(w);
}

/* The requestor goes while storage is asked: nobody is there when it answers. */
static void requestor_dies_while_storage_is_asked(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	fake_workers_rule(w->workers, "storage-list", FAKE_HOLD, VSS_OK, NULL);
	s = set_of(w, "vol");
	assert_state(s, "Planning");
	session_owner_lost(s);
	world_turns(w);
	assert_int_equal(w->closed, 1);
	fake_workers_answer(w->workers, "storage-list", VSS_OK);
	fake_workers_answer(w->workers, "storage-list", VSS_OK);
	world_turns(w);
	world_assert_next_set_works(w);
	world_free(w);
}

/* ---- failures ---- */

static void fails_and_frees(struct world *w, enum vss_error error)
{
	struct session *s = set_of(w, "vol data");

	world_assert_failed(w, s, error);
	assert_true(tape_count("guard arm") == tape_count("guard free") || fake_guard_open(w->guard) == 0);
	if (tape_find("guard free") >= 0)
		assert_true(tape_before("guard free", "Abort :f"));
	world_assert_next_set_works(w);
	world_free(w);
}

static void arm_fails(void **state)
{
	struct world *w = world_with_writer();

	fake_workers_rule(w->workers, "arm", FAKE_ERROR, VSS_E_PROVIDER_VETO, NULL);
	fails_and_frees(w, VSS_E_PROVIDER_VETO);
}

static void arm_cannot_be_asked(void **state)
{
	struct world *w = world_with_writer();

	fake_workers_rule(w->workers, "arm", FAKE_REFUSE, VSS_OK, NULL);
	fails_and_frees(w, VSS_E_LIMITS_EXCEEDED);
}

static void arm_answers_nonsense(void **state)
{
	static const char *const answers[] = {
		"{}",
		"{\"Members\": []}",
		"{\"Members\": [{\"Copy\": \"00000000-0000-4000-8000-000000000001\", \"Window\": {\"Cut\": [{}]}}]}",
		"{\"Members\": 5, \"Locks\": [7]}",
		"{\"Locks\": [-1]}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct world *w = world_with_writer();
		fake_workers_rule(w->workers, "arm", FAKE_OK, VSS_OK, answers[i]);
		fails_and_frees(w, VSS_E_UNEXPECTED_PROVIDER_ERROR);
	}
}

static void guard_is_not_there(void **state)
{
	struct world *w = world_with_writer();

	fake_guard_rule(w->guard, "arm", FAKE_REFUSE, VSS_OK, NULL);
	fails_and_frees(w, VSS_E_NOT_AVAILABLE);
}

static void guard_refuses_the_plan(void **state)
{
	struct world *w = world_with_writer();

	fake_guard_rule(w->guard, "arm", FAKE_ERROR, VSS_E_INVALID_ARGUMENT, NULL);
	fails_and_frees(w, VSS_E_INVALID_ARGUMENT);
}

static void window_fails(void **state)
{
	struct world *w = world_with_writer();

	fake_guard_rule(w->guard, "go", FAKE_ERROR, VSS_E_VOLUME_IN_USE, NULL);
	fails_and_frees(w, VSS_E_VOLUME_IN_USE);
}

static void window_late(void **state)
{
	struct world *w = world_with_writer();

	fake_guard_rule(w->guard, "go", FAKE_ERROR, VSS_E_TIMED_OUT, NULL);
	fails_and_frees(w, VSS_E_HOLD_WRITES_TIMEOUT);
}

/* The guard does not answer at all: the state's own limit lets go of it. */
static void guard_is_silent(void **state)
{
	for (int go = 0; go < 2; go++) {
		struct world *w = world_with_writer();
		struct session *s;
		fake_guard_rule(w->guard, go ? "go" : "arm", FAKE_NEVER, VSS_OK, NULL);
		s = set_of(w, "vol");
		assert_state(s, "Cutting");
		world_expire(w, s);
		world_assert_failed(w, s, VSS_E_HOLD_WRITES_TIMEOUT);
		assert_true(tape_before("guard free", "Abort :f"));
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* ---- the requestor goes ---- */

static void requestor_dies(void **state)
{
	static const char *const steps[] = { "job", "arm", "go" };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct world *w = world_with_writer();
		struct session *s;
		if (i == 0)
			fake_workers_rule(w->workers, "arm", FAKE_HOLD, VSS_OK, NULL);
		else
			fake_guard_rule(w->guard, steps[i], FAKE_NEVER, VSS_OK, NULL);
		s = set_of(w, "vol data");
		assert_state(s, "Cutting");
		session_owner_lost(s);
		world_turns(w);
		assert_int_equal(w->closed, 1);
		assert_int_equal(fake_guard_open(w->guard), 0);
		assert_int_equal(fake_workers_open_fds(w->workers), 0);
		assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
		assert_true(tape_count("Abort :f") > 0);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

static void vssd_restarts(void **state)
{
	struct world *w = world_with_writer();

	fake_guard_rule(w->guard, "go", FAKE_NEVER, VSS_OK, NULL);
	assert_state(set_of(w, "vol data"), "Cutting");
	world_restart(w, true);
	assert_int_equal(fake_guard_open(w->guard), 0);
	world_turns(w);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	assert_true(tape_count("Abort :f") > 0);
	world_free(w);
}

/* ---- several providers ---- */

static void one_provider_fails_the_other_ends(void **state)
{
	static const char *const ops[] = { "prepare", "open", "seal" };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world *w = world_with_writer();
		struct session *s;
		fake_workers_rule(w->workers, ops[i], FAKE_HOLD, VSS_OK, NULL);
		s = set_of(w, "data vol");
		fake_workers_answer(w->workers, ops[i], VSS_E_INSUFFICIENT_STORAGE);
		world_turns(w);
		world_assert_failed(w, s, VSS_E_INSUFFICIENT_STORAGE);
		assert_int_equal(tape_count("job abort"), 2);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* One provider that cannot clean up does not keep the other from it. */
static void both_are_told_to_abort(void **state)
{
	struct world *w = world_with_writer();
	struct session *s;

	fake_workers_rule(w->workers, "seal", FAKE_ERROR, VSS_E_INSUFFICIENT_STORAGE, NULL);
	fake_workers_rule(w->workers, "abort", FAKE_HOLD, VSS_OK, NULL);
	s = set_of(w, "data vol");
	assert_state(s, "AbortingCopies");
	fake_workers_answer(w->workers, "abort", VSS_E_UNEXPECTED);
	assert_state(s, "AbortingCopies");
	fake_workers_answer(w->workers, "abort", VSS_OK);
	world_turns(w);
	assert_state(s, "Failed");
	assert_int_equal(json_array_size(json_object_get(w->result, "Warnings")), 1);
	world_free(w);
}

static void unclean_copy_is_a_crash_copy(void **state)
{
	struct world *w = world_new(NULL);
	char answer[256];
	struct session *s;

	fake_workers_rule(w->workers, "open", FAKE_HOLD, VSS_OK, NULL);
	s = set_of(w, "vol");
	snprintf(answer, sizeof answer, "{\"Members\": [{\"Copy\": \"%s\", \"Clean\": false}]}", s->members[0].copy);
	fake_workers_answer_with(w->workers, "open", answer);
	world_turns(w);
	assert_created(w, s);
	assert_string_equal(world_result_text(w, "Consistency"), "crash");
	assert_non_null(strstr(world_result_text(w, "ConsistencyReason"), "/vol is not clean"));
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held_between_freeze_and_thaw),
		cmocka_unit_test(plan_names_everything_once),
		cmocka_unit_test(one_freeze_a_superblock),
		cmocka_unit_test(times_are_recorded),
		cmocka_unit_test(instants),
		cmocka_unit_test(provider_may_exclude_from_the_instant),
		cmocka_unit_test(refused_without_a_guard),
		cmocka_unit_test(refused_on_top_of_each_other),
		cmocka_unit_test(slow_flush_of_the_btrfs_fails_the_set),
		cmocka_unit_test(stores_are_placed_before_prepare),
		cmocka_unit_test(no_room),
		cmocka_unit_test(storage_cannot_be_asked),
		cmocka_unit_test(requestor_dies_while_storage_is_asked),
		cmocka_unit_test(arm_fails),
		cmocka_unit_test(arm_cannot_be_asked),
		cmocka_unit_test(arm_answers_nonsense),
		cmocka_unit_test(guard_is_not_there),
		cmocka_unit_test(guard_refuses_the_plan),
		cmocka_unit_test(window_fails),
		cmocka_unit_test(window_late),
		cmocka_unit_test(guard_is_silent),
		cmocka_unit_test(requestor_dies),
		cmocka_unit_test(vssd_restarts),
		cmocka_unit_test(one_provider_fails_the_other_ends),
		cmocka_unit_test(both_are_told_to_abort),
		cmocka_unit_test(unclean_copy_is_a_crash_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
