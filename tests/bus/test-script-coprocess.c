/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Co-processes that answer, and such that talk nonsense, hang or die. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "script-fixture.h"

#define GOOD_COPROCESS                                                                                                 \
	"echo start >>$DIR/log\n"                                                                                      \
	"while read -r event rest; do echo \"$event\" >>$DIR/log; "                                                    \
	"[ -e $DIR/die ] && exit 3; [ -e $DIR/hang ] && sleep 600; cat $DIR/answer 2>/dev/null || echo ok fine; "      \
	"done\n"                                                                                                       \
	"echo end >>$DIR/log"

static void a_coprocess_answers_events(void **state)
{
	struct fixture *f = *state;

	start_coprocess(f, GOOD_COPROCESS, "CoProcessEvents=prepare-snapshot");
	expect(f, "PrepareSnapshot", VSS_OK, "fine");
	expect(f, "Freeze", VSS_OK, "fine");
	expect_unbroken(f, true);
	new_set(f);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	put(f, "answer", 0644, "# a comment\nfail 75 not now\n");
	expect(f, "Freeze", VSS_E_WRITER_RETRYABLE, "not now");
	put(f, "answer", 0644, "ok\n");
	expect(f, "Abort", VSS_OK, NULL);
	assert_int_equal(end_writer(f, SIGTERM), 0);
	expect_log(f, "start\nprepare-snapshot\nfreeze\nthaw\nprepare-snapshot\nfreeze\nabort\nend\n");
}

static void garbage_kills_and_restarts_it(void **state)
{
	struct fixture *f = *state;

	start_coprocess(f, GOOD_COPROCESS, "");
	put(f, "answer", 0644, "who are you?\n");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "\"who are you?\"");
	put(f, "answer", 0644, "ok\n");
	expect(f, "Abort", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	expect_log(f, "start\nfreeze\nstart\nabort\nfreeze\n");
}

static void death_in_an_event_is_its_failure(void **state)
{
	struct fixture *f = *state;
	char path[512];

	start_coprocess(f, GOOD_COPROCESS, "");
	put(f, "die", 0644, " ");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "ended with exit code 3");
	snprintf(path, sizeof path, "%s/die", f->directory);
	unlink(path);
	expect(f, "Abort", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
}

static void death_while_frozen_breaks_the_freeze(void **state)
{
	struct fixture *f = *state;

	start_coprocess(f,
			"while read -r event rest; do echo ok; if [ $event = freeze ] && [ ! -e $DIR/once ]; then "
			"touch $DIR/once; sleep 0.2; exit 0; fi; done",
			"");
	expect(f, "Freeze", VSS_OK, NULL);
	stage_wait(f->stage, 600);
	expect_unbroken(f, false);
	stage_wait(f->stage, 1500); /* it is started again by itself */
	new_set(f);
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
}

static void a_coprocess_that_hangs_is_killed(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;
	char path[512];

	start_coprocess(f, GOOD_COPROCESS, "");
	put(f, "hang", 0644, " ");
	send_within(f, "Freeze", 1500, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	assert_true(answer.elapsed < 1500 * USEC_PER_MSEC);
	stage_answer_clear(&answer);
	snprintf(path, sizeof path, "%s/hang", f->directory);
	unlink(path);
	expect(f, "Abort", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
}

/* Both get their answers, in their order; the late one to the freeze is not taken for the abort's. */
static void an_abort_may_come_before_the_answer(void **state)
{
	struct fixture *f = *state;
	const struct stage_event event = { .name = "Freeze", .session = f->session, .set = f->set };
	struct stage_answer answer;
	bool answered = false;

	start_coprocess(f,
			"while read -r event rest; do echo $event >>$DIR/log; [ $event = freeze ] && sleep 1; "
			"echo ok to $event; done",
			"");
	stage_begin(f->stage, &event, &answer, &answered);
	for (int i = 0; i < 200 && !exists(f, "log"); i++)
		stage_wait(f->stage, 10);
	expect(f, "Abort", VSS_OK, "to abort");
	stage_settle(f->stage, &answered, 5000);
	assert_int_not_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
	expect_log(f, "freeze\nabort\n");
	new_set(f);
	expect(f, "Freeze", VSS_OK, "to freeze");
	expect_unbroken(f, true);
}

static void a_hook_may_stand_beside_a_coprocess(void **state)
{
	struct fixture *f = *state;
	char text[256];

	put(f, "prepare", 0755, "#!/bin/sh\necho by the hook\n");
	snprintf(text, sizeof text, "PrepareSnapshot=%s/prepare with arguments", f->directory);
	start_coprocess(f, GOOD_COPROCESS, text);
	expect(f, "PrepareSnapshot", VSS_OK, "by the hook");
	expect(f, "Freeze", VSS_OK, "fine");
	expect_log(f, "start\nfreeze\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_coprocess_answers_events),	   TEST(garbage_kills_and_restarts_it),
		TEST(death_in_an_event_is_its_failure),	   TEST(death_while_frozen_breaks_the_freeze),
		TEST(a_coprocess_that_hangs_is_killed),	   TEST(an_abort_may_come_before_the_answer),
		TEST(a_hook_may_stand_beside_a_coprocess),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
