/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd's side of the guard, against the real program, and against one that is absent, ends, or says nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/guard/guard-client.h"

struct scene {
	char directory[64], socket[128];
	sd_event *event;
	struct guard *guard;
	pid_t pid;
	/* of the last answer: */
	int answers;
	struct err err;
	bool had_answer;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof *s);

	strcpy(s->directory, "/tmp/test-guard-client.XXXXXX");
	if (!mkdtemp(s->directory) || sd_event_new(&s->event) < 0)
		return -1;
	snprintf(s->socket, sizeof s->socket, "%s/guard.sock", s->directory);
	s->guard = guard_new(s->event, s->socket);
	*state = s;
	return s->guard ? 0 : -1;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char command[128];

	guard_free(s->guard);
	sd_event_unref(s->event);
	if (s->pid > 0) {
		kill(s->pid, SIGTERM);
		waitpid(s->pid, NULL, 0);
	}
	snprintf(command, sizeof command, "rm -r %s", s->directory);
	int r = system(command);
	free(s);
	return r;
}

static void start_guard(struct scene *s)
{
	char *program = getenv("VSS_GUARD"), *argv[] = { program, (char *)"--run-directory", s->directory, NULL };

	unsetenv("INVOCATION_ID");
	assert_int_equal(posix_spawn(&s->pid, program, NULL, NULL, argv, environ), 0);
	for (int i = 0; i < 1000 && access(s->socket, F_OK) < 0; i++)
		poll(NULL, 0, 10);
}

static void on_answer(const struct err *err, json_t *answer, void *data)
{
	struct scene *s = data;

	s->answers++;
	s->err = *err;
	s->had_answer = answer != NULL;
}

static void run_until_answered(struct scene *s, int answers)
{
	uint64_t end = clock_now() + 20 * USEC_PER_SEC;

	while (s->answers < answers && clock_now() < end)
		assert_true(sd_event_run(s->event, 100000) >= 0);
	assert_int_equal(s->answers, answers);
}

/* A plan that is right and cannot be carried out: /proc is never frozen. */
static struct window *arm(struct scene *s, struct err *err)
{
	struct stat st;
	autoclose int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	json_t *plan = json_pack("{ss ss s[{si ss so}]}", "Set", "test", "Owner", "test", "Filesystems", "Fd", 0,
				 "Path", "/proc", "Device", json_sprintf("%u:%u", major(st.st_dev), minor(st.st_dev)));
	struct window *w = guard_arm(s->guard, plan, &fd, 1, clock_now() + 5 * USEC_PER_SEC, on_answer, s, err);
	if (w)
		run_until_answered(s, s->answers + 1); /* it needs the descriptor until then */
	return w;
}

static void absent(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };

	assert_null(arm(s, &err));
	assert_int_equal(err.code, VSS_E_NOT_AVAILABLE);
	assert_string_equal(err.text, "vss-guard is not running: start vss-guard.service");
}

static void fails_to_freeze(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };

	start_guard(s);
	struct window *w = arm(s, &err);
	assert_non_null(w);
	assert_int_equal(s->err.code, VSS_OK);
	window_go(w, on_answer);
	assert_int_equal(s->answers, 1); /* never from within */
	run_until_answered(s, 2);
	assert_int_not_equal(s->err.code, VSS_OK);
	assert_non_null(strstr(s->err.text, "/proc"));
	assert_true(s->had_answer); /* with "Stuck" */
	window_close(w);
	/* The next one begins afresh. */
	w = arm(s, &err);
	assert_non_null(w);
	assert_int_equal(s->err.code, VSS_OK);
	window_close(w);
}

static void refuses_a_plan(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };

	start_guard(s);
	struct window *w =
	    guard_arm(s->guard, json_pack("{ss}", "Set", "a"), NULL, 0, clock_now() + USEC_PER_SEC, on_answer, s, &err);
	assert_non_null(w);
	run_until_answered(s, 1);
	assert_int_equal(s->err.code, VSS_E_INVALID_ARGUMENT);
	assert_non_null(strstr(s->err.text, "empty"));
	/* Nothing is armed. */
	window_go(w, on_answer);
	run_until_answered(s, 2);
	assert_int_equal(s->err.code, VSS_E_BAD_STATE);
	window_close(w);
}

/* All of the guard on one CPU, where a releaser that spins keeps its executor, which has a lower priority, from ending.
 */
static void start_guard_on_one_cpu(struct scene *s)
{
	cpu_set_t before, one;
	int cpu = 0;

	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	start_guard(s);
	assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* The one child that the releaser has at rest; 0: none yet. */
static pid_t executor_of(const struct scene *s)
{
	char path[64];
	int pid = 0;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", s->pid, s->pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

static pid_t wait_for_executor(const struct scene *s, pid_t before)
{
	pid_t pid = executor_of(s);

	for (int i = 0; i < 500 && (pid == 0 || pid == before); i++) {
		poll(NULL, 0, 10);
		pid = executor_of(s);
	}
	assert_int_not_equal(pid, 0);
	assert_int_not_equal(pid, before);
	return pid;
}

/* The window is armed and run as far as /proc can be: into the refusal to freeze it. */
static void assert_window(struct scene *s)
{
	struct err err = { 0 };
	struct window *w = arm(s, &err);

	assert_non_null(w);
	assert_string_equal(s->err.text, "");
	window_go(w, on_answer);
	run_until_answered(s, s->answers + 1);
	assert_non_null(strstr(s->err.text, "/proc"));
	window_close(w);
}

/* Whenever the set comes after it. */
static void executor_killed_at_rest(void **state)
{
	static const int pauses[] = { 150, 5, 0 }; /* ms */
	struct scene *s = *state;
	pid_t executor = 0;

	start_guard_on_one_cpu(s);
	for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
		executor = wait_for_executor(s, executor);
		poll(NULL, 0, 50); /* it is ready */
		kill(executor, SIGKILL);
		poll(NULL, 0, pauses[i]);
		assert_window(s);
	}
	/* And without a set. */
	executor = wait_for_executor(s, 0);
	kill(executor, SIGKILL);
	wait_for_executor(s, executor);
}

static void executor_stopped_at_rest(void **state)
{
	struct scene *s = *state;
	uint64_t begin = clock_now();

	start_guard_on_one_cpu(s);
	poll(NULL, 0, 50);
	kill(wait_for_executor(s, 0), SIGSTOP);
	assert_window(s);
	assert_true(clock_now() - begin < 2 * USEC_PER_SEC);
}

/* Nothing is held yet: another one takes the window over. */
static void executor_killed_when_armed(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };

	start_guard_on_one_cpu(s);
	struct window *w = arm(s, &err);
	assert_non_null(w);
	kill(wait_for_executor(s, 0), SIGKILL);
	poll(NULL, 0, 100);
	window_go(w, on_answer);
	run_until_answered(s, 2);
	assert_non_null(strstr(s->err.text, "/proc"));
	window_close(w);
	assert_window(s);
}

static void ends(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };

	start_guard(s);
	struct window *w = arm(s, &err);
	assert_non_null(w);
	kill(s->pid, SIGTERM);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
	window_go(w, on_answer);
	run_until_answered(s, 2);
	assert_int_not_equal(s->err.code, VSS_OK);
	/* And again: still told, still once. */
	window_go(w, on_answer);
	run_until_answered(s, 3);
	assert_int_not_equal(s->err.code, VSS_OK);
	window_close(w);
}

static void says_nothing(void **state)
{
	struct scene *s = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err err = { 0 };

	strcpy(address.sun_path, s->socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 1), 0);
	struct window *w = arm(s, &err);
	assert_non_null(w);
	assert_int_equal(s->err.code, VSS_E_TIMED_OUT);
	window_close(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(absent),
					    TEST(fails_to_freeze),
					    TEST(refuses_a_plan),
					    TEST(executor_killed_at_rest),
					    TEST(executor_stopped_at_rest),
					    TEST(executor_killed_when_armed),
					    TEST(ends),
					    TEST(says_nothing) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
