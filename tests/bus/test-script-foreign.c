/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks written for QEMU's guest agent, VMware Tools and Azure Backup, as they are, as writers. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "script-fixture.h"

static void make_directory(struct fixture *f, const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

/* A hook in foreign/ that logs its name and arguments, then does the rest. */
static void put_foreign(struct fixture *f, const char *name, const char *body)
{
	char path[128];

	snprintf(path, sizeof path, "foreign/%s", name);
	put(f, path, 0755, "#!/bin/sh\nDIR=%s\necho %s \"$@\" >>$DIR/log\n%s\n", f->directory, name, body);
}

static void start_foreign(struct fixture *f, const char *format)
{
	char text[1024];

	snprintf(text, sizeof text, "Format=%s\nDirectory=%s/foreign\n", format, f->directory);
	configure(f, text);
	start_configured(f);
}

/* ---- QEMU's fsfreeze-hook.d ---- */

static void qemu_hooks_ascend_for_both(void **state)
{
	static const char *const leftovers[] = { "a~",	      "a.bak",	    "a.orig",	   "a.rpmnew",	  "a.rpmsave", "a.sample",
						 "a.dpkg-old", "a.dpkg-dist", "a.dpkg-remove", ".hidden" };
	struct fixture *f = *state;

	make_directory(f, "foreign");
	make_directory(f, "foreign/a-directory");
	for (size_t i = 0; i < ARRAY_SIZE(leftovers); i++)
		put_foreign(f, leftovers[i], "");
	put_foreign(f, "20-b.sh", "");
	put_foreign(f, "10 a", "");
	put_foreign(f, "Z", "");
	put(f, "foreign/readme", 0644, "not executable");
	start_foreign(f, "qemu-hooks");
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
	expect_log(f, "10 a freeze\n20-b.sh freeze\nZ freeze\n10 a thaw\n20-b.sh thaw\nZ thaw\n");
	/* All have thawed: a set that fails later is none of their business. */
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "10 a freeze\n20-b.sh freeze\nZ freeze\n10 a thaw\n20-b.sh thaw\nZ thaw\n");
}

/* Its dispatcher goes on, and freezes. */
static void a_qemu_hook_that_fails_counts(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	put_foreign(f, "2", "[ $1 = thaw ] || { echo 'no such table'; exit 3; }");
	put_foreign(f, "3", "");
	start_foreign(f, "qemu-hooks");
	expect(f, "Abort", VSS_OK, NULL);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "no such table");
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "1 freeze\n2 freeze\n1 thaw\n2 thaw\n3 thaw\n");
}

/* The shape of QEMU's mysql-flush.sh.sample: freeze leaves a process that holds the lock until thaw tells it by a FIFO. */
static void a_qemu_hook_that_leaves_a_process(void **state)
{
	struct fixture *f = *state;
	char text[64];

	make_directory(f, "foreign");
	put_foreign(f, "mysql-flush.sh",
		    "FIFO=$DIR/fifo\n"
		    "flush_and_wait() {\n"
		    "	trap 'rm -f $FIFO' EXIT\n"
		    "	touch $DIR/locked\n"
		    "	read _ <$FIFO\n"
		    "	echo 'nobody listens any more' >&2\n"
		    "	rm $DIR/locked\n"
		    "	touch $DIR/unlocked\n"
		    "}\n"
		    "case \"$1\" in\n"
		    "freeze)\n"
		    "	mkfifo $FIFO || exit 1\n"
		    "	flush_and_wait &\n"
		    "	while [ ! -e $DIR/locked ]; do sleep 0.01; done\n"
		    "	;;\n"
		    "thaw)\n"
		    "	[ ! -p $FIFO ] && exit 1\n"
		    "	echo >$FIFO\n"
		    "	;;\n"
		    "*)\n"
		    "	exit 1\n"
		    "	;;\n"
		    "esac");
	start_foreign(f, "qemu-hooks");
	expect(f, "Freeze", VSS_OK, NULL);
	assert_true(exists(f, "locked"));
	expect_unbroken(f, true);
	for (int i = 0; i < 300 && !exists(f, "unlocked"); i++)
		stage_wait(f->stage, 10);
	assert_true(exists(f, "unlocked"));
	read_file(f, "log", text, sizeof text);
	assert_string_equal(text, "mysql-flush.sh freeze\nmysql-flush.sh thaw\n");
}

static void a_qemu_hook_that_hangs_is_killed(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	make_directory(f, "foreign");
	put_foreign(f, "1", "[ $1 = thaw ] || sleep 600");
	start_foreign(f, "qemu-hooks");
	send_within(f, "Freeze", 1500, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	assert_true(answer.elapsed < 1500 * USEC_PER_MSEC);
	stage_answer_clear(&answer);
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "1 freeze\n1 thaw\n");
}

static void a_foreign_hook_that_others_may_write_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[512];

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	start_foreign(f, "qemu-hooks");
	snprintf(path, sizeof path, "%s/foreign/1", f->directory);
	assert_int_equal(chmod(path, 0775), 0);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "written by others");
	expect(f, "Abort", VSS_OK, NULL);
	assert_int_equal(chmod(path, 0755), 0);
	snprintf(path, sizeof path, "%s/foreign", f->directory);
	assert_int_equal(chmod(path, 0777), 0);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "written by others");
	assert_false(exists(f, "log"));
}

/* ---- VMware Tools' backupScripts.d ---- */

static void vmware_scripts_descend_for_thaw(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "10-a.sh", "");
	put_foreign(f, "20-b~", "");
	put_foreign(f, "30-c", "");
	start_foreign(f, "vmware-scripts");
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
	expect_log(f, "10-a.sh freeze\n20-b~ freeze\n30-c freeze\n30-c thaw\n20-b~ thaw\n10-a.sh thaw\n");
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "10-a.sh freeze\n20-b~ freeze\n30-c freeze\n30-c thaw\n20-b~ thaw\n10-a.sh thaw\n");
}

static void vmware_scripts_hear_of_a_failure(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	put_foreign(f, "2", "");
	put_foreign(f, "3", "[ $1 != freeze ] || [ ! -e $DIR/fail ] || exit 1");
	put_foreign(f, "4", "");
	start_foreign(f, "vmware-scripts");
	put(f, "fail", 0644, "%s", "");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "3 ended with exit code 1");
	expect(f, "Abort", VSS_OK, NULL);
	/* Neither the one that failed nor those that were not reached. */
	expect_log(f, "1 freeze\n2 freeze\n3 freeze\n2 freezeFail\n1 freezeFail\n");
	new_set(f);
	put(f, "log", 0644, "%s", "");
	put_foreign(f, "3", "");
	expect(f, "Freeze", VSS_OK, NULL);
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "1 freeze\n2 freeze\n3 freeze\n4 freeze\n4 freezeFail\n3 freezeFail\n2 freezeFail\n1 freezeFail\n");
}

static void vmware_thaw_goes_on_after_a_failure(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	put_foreign(f, "2", "[ $1 != thaw ] || exit 1");
	put_foreign(f, "3", "");
	start_foreign(f, "vmware-scripts");
	expect(f, "Freeze", VSS_OK, NULL);
	expect(f, "Thaw", VSS_E_WRITER_NON_RETRYABLE, "2 ended with exit code 1");
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "1 freeze\n2 freeze\n3 freeze\n3 thaw\n2 thaw\n1 thaw\n2 freezeFail\n");
}

/* One that was killed in its freeze cannot have cleaned up after itself. */
static void a_vmware_script_that_hangs_hears_of_it(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	put_foreign(f, "2", "[ $1 != freeze ] || sleep 600");
	start_foreign(f, "vmware-scripts");
	send_within(f, "Freeze", 1500, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	stage_answer_clear(&answer);
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "1 freeze\n2 freeze\n2 freezeFail\n1 freezeFail\n");
}

static void a_crash_of_ours_tells_all_vmware_scripts(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	put_foreign(f, "2", "");
	start_foreign(f, "vmware-scripts");
	expect(f, "Freeze", VSS_OK, NULL);
	end_writer(f, SIGKILL);
	start_configured(f);
	expect_log(f, "1 freeze\n2 freeze\n2 freezeFail\n1 freezeFail\n");
}

static void a_vmware_file_that_is_no_program_is_an_error(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "foreign");
	put_foreign(f, "1", "");
	start_foreign(f, "vmware-scripts");
	put(f, "foreign/2", 0644, "notes");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "2 is not executable");
}

/* ---- Azure Backup's pre- and post-script ---- */

static void put_script(struct fixture *f, const char *name, mode_t mode, const char *body)
{
	/* The first line names a program that does not exist: Azure runs it with sh, whatever stands there. */
	put(f, name, mode, "#!/nonexistent\nDIR=%s\necho %s \"$#\" \"$@\" >>$DIR/log\n%s\n", f->directory, name, body);
}

static void put_plugin(struct fixture *f, const char *more)
{
	put(f, "plugin.json", 0600,
	    "{ \"pluginName\" : \"ScriptRunner\", \"preScriptLocation\" : \"%s/pre\", \"postScriptLocation\" : \"%s/post\",\n"
	    "  \"preScriptParams\" : [\"one\", \"\"], \"postScriptParams\" : [], \"fsFreezeEnabled\" : true,\n"
	    "  \"ScriptsExecutionPollTimeSeconds\" : 3 %s }\n",
	    f->directory, f->directory, more);
}

static void start_azure(struct fixture *f, const char *more)
{
	char text[1024];

	put_plugin(f, more);
	snprintf(text, sizeof text, "Format=azure-plugin\nFile=%s/plugin.json\n", f->directory);
	configure(f, text);
	start_configured(f);
}

static void azure_scripts_run_as_there(void **state)
{
	struct fixture *f = *state;

	put_script(f, "pre", 0700, "");
	put_script(f, "post", 0700, "");
	start_azure(f, "");
	expect(f, "Freeze", VSS_OK, NULL);
	expect_unbroken(f, true);
	expect_log(f, "pre 2 one \npost 0\n");
	/* The file is read anew, and nobody is run whom it does not name any more. */
	put(f, "plugin.json", 0600, "{ \"preScriptLocation\": \"\" }");
	new_set(f);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "preScriptLocation names no script");
	expect(f, "Abort", VSS_OK, NULL);
	put(f, "plugin.json", 0600, "{ broken");
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "plugin.json:1:");
}

#define STRICT ", \"continueBackupOnFailure\" : false"

static void azure_post_follows_pre_always(void **state)
{
	struct fixture *f = *state;

	put_script(f, "pre", 0700, "echo 'SYSTEM FREEZE FAILED'; exit 1");
	put_script(f, "post", 0700, "");
	start_azure(f, STRICT);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "SYSTEM FREEZE FAILED");
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "pre 2 one \npost 0\n");
	expect(f, "Abort", VSS_OK, NULL);
	expect_log(f, "pre 2 one \npost 0\n");
}

static void azure_retries(void **state)
{
	struct fixture *f = *state;

	put_script(f, "pre", 0700, "[ $(grep -c ^pre $DIR/log) -gt 2 ]");
	put_script(f, "post", 0700, "exit 1");
	start_azure(f, STRICT ", \"preScriptNoOfRetries\" : 2, \"postScriptNoOfRetries\" : 1, \"timeoutInSeconds\" : 15");
	expect(f, "Freeze", VSS_OK, NULL);
	expect(f, "Thaw", VSS_E_WRITER_NON_RETRYABLE, "exit code 1");
	expect_log(f, "pre 2 one \npre 2 one \npre 2 one \npost 0\npost 0\n");
}

static void azure_has_a_time_for_all_tries(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	put_script(f, "pre", 0700, "sleep 0.7; exit 1");
	put_script(f, "post", 0700, "");
	start_azure(f, STRICT ", \"preScriptNoOfRetries\" : 90, \"timeoutInSeconds\" : 1");
	send_within(f, "Freeze", 20000, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	assert_true(answer.elapsed < 4 * USEC_PER_SEC);
	stage_answer_clear(&answer);
	expect(f, "Abort", VSS_OK, NULL);
}

static void expect_doubt(struct fixture *f, const char *event, const char *words)
{
	struct stage_answer answer;

	send_within(f, event, 20000, &answer);
	if (answer.error)
		fail_msg("%s: %s %s", event, answer.error_name, answer.message);
	const char *doubt = json_string_value(json_array_get(json_object_get(answer.body, "Doubts"), 0));
	if (!doubt || !strstr(doubt, words))
		fail_msg("the doubt \"%s\" does not hold \"%s\"", doubt ? doubt : "(none)", words);
	stage_answer_clear(&answer);
}

/* The backup goes on there, and so it does here; but the label says what it is worth. */
static void azure_may_go_on_after_a_failure(void **state)
{
	struct fixture *f = *state;

	put_script(f, "pre", 0700, "echo 'not today'; exit 1");
	put_script(f, "post", 0700, "exit 7");
	start_azure(f, ", \"continueBackupOnFailure\" : true");
	expect_doubt(f, "Freeze", "continueBackupOnFailure) allows: not today");
	expect_doubt(f, "Thaw", "post ended with exit code 7");
	assert_false(exists(f, "run/" WRITER_ID ".frozen"));
	expect_log(f, "pre 2 one \npost 0\n");
	put_script(f, "pre", 0700, "echo 'half of it'; exit 2");
	put_script(f, "post", 0700, "");
	new_set(f);
	expect(f, "Freeze", VSS_OK, "half of it"); /* 2: a warning, there */
	expect(f, "Abort", VSS_OK, NULL);
}

static void azure_scripts_are_roots_alone(void **state)
{
	struct fixture *f = *state;
	char path[512];

	put_script(f, "pre", 0700, "");
	put_script(f, "post", 0700, "");
	start_azure(f, "");
	snprintf(path, sizeof path, "%s/pre", f->directory);
	assert_int_equal(chmod(path, 0744), 0);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "chmod 700");
	expect(f, "Abort", VSS_OK, NULL);
	assert_int_equal(chmod(path, 0700), 0);
	snprintf(path, sizeof path, "%s/plugin.json", f->directory);
	assert_int_equal(chmod(path, 0662), 0);
	expect(f, "Freeze", VSS_E_WRITER_NON_RETRYABLE, "written by others");
	assert_false(exists(f, "log"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(qemu_hooks_ascend_for_both),
		TEST(a_qemu_hook_that_fails_counts),
		TEST(a_qemu_hook_that_leaves_a_process),
		TEST(a_qemu_hook_that_hangs_is_killed),
		TEST(a_foreign_hook_that_others_may_write_is_refused),
		TEST(vmware_scripts_descend_for_thaw),
		TEST(vmware_scripts_hear_of_a_failure),
		TEST(vmware_thaw_goes_on_after_a_failure),
		TEST(a_vmware_script_that_hangs_hears_of_it),
		TEST(a_crash_of_ours_tells_all_vmware_scripts),
		TEST(a_vmware_file_that_is_no_program_is_an_error),
		TEST(azure_scripts_run_as_there),
		TEST(azure_post_follows_pre_always),
		TEST(azure_retries),
		TEST(azure_has_a_time_for_all_tries),
		TEST(azure_may_go_on_after_a_failure),
		TEST(azure_scripts_are_roots_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
