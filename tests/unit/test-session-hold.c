/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long writers may be held, what the provider's failures do to a set, and how slow thaws end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-stops.h"

static struct world *three(void)
{
	struct world *w = world_new(NULL);

	world_writer(w, "b", "back-end", "/data/b", NULL, NULL);
	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "s", "system", "/data/s", NULL, NULL);
	return w;
}

static void hold(struct world *w, const char *event, const char *writer)
{
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = writer, .event = event, .mode = FAKE_HOLD });
}

/* ---- the budget ---- */

static void assert_about(uint64_t left, uint64_t expected)
{
	if (left > expected || left + 2 * USEC_PER_SEC < expected)
		fail_msg("%llu us are left, not about %llu", (unsigned long long)left, (unsigned long long)expected);
}

/* The earliest of every freeze's sending plus its limit; what comes later shortens it, never lengthens it. */
static void earliest_limit_counts(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s;
	uint64_t budget;

	world_writer(w, "f", "front-end", "/data", NULL, "{\"FreezeLimitUsec\": 20000000}");
	world_writer(w, "b", "back-end", "/data", NULL, "{\"FreezeLimitUsec\": 40000000}");
	world_writer(w, "s", "system", "/data", NULL, "{\"FreezeLimitUsec\": 9000000}");
	hold(w, "Freeze", NULL);
	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	budget = s->hold_deadline;
	assert_int_equal(budget, world_participant(s, "f")->freeze_sent + 20 * USEC_PER_SEC);
	assert_about(world_limit_left(s), 20200 * USEC_PER_MSEC);
	fake_fanout_answer(w->fanout, "Freeze", ":f", VSS_OK, NULL);
	world_turns(w);
	assert_int_equal(s->hold_deadline, budget); /* 40 s do not lengthen it */
	assert_int_equal(fake_fanout_last(w->fanout, "Freeze", ":b")->deadline, budget);
	fake_fanout_answer(w->fanout, "Freeze", ":b", VSS_OK, NULL);
	world_turns(w);
	assert_int_equal(s->hold_deadline, world_participant(s, "s")->freeze_sent + 9 * USEC_PER_SEC);
	assert_about(world_limit_left(s), 9200 * USEC_PER_MSEC);
	fake_fanout_answer(w->fanout, "Freeze", ":s", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "Cutting");
	assert_int_equal(fake_workers_deadline(w->workers, "cut"), s->hold_deadline);
	world_free(w);
}

static void cut_has_its_own_limit_too(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	assert_true(fake_workers_deadline(w->workers, "cut") < s->hold_deadline);
	assert_about(fake_workers_deadline(w->workers, "cut") - clock_now(), w->config.cut);
	world_free(w);
}

static void configured_limit_bounds_every_writer(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s;

	w->config.freeze = 3 * USEC_PER_SEC;
	world_writer(w, "f", "front-end", "/data", NULL, "{\"FreezeLimitUsec\": 50000000}");
	hold(w, "Freeze", NULL);
	s = world_set(w);
	assert_int_equal(s->hold_deadline, world_participant(s, "f")->freeze_sent + 3 * USEC_PER_SEC);
	world_free(w);
}

static void budget_passes(void **state)
{
	static const char *const ops[] = { NULL, "cut" };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world *w = three();
		if (ops[i])
			fake_workers_rule(w->workers, ops[i], FAKE_HOLD, VSS_OK, NULL);
		else
			hold(w, "Freeze", ":s");
		struct session *s = world_set(w);
		world_expire(w, s);
		world_assert_failed(w, s, VSS_E_HOLD_WRITES_TIMEOUT);
		assert_true(json_is_true(json_object_get(w->result, "Retryable")));
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* ---- slow thaws ---- */

static void slow_thaw_keeps_nobody_frozen(void **state)
{
	struct world *w = three();
	struct session *s;

	hold(w, "Thaw", ":s");
	s = world_set(w);
	assert_state(s, "ThawingSystem");
	assert_int_equal(tape_count("Thaw"), 1);
	assert_about(world_limit_left(s), 1200 * USEC_PER_MSEC);
	world_expire(w, s);
	/* One grace for the level that is slow; those that answer at once cost no further one. */
	assert_int_equal(tape_count("Thaw :b"), 1);
	assert_int_equal(tape_count("Thaw :f"), 1);
	assert_state(s, "ThawingFrontEnd");
	assert_int_equal(tape_count("forget Thaw"), 0);
	fake_fanout_answer(w->fanout, "Thaw", ":s", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "Created");
	assert_string_equal(world_result_text(w, "Consistency"), "application");
	world_free(w);
}

static void thaw_that_never_comes(void **state)
{
	struct world *w = three();
	struct session *s;

	hold(w, "Thaw", ":s");
	s = world_set(w);
	world_expire(w, s);
	fake_fanout_answer(w->fanout, "Thaw", ":s", VSS_E_TIMED_OUT, NULL);
	world_turns(w);
	world_assert_failed(w, s, VSS_E_WRITER_TIMED_OUT);
	assert_int_equal(registry_find(w->registry, "s")->record.state, WRITER_STATE_FAILED_AT_THAW);
	world_assert_next_set_works(w);
	world_free(w);
}

/* ---- the provider ---- */

static const struct {
	const char *op;
	bool writers_held, copies;
} ops[] = {
	{ "resolve", false, false }, { "prepare", false, true }, { "flush", false, true },
	{ "cut", true, true },	     { "open", false, true },	 { "seal", false, true },
};

static void each_op_fails(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world *w = three();
		print_message("%s\n", ops[i].op);
		fake_workers_rule(w->workers, ops[i].op, FAKE_ERROR, VSS_E_INSUFFICIENT_STORAGE, NULL);
		struct session *s = world_set(w);
		world_assert_failed(w, s, VSS_E_INSUFFICIENT_STORAGE);
		assert_non_null(strstr(world_result_text(w, "Message"), "The worker says"));
		assert_int_equal(tape_count("job abort"), ops[i].copies);
		stop_assert_nobody_frozen();
		world_assert_next_set_works(w);
		world_free(w);
	}
}

static void each_op_cannot_be_started(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world *w = three();
		print_message("%s\n", ops[i].op);
		fake_workers_rule(w->workers, ops[i].op, FAKE_REFUSE, VSS_OK, NULL);
		struct session *s = world_set(w);
		world_assert_failed(w, s, VSS_E_LIMITS_EXCEEDED);
		stop_assert_nobody_frozen();
		world_assert_next_set_works(w);
		world_free(w);
	}
}

static void each_op_passes_its_limit(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world *w = three();
		print_message("%s\n", ops[i].op);
		fake_workers_rule(w->workers, ops[i].op, FAKE_HOLD, VSS_OK, NULL);
		struct session *s = world_set(w);
		assert_true(fake_workers_deadline(w->workers, ops[i].op) != USEC_INFINITY);
		fake_workers_answer(w->workers, ops[i].op, VSS_E_TIMED_OUT);
		world_turns(w);
		world_assert_failed(w, s, ops[i].writers_held ? VSS_E_HOLD_WRITES_TIMEOUT : VSS_E_TIMED_OUT);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

static void answers_that_do_not_fit(void **state)
{
	static const char *const needed[] = { "prepare", "cut", "open" };
	static const char *const answers[] = {
		"{}",
		"{\"Members\": []}",
		"{\"Members\": [{\"Copy\": \"00000000-0000-4000-8000-000000000000\", \"Source\": 0, \"Store\": 1}]}",
		"{\"Members\": [{\"Source\": -1, \"Store\": 99, \"Directory\": 5}]}",
		"{\"Members\": \"none\"}",
		"[]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed) * ARRAY_SIZE(answers); i++) {
		struct world *w = three();
		fake_workers_rule(w->workers, needed[i % 3], FAKE_OK, VSS_OK, answers[i / 3]);
		struct session *s = world_set(w);
		world_assert_failed(w, s, VSS_E_UNEXPECTED_PROVIDER_ERROR);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* The set has failed already; that its copies could not be removed is told, and does not hide why it failed. */
static void abort_of_copies_fails(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_workers_rule(w->workers, "cut", FAKE_ERROR, VSS_E_PROVIDER_VETO, NULL);
	fake_workers_rule(w->workers, "abort", FAKE_ERROR, VSS_E_UNEXPECTED_PROVIDER_ERROR, NULL);
	s = world_set(w);
	assert_state(s, "Failed");
	assert_string_equal(world_result_text(w, "Error"), "ProviderVeto");
	assert_int_equal(json_array_size(json_object_get(w->result, "Warnings")), 1);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	world_free(w);
}

static void removal_fails_and_the_session_ends(void **state)
{
	struct world *w = three();
	struct session *s = world_set(w);

	fake_workers_rule(w->workers, "remove", FAKE_ERROR, VSS_E_VOLUME_IN_USE, NULL);
	session_close(s, false);
	world_turns(w);
	assert_int_equal(w->closed, 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(earliest_limit_counts),
		cmocka_unit_test(cut_has_its_own_limit_too),
		cmocka_unit_test(configured_limit_bounds_every_writer),
		cmocka_unit_test(budget_passes),
		cmocka_unit_test(slow_thaw_keeps_nobody_frozen),
		cmocka_unit_test(thaw_that_never_comes),
		cmocka_unit_test(each_op_fails),
		cmocka_unit_test(each_op_cannot_be_started),
		cmocka_unit_test(each_op_passes_its_limit),
		cmocka_unit_test(answers_that_do_not_fit),
		cmocka_unit_test(abort_of_copies_fails),
		cmocka_unit_test(removal_fails_and_the_session_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
