/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions that hold and make no copies: everything is still until Release, and runs again by itself if that never comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-world.h"

static struct session *hold_with(struct world *w, uint64_t limit, const char *volume)
{
	struct session_options options = world_options();
	struct session *s;
	struct err err = { 0 };

	options.hold = HOLD_WRITERS;
	options.hold_limit = limit;
	s = world_session_with(w, &options);
	if (volume)
		world_add(w, s, volume);
	if (session_start_hold(s, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
	return s;
}

static struct session *hold(struct world *w)
{
	return hold_with(w, 0, NULL);
}

static struct world *two_writers(void)
{
	struct world *w = world_new(NULL);

	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "b", "back-end", "/logs/b", NULL, NULL);
	return w;
}

static void release(struct world *w, struct session *s)
{
	struct err err = { 0 };

	if (session_release(s, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
}

static struct session *hold_volumes(struct world *w)
{
	struct session_options options = world_options();
	struct session *s;
	struct err err = { 0 };

	options.hold = HOLD_VOLUMES;
	s = world_session_with(w, &options);
	world_add(w, s, "data");
	world_add(w, s, "logs");
	if (session_start_hold(s, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
	return s;
}

/* Without volumes every writer of the machine takes part. */
static void held_until_released(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold(w);

	assert_state(s, "Holding");
	assert_int_equal(w->finished, 1);
	assert_string_equal(w->operation, "Hold");
	assert_true(world_succeeded(w));
	assert_true(tape_before("Freeze :f", "Freeze :b"));
	assert_int_equal(tape_find("Thaw"), -1);
	assert_int_equal(tape_find("job prepare"), -1);
	assert_int_equal(tape_find("job cut"), -1);
	release(w, s);
	assert_state(s, "Created");
	assert_int_equal(w->finished, 2);
	assert_string_equal(w->operation, "Release");
	assert_true(world_succeeded(w));
	assert_true(tape_before("Thaw :b", "Thaw :f"));
	assert_int_equal(catalogue_count(w->catalogue), 0);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	assert_int_equal(json_array_size(json_object_get(w->result, "Writers")), 2);
	session_close(s, false);
	world_turns(w);
	assert_true(tape_count("BackupShutdown") == 2);
	world_free(w);
}

static void volumes_choose_the_writers(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold_with(w, 0, "data");

	assert_state(s, "Holding");
	assert_true(tape_find("Freeze :f") >= 0);
	assert_int_equal(tape_find("Freeze :b"), -1);
	assert_int_equal(s->members[0].instant_group, 1);
	release(w, s);
	assert_true(world_succeeded(w));
	world_free(w);
}

/* Volumes that no provider copies can be held all the same: somebody else copies them. */
static void any_volume_will_do(void **state)
{
	struct world *w = two_writers();
	struct session *s;

	json_object_set_new(fake_workers_volume_row(w->workers, "data"), "Provider", json_string(""));
	s = hold_with(w, 0, "data");
	assert_state(s, "Holding");
	release(w, s);
	assert_true(world_succeeded(w));
	world_free(w);
}

static void runs_again_when_release_does_not_come(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold_with(w, 5 * USEC_PER_SEC, NULL);
	struct err err = { 0 };

	assert_true(world_limit_left(s) <= 5200 * USEC_PER_MSEC);
	world_expire(w, s);
	assert_state(s, "Failed");
	assert_int_equal(tape_count("Abort"), 2);
	assert_true(session_release(s, &err) < 0); /* and says why it comes too late */
	assert_int_equal(err.code, VSS_E_HOLD_WRITES_TIMEOUT);
	world_assert_next_set_works(w);
	world_free(w);
}

/* Writers first, then the volumes; the volumes first on the way back. */
static void volumes_too(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold_volumes(w);

	assert_state(s, "Holding");
	assert_true(world_succeeded(w));
	assert_true(tape_before("job roots", "Freeze :f"));
	assert_true(tape_before("Freeze :b", "guard arm"));
	assert_true(tape_before("guard arm", "guard go"));
	assert_int_equal(tape_find("guard release"), -1);
	assert_int_equal(json_array_size(json_object_get(fake_guard_plan(w->guard), "Filesystems")), 2);
	assert_true(json_is_true(json_object_get(fake_guard_plan(w->guard), "Hold")));
	assert_int_equal(fake_guard_open(w->guard), 1);
	assert_int_equal(fake_workers_open_fds(w->workers), 2);
	assert_true(world_limit_left(s) <= 10200 * USEC_PER_MSEC);
	release(w, s);
	assert_state(s, "Created");
	assert_true(world_succeeded(w));
	assert_true(tape_before("guard release", "Thaw :b"));
	assert_int_equal(fake_guard_open(w->guard), 0);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	world_free(w);
}

static void assert_let_go(struct world *w, struct session *s, enum vss_error error)
{
	assert_state(s, "Failed");
	assert_int_equal(s->error.code, error);
	assert_int_equal(tape_count("Abort"), 2);
	assert_int_equal(fake_guard_open(w->guard), 0);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
}

static void volumes_that_cannot_be_held(void **state)
{
	static const char *const steps[] = { "arm", "go", "release" };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct world *w = two_writers();
		fake_guard_rule(w->guard, steps[i], FAKE_ERROR, VSS_E_VOLUME_IN_USE, NULL);
		struct session *s = hold_volumes(w);
		if (i == 2)
			release(w, s);
		assert_let_go(w, s, VSS_E_VOLUME_IN_USE);
		world_free(w);
	}
}

static void no_guard_for_volumes(void **state)
{
	struct world *w = two_writers();

	fake_guard_rule(w->guard, "arm", FAKE_REFUSE, VSS_OK, NULL);
	assert_let_go(w, hold_volumes(w), VSS_E_NOT_AVAILABLE);
	world_free(w);
}

static void volumes_run_again_when_release_does_not_come(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold_volumes(w);

	world_expire(w, s);
	assert_let_go(w, s, VSS_E_HOLD_WRITES_TIMEOUT);
	world_free(w);
}

static void volumes_have_to_be_named(void **state)
{
	struct world *w = two_writers();
	struct session_options options = world_options();
	struct err err = { 0 };

	options.hold = HOLD_VOLUMES;
	struct session *s = world_session_with(w, &options);
	assert_int_equal(session_start_hold(s, &err), -1);
	assert_int_equal(err.code, VSS_E_INVALID_ARGUMENT);
	json_object_set_new(fake_workers_volume_row(w->workers, "data"), "Mounted", json_false());
	world_add(w, s, "data");
	assert_int_equal(session_start_hold(s, &err), -1);
	assert_int_equal(err.code, VSS_E_VOLUME_NOT_SUPPORTED);
	world_free(w);
}

/* The writers' limit is the hold's, whatever the requestor wishes. */
static void writers_limit_counts(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s;

	world_writer(w, "f", "front-end", "/data", NULL, "{\"FreezeLimitUsec\": 3000000}");
	s = hold_with(w, 50 * USEC_PER_SEC, NULL);
	assert_true(world_limit_left(s) <= 3200 * USEC_PER_MSEC);
	session_close(s, true);
	world_turns(w);
	world_free(w);
}

static void a_limit_without_writers(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s = hold(w);

	assert_state(s, "Holding");
	assert_true(world_limit_left(s) <= w->config.freeze + 200 * USEC_PER_MSEC);
	release(w, s);
	assert_true(world_succeeded(w));
	world_free(w);
}

static void requestor_dies(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold(w);

	session_owner_lost(s);
	world_turns(w);
	assert_int_equal(w->closed, 1);
	assert_int_equal(tape_count("Abort"), 2);
	world_assert_next_set_works(w);
	world_free(w);
}

/* With a lease it may go, and come back; the lease's end thaws. */
static void lease_in_holding(void **state)
{
	for (int comes_back = 0; comes_back < 2; comes_back++) {
		struct world *w = two_writers();
		struct session *s = hold(w);
		char token[ID_SIZE];
		struct err err = { 0 };
		assert_int_equal(session_detach(s, 1, token, &err), 0);
		world_turns(w);
		assert_state(s, "Holding");
		if (comes_back) {
			assert_int_equal(session_adopt(s, ":another", 0, 43, &err), 0);
			release(w, s);
			assert_true(world_succeeded(w));
		} else {
			world_wait_closed(w, 1);
			assert_int_equal(tape_count("Abort"), 2);
		}
		world_free(w);
	}
}

static void a_broken_hold_is_a_failure(void **state)
{
	struct world *w = two_writers();
	struct session *s;

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":b", .event = "Thaw", .answer = "{\"Sequence\": 0, \"Unbroken\": false}" });
	s = hold(w);
	release(w, s);
	assert_state(s, "Failed");
	assert_string_equal(w->operation, "Release");
	assert_false(world_succeeded(w));
	world_assert_failed(w, s, VSS_E_WRITER_TIMED_OUT);
	world_free(w);
}

static void a_failed_freeze_fails_the_hold(void **state)
{
	struct world *w = two_writers();
	struct session *s;

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":b", .event = "Freeze", .mode = FAKE_ERROR,
								.error = VSS_E_WRITER_NON_RETRYABLE, .message = "no" });
	s = hold(w);
	assert_string_equal(w->operation, "Hold");
	world_assert_failed(w, s, VSS_E_WRITER_NON_RETRYABLE);
	world_free(w);
}

/* While all are being let go, the answer is why, not that it is the wrong moment. */
static void release_hears_why_it_is_too_late(void **state)
{
	struct world *w = two_writers();
	struct session *s;
	struct err err = { 0 };

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":b", .event = "Abort", .mode = FAKE_HOLD });
	s = hold_with(w, 5 * USEC_PER_SEC, NULL);
	world_expire(w, s);
	assert_state(s, "AbortingWriters");
	assert_true(session_release(s, &err) < 0);
	assert_int_equal(err.code, VSS_E_HOLD_WRITES_TIMEOUT);
	session_close(s, true);
	world_turns(w);
	world_free(w);
}

static void restart_runs_all_again(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold(w);
	char token[ID_SIZE];
	struct err err = { 0 };

	assert_int_equal(session_detach(s, 60, token, &err), 0);
	world_restart(w, true);
	world_turns(w);
	assert_int_equal(tape_count("Abort"), 2);
	world_free(w);
}

static void what_it_is_not_made_for(void **state)
{
	struct world *w = two_writers();
	struct session *s = hold(w), *other = world_session(w);
	struct err err = { 0 };

	assert_true(session_snapshot(s, &err) < 0);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	assert_true(session_start_hold(other, &err) < 0);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	assert_true(session_release(other, &err) < 0);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	assert_state(s, "Holding");
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(volumes_too),
		cmocka_unit_test(volumes_that_cannot_be_held),
		cmocka_unit_test(no_guard_for_volumes),
		cmocka_unit_test(volumes_run_again_when_release_does_not_come),
		cmocka_unit_test(volumes_have_to_be_named),
		cmocka_unit_test(held_until_released),
		cmocka_unit_test(volumes_choose_the_writers),
		cmocka_unit_test(any_volume_will_do),
		cmocka_unit_test(runs_again_when_release_does_not_come),
		cmocka_unit_test(writers_limit_counts),
		cmocka_unit_test(a_limit_without_writers),
		cmocka_unit_test(requestor_dies),
		cmocka_unit_test(lease_in_holding),
		cmocka_unit_test(a_broken_hold_is_a_failure),
		cmocka_unit_test(a_failed_freeze_fails_the_hold),
		cmocka_unit_test(release_hears_why_it_is_too_late),
		cmocka_unit_test(restart_runs_all_again),
		cmocka_unit_test(what_it_is_not_made_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
