/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl as a process, against the fake coordinator: exit codes, interruption in each phase, the life of a backup, and
 * JSON that keeps to its schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "fake-harness.h"

#define BEHAVIOURS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define WORDS(...) ((const char *const[]){ "vssctl", __VA_ARGS__, NULL })

static const char *file_in(const struct fake_harness *fake, const char *name, char path[128])
{
	snprintf(path, 128, "%s/%s", fake_harness_directory(fake), name);
	return path;
}

static const int interrupts[] = { SIGINT, SIGTERM, SIGHUP };

/* stdout and stderr go to files "out" and "err" in the harness' directory. */
static pid_t begin(const struct fake_harness *fake, const char *const *words)
{
	char out[128], err[128];
	pid_t pid = fork();

	if (pid > 0)
		return pid;
	dup2(open(file_in(fake, "out", out), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
	dup2(open(file_in(fake, "err", err), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	setenv("XDG_RUNTIME_DIR", fake_harness_directory(fake), 1);
	/* vssctl minds what its caller ignores; ours may have run us with nohup. */
	for (size_t i = 0; i < ARRAY_SIZE(interrupts); i++)
		signal(interrupts[i], SIG_DFL);
	execv(getenv("VSSCTL"), (char *const *)words);
	_exit(99);
}

static int end(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int run(const struct fake_harness *fake, const char *const *words)
{
	return end(begin(fake, words));
}

static char *read_file(const struct fake_harness *fake, const char *name)
{
	char path[128], *text = calloc(1, 65536);
	FILE *file = fopen(file_in(fake, name, path), "re");

	assert_non_null(file);
	assert_true(fread(text, 1, 65535, file) < 65535);
	fclose(file);
	return text;
}

static bool says(const struct fake_harness *fake, const char *name, const char *text)
{
	autofree char *content = read_file(fake, name);

	return strstr(content, text) != NULL;
}

/* Of the private roots: begin() has them made in the harness' directory. */
static bool nothing_left(const struct fake_harness *fake)
{
	char pattern[128];
	glob_t found;
	int r = glob(file_in(fake, "vssctl-*", pattern), 0, NULL, &found);

	globfree(&found);
	return r == GLOB_NOMATCH;
}

static void code_is(const char *behaviour, const char *const *words, int expected)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS(behaviour));
	int code = run(fake, words);

	if (code != expected) {
		autofree char *err = read_file(fake, "err");
		print_error("%s: %s", behaviour ? behaviour : "", err);
	}
	assert_int_equal(code, expected);
	fake_harness_stop(fake);
}

static void exit_codes(void **state)
{
	const char *const *create = WORDS("create", "shadow", "--for", "/data");

	code_is(NULL, create, 0);
	code_is("result=DoSnapshotSet:ProviderVeto", create, 1);
	code_is("error=CreateSession:AccessDenied", create, 4);
	code_is("error=AddToSnapshotSet:ObjectNotFound", create, 3);
	code_is("result=DoSnapshotSet:WriterTimedOut", create, 75);
	code_is("result=DoSnapshotSet:SnapshotSetInProgress", create, 75);
	code_is("error=DoSnapshotSet:InvalidArgument", create, 2);
	code_is(NULL, WORDS("create", "shadow"), 2);
	code_is(NULL, WORDS("list", "nonsense"), 2);
	code_is(NULL, WORDS("list", "writers"), 0);
	code_is(NULL, WORDS("list", "providers"), 0);
	code_is(NULL, WORDS("list", "shadows", "--shadow", "153b6835-be81-45ed-bd01-2edbf4f61a85"), 3);
	code_is(NULL, WORDS("delete", "shadows", "--all", "-y"), 6);
	code_is(NULL, WORDS("delete", "shadows", "--all"), 2);
	code_is("error=ResetWriter:ObjectNotFound", WORDS("reset", "writer", "x"), 3);
}

static void unreachable(void **state)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS(NULL));

	fake_harness_kill(fake);
	assert_int_equal(run(fake, WORDS("list", "writers")), 5);
	fake_harness_stop(fake);
}

static void hung(void **state)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS("hang=ListWriters"));
	uint64_t begun = clock_now();

	assert_int_equal(run(fake, WORDS("list", "writers")), 5);
	assert_true(clock_now() - begun < 16 * USEC_PER_SEC);
	fake_harness_stop(fake);
}

static void strangers_words_are_escaped(void **state)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS("result=DoSnapshotSet:WriterTimedOut"));

	assert_int_equal(run(fake, WORDS("create", "shadow", "--for", "/data")), 75);
	assert_true(says(fake, "err", "writer 'Bad\\x1b[31mWriter': [9] Failed, Timed out: no time"));
	fake_harness_stop(fake);
}

/* ---- interruption ---- */

static void wait_for_call(const struct fake_harness *fake, const char *call)
{
	for (uint64_t until = clock_now() + 10 * USEC_PER_SEC; clock_now() < until; usleep(5000))
		if (fake_harness_called(fake, call))
			return;
	fail_msg("%s was never called", call);
}

static void interrupted_in(const char *behaviour, const char *call, const char *const *words, int number)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS(behaviour));
	pid_t pid = begin(fake, words);

	wait_for_call(fake, call);
	usleep(50000);
	kill(pid, number);
	assert_int_equal(end(pid), 128 + number);
	assert_true(fake_harness_called(fake, "Abort"));
	assert_true(nothing_left(fake));
	fake_harness_stop(fake);
}

static void interrupted_in_each_phase(void **state)
{
	const char *const *create = WORDS("create", "shadow", "--for", "/data");
	const char *const *verify = WORDS("verify", "--for", "/data");
	const char *const *backup = WORDS("backup", "--for", "/data", "--", "true");

	interrupted_in("slow=DoSnapshotSet", "DoSnapshotSet", create, SIGINT);
	interrupted_in("slow=DoSnapshotSet", "DoSnapshotSet", backup, SIGTERM);
	interrupted_in("slow=DoSnapshotSet", "DoSnapshotSet", backup, SIGHUP);
	interrupted_in("slow=GatherWriterMetadata", "GatherWriterMetadata", verify, SIGINT);
	interrupted_in("slow=PrepareForBackup", "PrepareForBackup", verify, SIGINT);
}

/* ---- the life of a backup; mounting takes root ---- */

static struct fake_harness *start_as_root(const char *behaviour)
{
	if (geteuid() != 0)
		skip();
	return fake_harness_start(BEHAVIOURS(behaviour));
}

static void backup_of_nested_volumes(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);

	assert_int_equal(
	    run(fake, WORDS("backup", "--for", "/data/below", "--for", "/data", "--", "sh", "-c",
			    "cd \"$VSS_ROOT\" && find . | sort && cat data/below/file && echo $VSS_LIVE_1 "
			    "$VSS_LIVE_2 && [ \"$VSS_COPY_2\" = \"$1/data/below\" ] && ! touch x && exit 42",
			    "sh", "{}")),
	    42);
	assert_true(says(fake, "out",
			 ".\n./data\n./data/below\n./data/below/below\n./data/below/file\n./data/file\n"
			 "copied\n/data /data/below\n"));
	assert_true(says(fake, "err", "not in the set: /data/below"));
	assert_true(fake_harness_called(fake, "SetBackupSucceeded [false,{}]"));
	assert_true(fake_harness_called(fake, "BackupComplete"));
	assert_true(fake_harness_called(fake, "Close"));
	assert_true(nothing_left(fake));
	fake_harness_stop(fake);
}

static void backup_of_the_root(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);

	assert_int_equal(run(fake, WORDS("backup", "--for", "/", "--", "cat", "{}/file")), 0);
	assert_true(says(fake, "out", "copied\n"));
	assert_true(fake_harness_called(fake, "SetBackupSucceeded [true,{}]"));
	fake_harness_stop(fake);
}

static void backup_under_a_root_of_the_users(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);
	char file[128];

	assert_int_equal(run(fake, WORDS("backup", "--root", fake_harness_directory(fake), "--for", "/data", "--",
					 "cat", "{}/data/file")),
			 0);
	assert_int_equal(access(file_in(fake, "calls", file), F_OK), 0);
	assert_int_equal(run(fake, WORDS("backup", "--root=/", "--for", "/data", "--", "true")), 1);
	fake_harness_stop(fake);
}

static void backup_that_cannot_run(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);

	assert_int_equal(run(fake, WORDS("backup", "--for", "/data", "--", "/nonexistent/command")), 127);
	assert_int_equal(run(fake, WORDS("backup", "--for", "/data", "--", "/etc/passwd")), 126);
	assert_int_equal(fake_harness_count(fake, "SetBackupSucceeded [false,{}]"), 2);
	assert_int_equal(run(fake, WORDS("backup", "--for", "/data", "--", "sh", "-c", "kill -KILL $$")), 137);
	assert_true(nothing_left(fake));
	fake_harness_stop(fake);
}

static void backup_interrupted(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);
	pid_t pid = begin(fake, WORDS("backup", "--for", "/data", "--", "sleep", "60"));

	wait_for_call(fake, "Mount");
	usleep(200000);
	kill(pid, SIGINT);
	assert_int_equal(end(pid), 130);
	assert_true(fake_harness_called(fake, "SetBackupSucceeded [false,{}]"));
	assert_true(fake_harness_called(fake, "Close"));
	assert_true(nothing_left(fake));
	fake_harness_stop(fake);
}

/* The copies are taken back when vssctl is killed: COMMAND must end too. */
static void backup_killed(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);
	char file[128], command[192];
	pid_t pid;

	snprintf(command, sizeof command, "trap 'echo told > %s; exit' TERM; while :; do sleep 0.1; done",
		 file_in(fake, "told", file));
	pid = begin(fake, WORDS("backup", "--root", "/mnt", "--for", "/data", "--", "sh", "-c", command));
	wait_for_call(fake, "Mount");
	usleep(200000);
	kill(pid, SIGKILL);
	assert_int_equal(end(pid), -SIGKILL);
	for (int i = 0; i < 100 && access(file, F_OK) < 0; i++)
		usleep(50000);
	assert_int_equal(access(file, F_OK), 0);
	fake_harness_stop(fake);
}

static void backup_over_a_restart(void **state)
{
	struct fake_harness *fake = start_as_root(NULL);
	pid_t pid = begin(fake, WORDS("backup", "--for", "/data", "--", "sleep", "1"));

	wait_for_call(fake, "Mount");
	fake_harness_restart_after(fake, 200, BEHAVIOURS(NULL));
	assert_int_equal(end(pid), 0);
	assert_true(fake_harness_called(fake, "SetBackupSucceeded [true,{}]"));
	assert_true(fake_harness_called(fake, "BackupComplete"));
	fake_harness_stop(fake);
}

static void completion_fails(void **state)
{
	struct fake_harness *fake = start_as_root("result=BackupComplete:WriterNonRetryable");

	assert_int_equal(run(fake, WORDS("backup", "--for", "/data", "--", "true")), 6);
	assert_int_equal(run(fake, WORDS("backup", "--for", "/data", "--", "sh", "-c", "exit 3")), 3);
	fake_harness_stop(fake);
}

/* ---- JSON ---- */

static void json_keeps_to_the_schema(void **state)
{
	struct fake_harness *fake = fake_harness_start(BEHAVIOURS(NULL));
	char hook[128];
	file_in(fake, "hook", hook);
	const char *const *const all[] = {
		(const char *const[]){ "vssctl", "list", "writers", "--json", NULL },
		(const char *const[]){ "vssctl", "list", "shadows", "--json", NULL },
		(const char *const[]){ "vssctl", "list", "providers", "--json", NULL },
		(const char *const[]){ "vssctl", "list", "sessions", "--json", NULL },
		(const char *const[]){ "vssctl", "status", "--json", NULL },
		(const char *const[]){ "vssctl", "create", "shadow", "--json", "--for", "/data", NULL },
		(const char *const[]){ "vssctl", "delete", "shadows", "--json", "--all", "--quiet", NULL },
		(const char *const[]){ "vssctl", "verify", "--json", "--for", "/data", NULL },
		(const char *const[]){ "vssctl", "hook", "thaw", "--json", "--runtime-dir", hook, NULL },
		(const char *const[]){ "vssctl", "hook", "freezeFail", "--json", "--runtime-dir", hook, NULL },
		(const char *const[]){ "vssctl", "reset", "writer", "--json", "x", NULL },
		(const char *const[]){ "vssctl", "abort", "--json", "--all", NULL },
		(const char *const[]){ "vssctl", "expose", "--json", "d61d61c8-d73a-4eee-8cdd-f6f9786b7124", "/mnt",
				       NULL },
		(const char *const[]){ "vssctl", "backup", "--json", "--for", "/data", "--", "echo", "noise", NULL },
	};
	char out[128], command[512];

	for (size_t i = 0; i < ARRAY_SIZE(all) - (geteuid() != 0); i++) {
		run(fake, all[i]);
		snprintf(command, sizeof command, "python3 %s %s %s", getenv("CHECK_SCHEMA"), getenv("SCHEMA"),
			 file_in(fake, "out", out));
		if (system(command) != 0)
			fail_msg("%s %s", all[i][1], all[i][2]);
	}
	fake_harness_stop(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_codes),
		cmocka_unit_test(unreachable),
		cmocka_unit_test(hung),
		cmocka_unit_test(strangers_words_are_escaped),
		cmocka_unit_test(interrupted_in_each_phase),
		cmocka_unit_test(backup_of_nested_volumes),
		cmocka_unit_test(backup_of_the_root),
		cmocka_unit_test(backup_under_a_root_of_the_users),
		cmocka_unit_test(backup_that_cannot_run),
		cmocka_unit_test(backup_interrupted),
		cmocka_unit_test(backup_killed),
		cmocka_unit_test(backup_over_a_restart),
		cmocka_unit_test(completion_fails),
		cmocka_unit_test(json_keeps_to_the_schema),
	};

	return cmocka_run_group_tests_name("vssctl", tests, NULL, NULL);
}
