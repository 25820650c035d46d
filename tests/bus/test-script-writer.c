/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-script-writer as a process, on a real bus, with executables that behave and that do not. A stage plays vssd. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus-harness.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "stage.h"

#define ID "0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c001"

struct fixture {
	struct bus_harness *bus;
	struct stage *stage;
	const char *directory;
	pid_t writer;
	char session[ID_SIZE], set[ID_SIZE];
};

/* ---- files ---- */

static void put(struct fixture *f, const char *name, mode_t mode, const char *format, ...)
{
	char path[512];
	va_list args;

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
}

/* A hook: a shell script in hooks/. DIR is the test's directory. */
static void put_hook(struct fixture *f, const char *event, const char *body)
{
	char name[64];

	snprintf(name, sizeof name, "hooks/%s", event);
	put(f, name, 0755, "#!/bin/sh\nDIR=%s\n%s\n", f->directory, body);
}

static void read_file(struct fixture *f, const char *name, char *text, size_t size)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;
	if (file)
		fclose(file);
	text[n] = '\0';
}

static void expect_log(struct fixture *f, const char *expected)
{
	char text[4096];

	read_file(f, "log", text, sizeof text);
	assert_string_equal(text, expected);
}

static bool exists(struct fixture *f, const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	return access(path, F_OK) == 0;
}

/* A zombie, which waits for its new parent, does not. */
static bool process_runs(pid_t pid)
{
	char path[64], state = 'Z';

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	fclose(file);
	return state != 'Z';
}

/* ---- the writer ---- */

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	char path[512];
	struct err err;

	f->bus = bus_harness_start();
	assert_non_null(f->bus);
	f->directory = bus_harness_directory(f->bus);
	umask(022);
	snprintf(path, sizeof path, "%s/hooks", f->directory);
	assert_int_equal(mkdir(path, 0755), 0);
	put_hook(f, "freeze", "echo freeze >>$DIR/log");
	put_hook(f, "thaw", "echo $1 $VSS_EVENT >>$DIR/log");
	if (stage_open(&f->stage, bus_harness_address(f->bus), &err) < 0)
		fail_msg("%s", err.text);
	id_new(f->session);
	id_new(f->set);
	*state = f;
	return 0;
}

static void start_process(struct fixture *f)
{
	char configuration[512], run[512];

	snprintf(configuration, sizeof configuration, "%s/writer.conf", f->directory);
	snprintf(run, sizeof run, "%s/run", f->directory);
	f->writer = fork();
	assert_true(f->writer >= 0);
	if (f->writer == 0) {
		execl(getenv("SCRIPT_WRITER"), "vss-script-writer", "--runtime-dir", run, configuration, NULL);
		_exit(127);
	}
}

static void configure(struct fixture *f, const char *more)
{
	put(f, "writer.conf", 0644, "[Writer]\nId=" ID "\nName=Test Script Writer\nPaths=/srv\n%s\n", more);
}

static void start_configured(struct fixture *f)
{
	unsigned before = stage_registrations(f->stage);

	start_process(f);
	assert_true(stage_wait_registrations(f->stage, before + 1, 10000));
	stage_wait(f->stage, 20);
}

static void start_hooks(struct fixture *f, const char *more)
{
	char text[1024];

	snprintf(text, sizeof text, "Hooks=%s/hooks\n%s", f->directory, more);
	configure(f, text);
	start_configured(f);
}

static void start_coprocess(struct fixture *f, const char *body, const char *more)
{
	char text[1024];

	put(f, "co", 0755, "#!/bin/bash\nDIR=%s\n%s\n", f->directory, body);
	snprintf(text, sizeof text, "CoProcess=%s/co\n%s", f->directory, more);
	configure(f, text);
	start_configured(f);
}

static int end_writer(struct fixture *f, int number)
{
	int status = 0;

	if (f->writer <= 0)
		return 0;
	kill(f->writer, number);
	while (waitpid(f->writer, &status, 0) < 0 && errno == EINTR)
		;
	f->writer = 0;
	return status;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	end_writer(f, SIGTERM);
	stage_close(f->stage);
	bus_harness_stop(f->bus);
	free(f);
	return 0;
}

/* ---- events ---- */

static void send_within(struct fixture *f, const char *name, uint64_t msec, struct stage_answer *answer)
{
	const struct stage_event event = {
		.name = name,
		.session = f->session,
		.set = f->set,
		.deadline = clock_now() + msec * USEC_PER_MSEC,
	};

	stage_send(f->stage, &event, answer);
}

static void expect(struct fixture *f, const char *name, enum vss_error error, const char *message)
{
	struct stage_answer answer;

	send_within(f, name, 20000, &answer);
	if (answer.error != error)
		fail_msg("%s: %s %s", name, answer.error_name, answer.message);
	const char *said = error ? answer.message : json_string_value(json_object_get(answer.body, "Message"));
	if (message && (!said || !strstr(said, message)))
		fail_msg("%s: \"%s\" does not hold \"%s\"", name, said ? said : "(nothing)", message);
	stage_answer_clear(&answer);
}

static void expect_unbroken(struct fixture *f, bool unbroken)
{
	struct stage_answer answer;

	send_within(f, "Thaw", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_int_equal(json_is_true(json_object_get(answer.body, "Unbroken")), unbroken);
	stage_answer_clear(&answer);
}

static void new_set(struct fixture *f)
{
	id_new(f->session);
	id_new(f->set);
}

/* ---- hooks ---- */

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
	assert_false(exists(f, "run/" ID ".frozen"));
}

static void without_an_abort_hook_thaw_serves(void **state)
{
	struct fixture *f = *state;

	start_hooks(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	assert_true(exists(f, "run/" ID ".frozen"));
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "freeze\nthaw abort\n");
	assert_false(exists(f, "run/" ID ".frozen"));
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

	put_hook(f, "freeze", "trap 'sleep 0.2; echo freeze ends >>$DIR/log; exit 1' TERM\n"
			      "touch $DIR/begun\nwhile :; do sleep 0.05; done");
	start_hooks(f, "");
	stage_begin(f->stage, &event, &freeze, &frozen);
	for (int i = 0; i < 200 && !exists(f, "begun"); i++)
		stage_wait(f->stage, 10);
	stage_new_sender(f->stage, &(struct err){ 0 });
	send_within(f, "Abort", 20000, &abort);
	stage_settle(f->stage, &frozen, 5000);
	for (int i = 0; i < 300 && exists(f, "run/" ID ".frozen"); i++)
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

	put_hook(f, "freeze", "yes 'a rather long line of output that nobody wants to read' | head -c 3000000; echo done");
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
	json_t *details = json_pack("{s[{ss ss si}{ss ss si s{si}}]}", "Volumes", "Path", "/", "Id", "r", "InstantGroup", 1,
				    "Path", "/srv", "Id", "s", "InstantGroup", 1, "Copy", "$fd", 0);
	const struct stage_event event = {
		.name = "PostSnapshot", .session = f->session, .set = f->set, .details = details, .fds = &copy, .n_fds = 1
	};
	struct stage_answer answer;

	put_hook(f, "post-snapshot", "echo \"$VSS_VOLUMES ${VSS_COPY_1-none} $VSS_COPY_2\"; touch \"$VSS_COPY_2/repaired\"");
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
	assert_false(exists(f, "run/" ID ".frozen"));
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
	assert_false(exists(f, "run/" ID ".frozen"));
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

/* ---- co-process ---- */

#define GOOD_COPROCESS                                                 \
	"echo start >>$DIR/log\n"                                      \
	"while read -r event rest; do echo \"$event\" >>$DIR/log; " \
	"[ -e $DIR/die ] && exit 3; [ -e $DIR/hang ] && sleep 600; cat $DIR/answer 2>/dev/null || echo ok fine; done\n" \
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
		TEST(a_coprocess_answers_events),
		TEST(garbage_kills_and_restarts_it),
		TEST(death_in_an_event_is_its_failure),
		TEST(death_while_frozen_breaks_the_freeze),
		TEST(a_coprocess_that_hangs_is_killed),
		TEST(a_hook_may_stand_beside_a_coprocess),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
