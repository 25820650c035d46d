/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd under attack, on a bus of its own: whatever strangers send, it goes on answering, and nothing of theirs stays.
 * Build it with sanitizers to have memory errors found. The same VSSD_TEST_SEED sends the same; VSSD_TEST_LEVEL=long
 * takes minutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

#define LONG_FACTOR 20

static uint64_t seed;
static bool is_long;

static int setup(void **state)
{
	*state = victim_start();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	return victim_stop(*state) ? 0 : -1;
}

static void run(void **state, const char *round, uid_t uid, bool (*attack)(void *), unsigned size)
{
	/* Each round has dice of its own: it is the same whichever others run. */
	struct attack a = { .dice = { seed ^ ((uint64_t)strlen(round) << 32) ^ (uint64_t)(unsigned char)*round },
			    .size = is_long ? size * LONG_FACTOR : size };

	if (uid && geteuid() != 0)
		return;
	bool well = attack_as(uid, attack, &a);
	assert_true(victim_is_well(*state, round));
	assert_true(well);
}

static void calls_of_root(void **state)
{
	run(state, "calls of root", 0, attack_with_calls, 1500);
}

static void calls_of_nobody(void **state)
{
	run(state, "nobody's calls", NOBODY, attack_with_calls, 1500);
}

static void sessions_in_disorder(void **state)
{
	run(state, "sessions in disorder", 0, attack_with_sessions, 5);
}

static void callers_that_leave(void **state)
{
	run(state, "callers that leave", 0, attack_by_leaving, 200);
	run(state, "nobodies that leave", NOBODY, attack_by_leaving, 100);
}

static void deaf_callers(void **state)
{
	/* This bus allows it far more than a Debian's 128 calls at a time: not more of them for a longer test. */
	run(state, "deaf callers", 0, attack_with_deafness, is_long ? 30 : 300);
}

static void probes_at_once(void **state)
{
	run(state, "probes at once", 0, attack_with_probes, 100);
}

static void sessions_of_others(void **state)
{
	if (geteuid() == 0)
		run(state, "others' sessions", 0, attack_sessions_of_others, 1);
}

static void spoilt_metadata(void **state)
{
	run(state, "metadata", 0, attack_with_metadata, 300);
}

static void registrations(void **state)
{
	run(state, "registrations", 0, attack_with_registrations, 50);
	run(state, "registrations of nobody", NOBODY, attack_as_nobody, 1);
}

static void large_metadata(void **state)
{
	run(state, "large metadata", 0, attack_with_large_metadata, 1);
}

static void wrong_answers(void **state)
{
	run(state, "answers", 0, attack_with_answers, is_long ? 6 : 20);
}

static void fake_signals(void **state)
{
	run(state, "signals", 0, attack_with_fake_signals, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sessions_of_others), cmocka_unit_test(registrations),
		cmocka_unit_test(spoilt_metadata),    cmocka_unit_test(large_metadata),
		cmocka_unit_test(callers_that_leave), cmocka_unit_test(probes_at_once),
		cmocka_unit_test(fake_signals),	      cmocka_unit_test(deaf_callers),
		cmocka_unit_test(wrong_answers),      cmocka_unit_test(sessions_in_disorder),
		cmocka_unit_test(calls_of_root),      cmocka_unit_test(calls_of_nobody),
	};
	const char *given = getenv("VSSD_TEST_SEED"), *level = getenv("VSSD_TEST_LEVEL");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	seed = seed ? seed : 1;
	is_long = level && strcmp(level, "long") == 0;
	print_message("VSSD_TEST_SEED=%llu\n", (unsigned long long)seed);
	if (getenv("VSSD_TEST_FILTER"))
		cmocka_set_test_filter(getenv("VSSD_TEST_FILTER"));
	return cmocka_run_group_tests(tests, setup, teardown);
}
