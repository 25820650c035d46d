/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many guests in a set: all are frozen, and let go, beside each other, and one that hangs costs the others nothing. */
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "qemu-fixture.h"

#define MANY 8
#define SLOW_MSEC 300
#define ALL_NAMES "web db g0 g1 g2 g3 g4 g5 g6 g7"

static struct fake_agent *more[MANY];

/* Beside web and db. */
static void start_many(struct fixture *f)
{
	char text[4096] = "FreezeLimit=5s\nAgentLimit=2s\n";

	for (int i = 0; i < MANY; i++) {
		char name[16], socket[24];
		snprintf(name, sizeof name, "g%d", i);
		snprintf(socket, sizeof socket, "%s.sock", name);
		more[i] = fake_agent_start(path_of(f, socket));
		text_append(text, sizeof text, "[Guest %s]\nAgent=%s\nRawDisks=%s\n", name, path_of(f, socket),
			    path_of(f, "web.img"));
	}
	start_writer(f, text);
}

static int tear_down_many(void **state)
{
	int r = tear_down(state);

	for (int i = 0; i < MANY; i++)
		more[i] = fake_agent_stop(more[i]);
	return r;
}

static unsigned n_frozen(struct fixture *f)
{
	unsigned n = (unsigned)fake_agent_is_frozen(f->web) + (unsigned)fake_agent_is_frozen(f->db);

	for (int i = 0; i < MANY; i++)
		n += fake_agent_is_frozen(more[i]);
	return n;
}

static bool only_one_is_frozen(struct fixture *f)
{
	return n_frozen(f) == 1;
}

static void all_are_slow(struct fixture *f, const char *command)
{
	fake_agent_on(f->web, command, BE_SLOW, SLOW_MSEC, 0);
	fake_agent_on(f->db, command, BE_SLOW, SLOW_MSEC, 0);
	for (int i = 0; i < MANY; i++)
		fake_agent_on(more[i], command, BE_SLOW, SLOW_MSEC, 0);
}

static void ask_all(struct fixture *f, const char *event, uint64_t *ret_elapsed)
{
	struct stage_answer answer;

	send_to(f, event, ALL_NAMES, 20000, &answer);
	if (answer.error)
		fail_msg("%s: %s", event, answer.message);
	if (strcmp(event, "Thaw") == 0)
		assert_true(json_is_true(json_object_get(answer.body, "Unbroken")));
	if (ret_elapsed)
		*ret_elapsed = answer.elapsed;
	stage_answer_clear(&answer);
}

/* One after another ten would take three seconds. */
static void it_takes_as_long_as_one(void **state)
{
	struct fixture *f = *state;
	uint64_t freeze, thaw;

	start_many(f);
	all_are_slow(f, "guest-fsfreeze-freeze");
	all_are_slow(f, "guest-fsfreeze-thaw");
	ask_all(f, "PrepareSnapshot", NULL);
	ask_all(f, "Freeze", &freeze);
	assert_int_equal(n_frozen(f), MANY + 2);
	ask_all(f, "Thaw", &thaw);
	assert_int_equal(n_frozen(f), 0);
	print_message("10 guests, %d ms each: frozen after %.0f ms, thawed after %.0f ms\n", SLOW_MSEC, (double)freeze / 1000,
		      (double)thaw / 1000);
	assert_in_range(freeze, SLOW_MSEC * USEC_PER_MSEC, 3 * SLOW_MSEC * USEC_PER_MSEC);
	assert_in_range(thaw, SLOW_MSEC * USEC_PER_MSEC, 3 * SLOW_MSEC * USEC_PER_MSEC);
}

static void next_set_works(struct fixture *f)
{
	new_set(f);
	ask_all(f, "PrepareSnapshot", NULL);
	ask_all(f, "Freeze", NULL);
	assert_int_equal(n_frozen(f), MANY + 2);
	ask_all(f, "Thaw", NULL);
	assert_int_equal(n_frozen(f), 0);
}

static bool all_run(struct fixture *f)
{
	return n_frozen(f) == 0 && !has_note(f, "g3");
}

static void one_thaw_that_hangs_costs_the_others_nothing(void **state)
{
	struct fixture *f = *state;
	autojson json_t *details = json_pack("{ss s[ssssssssss] s[{ss ss si}]}", "BackupType", "copy", "Components", "web", "db",
					     "g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "Volumes", "Path", f->directory,
					     "Id", "v", "InstantGroup", 1);
	struct stage_answer answer = { 0 };
	bool done = false;

	start_many(f);
	ask_all(f, "PrepareSnapshot", NULL);
	ask_all(f, "Freeze", NULL);
	fake_agent_on(more[3], "guest-fsfreeze-thaw", STALL, 0, 1);
	uint64_t begin = clock_now();
	const struct stage_event event = {
		"Thaw", f->session, f->set, .deadline = clock_now() + 20 * USEC_PER_SEC, .details = details
	};
	stage_begin(f->stage, &event, &answer, &done);
	assert_true(wait_until(f, only_one_is_frozen, 1500)); /* before the hanging one's limit of two seconds is over */
	assert_false(done);
	print_message("nine of ten thawed after %.0f ms\n", (double)(clock_now() - begin) / 1000);
	/* AgentLimit for the question, and once more for the attempt on it. */
	assert_true(stage_settle(f->stage, &done, 12000));
	print_message("the answer came after %.0f ms\n", (double)answer.elapsed / 1000);
	assert_true(answer.elapsed < 12 * USEC_PER_SEC);
	assert_non_null(strstr(answer.message, "g3: the guest: it cannot be thawed yet"));
	stage_answer_clear(&answer);
	assert_true(has_note(f, "g3"));
	send_to(f, "Abort", ALL_NAMES, 20000, &answer);
	stage_answer_clear(&answer);
	fake_agent_release(more[3]);
	assert_true(wait_until(f, all_run, 20000));
	next_set_works(f);
}

/* Of a freeze that hangs: the others are let go as soon as the set is called off, and need not wait for it. */
static void one_freeze_that_hangs_holds_up_nobodys_abort(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_many(f);
	fake_agent_on(more[3], "guest-fsfreeze-freeze", STALL, 0, 1);
	ask_all(f, "PrepareSnapshot", NULL);
	send_to(f, "Freeze", ALL_NAMES, 1000, &answer); /* earlier than FreezeLimit */
	assert_int_not_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
	send_to(f, "Abort", ALL_NAMES, 20000, &answer);
	assert_true(answer.elapsed < 6 * USEC_PER_SEC);
	stage_answer_clear(&answer);
	assert_int_equal(n_frozen(f), 0);
	fake_agent_release(more[3]);
	assert_true(wait_until(f, all_run, 20000));
	assert_int_equal(fake_agent_count(more[3], "guest-fsfreeze-freeze"), 1); /* it came, when nobody waited any more */
	next_set_works(f);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down_many)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(it_takes_as_long_as_one),
		CASE(one_thaw_that_hangs_costs_the_others_nothing),
		CASE(one_freeze_that_hangs_holds_up_nobodys_abort),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
