/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Script writers whose executables behave, and such whose do not. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "script-fixture.h"

static void events_run_their_hooks(void **state)
{
	struct fixture *f = *state;

	put_hook(f, "prepare-snapshot", "echo prepare >>$DIR/log; echo first; echo; echo 'last words'; echo");
	put_hook(f, "backup-complete", "echo complete $VSS_SUCCEEDED >>$DIR/log");
	start_hooks(f, "Level=back-end");
	assert_string_equal(json_string_value(json_object_get(stage_metadata(f->stage), "Level")), "back-end");
	expect(f, "PrepareSnapshot", VSS_OK, "last words");
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
	expect(f, "BackupComplete", VSS_OK, NULL);
	expect_log(f, "prepare\nfreeze\nthaw thaw\ncomplete no\n");
	assert_false(exists(f, "run/" WRITER_ID ".frozen"));
}

static void without_an_abort_hook_thaw_serves(void **state)
{
	struct fixture *f = *state;

	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	assert_true(exists(f, "run/" WRITER_ID ".frozen"));
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "freeze\nthaw abort\n");
	assert_false(exists(f, "run/" WRITER_ID ".frozen"));
}

static void exit_codes_become_codes(void **state)
{
	struct fixture *f = *state;

	put_hook(f, "freeze", "echo 'the database says no'; exit $(cat $DIR/code)");
	start_hooks(f, "");
	put(f, "code", 0644, "75");
	expect(f, "Freeze", VSS_E_WRITER_RETRYABLE, "the database says no");
	expect(f, "Abort", VSS_OK, NULL);
	put(f, "code", 0644, "1");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "the database says no");
	expect(f, "Abort", VSS_OK, NULL);
	put(f, "code", 0644, "65");
	expect(f, "Freeze", VSS_E_WRITER_INCONSISTENT_SNAPSHOT, NULL);
	expect(f, "Abort", VSS_OK, NULL);
	put_hook(f, "freeze", "exit 9");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "exit code 9");
	expect(f, "Abort", VSS_OK, NULL);
	put_hook(f, "freeze", "kill -SEGV $$");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "signal 11");
}

static void a_hook_that_hangs_is_killed_with_its_group(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;
	char text[32];

	put_hook(f, "freeze", "trap '' TERM\nsleep 600 &\necho $! >$DIR/pid\nwhile :; do sleep 600; done");
	start_hooks(f, "");
	send_within(f, "Freeze", 2000, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	assert_non_null(strstr(answer.message, "was killed"));
	assert_true(answer.elapsed < 2000 * USEC_PER_MSEC);
	stage_answer_clear(&answer);
	read_file(f, "pid", text, sizeof text);
	for (int i = 0; i < 200 && process_runs(atoi(text)); i++)
		stage_wait(f->stage, 10);
	assert_false(process_runs(atoi(text)));
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "thaw abort\n");
}

static void an_abort_ends_the_freeze_first(void **state)
{
	struct fixture *f = *state;
	struct stage_answer freeze, abort;
	bool frozen = false;
	const struct stage_event event = { .name = "Freeze", .session = f->session, .set = f->set };

	put_hook(f, "freeze",
		 "trap 'sleep 0.2; echo freeze ends >>$DIR/log; exit 1' TERM\n"
		 "touch $DIR/begun\nwhile :; do sleep 0.05; done");
	start_hooks(f, "");
	stage_begin(f->stage, &event, &freeze, &frozen);
	for (int i = 0; i < 200 && !exists(f, "begun"); i++)
		stage_wait(f->stage, 10);
	stage_new_sender(f->stage, &(struct err){ 0 });
	send_within(f, "Abort", 20000, &abort);
	stage_settle(f->stage, &frozen, 5000);
	for (int i = 0; i < 300 && exists(f, "run/" WRITER_ID ".frozen"); i++)
		stage_wait(f->stage, 10);
	stage_answer_clear(&abort);
	stage_answer_clear(&freeze);
	char text[256];
	read_file(f, "log", text, sizeof text);
	assert_int_equal(strncmp(text, "freeze ends\nthaw abort\n", 23), 0);
}

static void output_without_end_is_drained(void **state)
{
	struct fixture *f = *state;

	put_hook(f, "freeze",
		 "yes 'a rather long line of output that nobody wants to read' | head -c 3000000; echo done");
	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, "done");
	expect_unbroken(f, true);
}

static void a_background_process_does_not_delay_the_answer(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;
	char text[32];

	put_hook(f, "freeze", "sleep 600 &\necho $! >$DIR/pid\necho frozen");
	start_hooks(f, "");
	send_within(f, "Freeze", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_true(answer.elapsed < 5 * USEC_PER_SEC);
	stage_answer_clear(&answer);
	read_file(f, "pid", text, sizeof text);
	assert_int_equal(kill(atoi(text), SIGKILL), 0);
	expect_unbroken(f, true);
}

static void a_hook_directory_is_run_in_order(void **state)
{
	struct fixture *f = *state;
	char path[512];

	for (const char *const *name = (const char *const[]){ "freeze.d", "thaw.d", NULL }; *name; name++) {
		snprintf(path, sizeof path, "%s/hooks/%s", f->directory, *name);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	put_hook(f, "freeze.d/10-a", "echo freeze a >>$DIR/log");
	put_hook(f, "freeze.d/20-b", "echo freeze b >>$DIR/log; exit 75");
	put_hook(f, "freeze.d/30-c", "echo freeze c >>$DIR/log");
	put_hook(f, "thaw.d/10-a", "echo thaw a >>$DIR/log");
	put_hook(f, "thaw.d/20-b", "echo thaw b >>$DIR/log; exit 1");
	put_hook(f, "thaw.d/20-b.dpkg-old", "echo leftover >>$DIR/log");
	start_hooks(f, "");
	expect(f, "Freeze", VSS_E_WRITER_RETRYABLE, NULL);
	expect(f, "Abort", VSS_E_WRITER_NON_RETRYABLE, "20-b");
	expect_log(f, "freeze\nfreeze a\nfreeze b\nthaw b\nthaw a\nthaw abort\n");
}

static void a_hook_that_others_may_write_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[512];

	start_hooks(f, "");
	snprintf(path, sizeof path, "%s/hooks/freeze", f->directory);
	assert_int_equal(chmod(path, 0777), 0);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "written by others");
	assert_int_equal(chmod(path, 0755), 0);
	expect(f, "Abort", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
}

static void the_environment_is_told_and_clean(void **state)
{
	struct fixture *f = *state;
	char text[4096], line[128];

	setenv("LEAKED", "1", 1);
	put_hook(f, "freeze", "env >$DIR/env; pwd >>$DIR/env; ls /proc/self/fd >$DIR/fds; cat");
	start_hooks(f, "Environment=ADDED=by configuration");
	unsetenv("LEAKED");
	expect(f, "Freeze", VSS_OK, NULL);
	read_file(f, "env", text, sizeof text);
	assert_null(strstr(text, "LEAKED"));
	assert_null(strstr(text, "DBUS_"));
	assert_non_null(strstr(text, "ADDED=by configuration\n"));
	assert_non_null(strstr(text, "VSS_EVENT=freeze\n"));
	snprintf(line, sizeof line, "VSS_SET=%s\n", f->set);
	assert_non_null(strstr(text, line));
	assert_non_null(strstr(text, "\n/\n"));
	read_file(f, "fds", text, sizeof text);
	assert_string_equal(text, "0\n1\n2\n3\n"); /* 3 is ls' own */
}

static void copies_are_inherited(void **state)
{
	struct fixture *f = *state;
	autoclose int copy = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	json_t *details = json_pack("{s[{ss ss si}{ss ss si s{si}}]}", "Volumes", "Path", "/", "Id", "r",
				    "InstantGroup", 1, "Path", "/srv", "Id", "s", "InstantGroup", 1, "Copy", "$fd", 0);
	const struct stage_event event = { .name = "PostSnapshot",
					   .session = f->session,
					   .set = f->set,
					   .details = details,
					   .fds = &copy,
					   .n_fds = 1 };
	struct stage_answer answer;

	put_hook(f, "post-snapshot",
		 "echo \"$VSS_VOLUMES ${VSS_COPY_1-none} $VSS_COPY_2\"; touch \"$VSS_COPY_2/repaired\"");
	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
	stage_send(f->stage, &event, &answer);
	if (answer.error)
		fail_msg("%s", answer.message);
	assert_string_equal(json_string_value(json_object_get(answer.body, "Message")), "2 none /proc/self/fd/3");
	assert_true(exists(f, "repaired"));
	stage_answer_clear(&answer);
	json_decref(details);
}

static void output_keeps_a_long_event_alive(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	put_hook(f, "prepare-snapshot", "for i in 1 2 3 4 5; do echo step $i; sleep 0.4; done");
	start_hooks(f, "");
	send_within(f, "PrepareSnapshot", 1500, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_true(stage_keep_alives(f->stage) >= 1);
	stage_answer_clear(&answer);
}

/* ---- the writer's own end ---- */

static void a_stop_while_frozen_lets_go(void **state)
{
	struct fixture *f = *state;

	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	assert_int_equal(end_writer(f, SIGTERM), 0);
	expect_log(f, "freeze\nthaw abort\n");
	assert_false(exists(f, "run/" WRITER_ID ".frozen"));
}

static void a_crash_while_frozen_is_made_good(void **state)
{
	struct fixture *f = *state;

	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	end_writer(f, SIGKILL);
	expect_log(f, "freeze\n");
	start_configured(f);
	expect_log(f, "freeze\nthaw abort\n");
	assert_false(exists(f, "run/" WRITER_ID ".frozen"));
}

static void without_a_freeze_hook_it_does_not_start(void **state)
{
	struct fixture *f = *state;
	char path[512];
	int status;

	snprintf(path, sizeof path, "%s/hooks/freeze", f->directory);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof path, "Hooks=%s/hooks", f->directory);
	configure(f, path);
	start_process(f);
	assert_int_equal(waitpid(f->writer, &status, 0), f->writer);
	f->writer = 0;
	assert_int_equal(WEXITSTATUS(status), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(events_run_their_hooks),
		TEST(without_an_abort_hook_thaw_serves),
		TEST(exit_codes_become_codes),
		TEST(a_hook_that_hangs_is_killed_with_its_group),
		TEST(an_abort_ends_the_freeze_first),
		TEST(output_without_end_is_drained),
		TEST(a_background_process_does_not_delay_the_answer),
		TEST(a_hook_directory_is_run_in_order),
		TEST(a_hook_that_others_may_write_is_refused),
		TEST(the_environment_is_told_and_clean),
		TEST(copies_are_inherited),
		TEST(output_keeps_a_long_event_alive),
		TEST(a_stop_while_frozen_lets_go),
		TEST(a_crash_while_frozen_is_made_good),
		TEST(without_a_freeze_hook_it_does_not_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
