/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/workers.c with fake-worker.c, which does what a request's op says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"
#include "coordinator/workers.h"

#define SOON (20 * USEC_PER_SEC) /* generous: test machines are busy */

struct pool {
	sd_event *event;
	struct workers *workers;
	int fds_before;
};

/* What has come of a job. */
struct outcome {
	unsigned calls;
	struct err err;
	json_t *answer;
	int fds[FRAME_FDS_MAX];
	size_t n_fds;
};

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));)
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static int setup(void **state)
{
	static struct pool pool;
	const char *program = getenv("FAKE_WORKER");

	pool.fds_before = count_fds();
	if (!program || sd_event_new(&pool.event) < 0 || workers_new(&pool.workers, pool.event, program, NULL) < 0)
		return -1;
	*state = &pool;
	return 0;
}

/* After each test: no process, no zombie, no descriptor is left. */
static int teardown(void **state)
{
	struct pool *pool = *state;
	siginfo_t info = { 0 };
	uint64_t end = clock_now() + SOON;

	workers_free(pool->workers);
	sd_event_unref(pool->event);
	/* It waits for killed ones no longer than 200 ms, and leaves those of a busy machine to init: here to us. */
	while (clock_now() < end && waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0)
		usleep(info.si_pid ? 0 : 1000);
	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(count_fds(), pool->fds_before);
	return 0;
}

static void done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct outcome *o = data;

	o->calls++;
	o->err = *err;
	o->answer = json_incref(answer);
	o->n_fds = n_fds;
	for (size_t i = 0; i < n_fds; i++)
		o->fds[i] = steal_fd(fds[i]);
}

static void outcome_done(struct outcome *o)
{
	json_decref(o->answer);
	for (size_t i = 0; i < o->n_fds; i++)
		close(o->fds[i]);
	*o = (struct outcome){ 0 };
}

static void turn(struct pool *pool, uint64_t usec)
{
	assert_true(sd_event_run(pool->event, usec) >= 0);
}

static void wait_for(struct pool *pool, struct outcome *o)
{
	uint64_t end = clock_now() + SOON;

	while (!o->calls && clock_now() < end)
		turn(pool, USEC_PER_SEC);
	assert_int_equal(o->calls, 1);
}

static void run_for(struct pool *pool, uint64_t usec)
{
	uint64_t end = clock_now() + usec;

	for (uint64_t now; (now = clock_now()) < end;)
		turn(pool, end - now);
}

static struct job *start_by(struct pool *pool, const char *op, json_t *request, uint64_t deadline, struct outcome *o)
{
	struct err err = { 0 };
	struct job *job = workers_run(pool->workers, "test", op, request ? request : json_object(), NULL, 0, deadline, done,
				      o, &err);

	assert_non_null(job);
	assert_int_equal(o->calls, 0); /* never from workers_run */
	return job;
}

static void run(struct pool *pool, const char *op, json_t *request, struct outcome *o)
{
	*o = (struct outcome){ 0 };
	start_by(pool, op, request, clock_now() + SOON, o);
	wait_for(pool, o);
}

/* The pool works (again): a plain job goes through. */
static json_int_t echo_pid(struct pool *pool)
{
	struct outcome o;

	run(pool, "echo", json_pack("{si}", "n", 7), &o);
	assert_int_equal(o.err.code, VSS_OK);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o.answer, "request"), "n")), 7);
	json_int_t pid = json_integer_value(json_object_get(o.answer, "pid"));
	outcome_done(&o);
	return pid;
}

static void expect_failure(struct pool *pool, const char *op, enum vss_error code, const char *text)
{
	struct outcome o;

	run(pool, op, NULL, &o);
	if (o.err.code != code || !strstr(o.err.text, text))
		fail_msg("%s: %s: %s", op, error_name(o.err.code), o.err.text);
	assert_null(o.answer);
	assert_int_equal(o.n_fds, 0);
	outcome_done(&o);
	echo_pid(pool);
}

/* ---- the good ---- */

static void one_worker_serves_many_jobs(void **state)
{
	json_int_t pid = echo_pid(*state);

	for (int i = 0; i < 20; i++)
		assert_int_equal(echo_pid(*state), pid);
	assert_int_equal(workers_busy(((struct pool *)*state)->workers), 0);
}

static void passes_descriptors_both_ways(void **state)
{
	struct pool *pool = *state;
	struct outcome o = { 0 };
	autoclose int fd = memfd_create("given", MFD_CLOEXEC);
	struct stat given, returned;

	assert_non_null(workers_run(pool->workers, "test", "echo", json_object(), &fd, 1, clock_now() + SOON, done, &o,
				    NULL));
	wait_for(pool, &o);
	assert_int_equal(o.n_fds, 1);
	assert_int_equal(fstat(fd, &given), 0);
	assert_int_equal(fstat(o.fds[0], &returned), 0);
	assert_int_equal(given.st_ino, returned.st_ino);
	assert_true(fcntl(o.fds[0], F_GETFD) & FD_CLOEXEC);
	outcome_done(&o);
}

static void ignore(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	*(bool *)data = true;
}

static void closes_descriptors_that_nobody_takes(void **state)
{
	struct pool *pool = *state;
	bool ended = false;
	int before;

	echo_pid(pool);
	before = count_fds();
	workers_run(pool->workers, "test", "many-fds", json_object(), NULL, 0, clock_now() + SOON, ignore, &ended, NULL);
	while (!ended)
		turn(pool, USEC_PER_SEC);
	assert_int_equal(count_fds(), before);
}

static void tells_the_workers_own_error(void **state)
{
	expect_failure(*state, "fail", VSS_E_VOLUME_IN_USE, "/srv is in use");
	expect_failure(*state, "fail-oddly", VSS_E_UNEXPECTED_PROVIDER_ERROR, "");
}

static void worker_inherits_nothing(void **state)
{
	struct pool *pool = *state;
	struct outcome o;
	sigset_t some, before;
	int leak = open("/dev/null", O_RDONLY); /* without CLOEXEC, as a careless library would */

	sigemptyset(&some);
	sigaddset(&some, SIGTERM);
	sigprocmask(SIG_BLOCK, &some, &before);
	signal(SIGPIPE, SIG_IGN);
	run(pool, "state", NULL, &o);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	close(leak);
	assert_int_equal(json_integer_value(json_object_get(o.answer, "fds")), 4);
	assert_int_equal(json_integer_value(json_object_get(o.answer, "signals")), 0);
	assert_int_equal(json_integer_value(json_object_get(o.answer, "leader")), 1);
	outcome_done(&o);
}

static void output_goes_to_standard_error(void **state)
{
	struct outcome o;
	char path[] = "/tmp/vssd-test.XXXXXX", text[64] = "";
	int fd = mkostemp(path, O_CLOEXEC), saved = dup(STDERR_FILENO);

	dup2(fd, STDERR_FILENO);
	run(*state, "print", NULL, &o);
	dup2(saved, STDERR_FILENO);
	close(saved);
	unlink(path);
	assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
	close(fd);
	assert_string_equal(text, "a library speaks on standard output\n");
	outcome_done(&o);
}

static void large_requests_and_answers_pass(void **state)
{
	struct outcome o;
	size_t size = 8u << 20;
	char *text = malloc(size + 1);

	memset(text, 'x', size);
	text[size] = '\0';
	run(*state, "echo", json_pack("{ss}", "text", text), &o);
	free(text);
	assert_int_equal(o.err.code, VSS_OK);
	assert_int_equal(json_string_length(json_object_get(json_object_get(o.answer, "request"), "text")), size);
	outcome_done(&o);
}

static void too_large_a_request_fails(void **state)
{
	struct outcome o;
	size_t size = FRAME_SIZE_MAX;
	char *text = malloc(size + 1);

	memset(text, 'x', size);
	text[size] = '\0';
	run(*state, "echo", json_pack("{ss}", "text", text), &o);
	free(text);
	assert_int_equal(o.err.code, VSS_E_LIMITS_EXCEEDED);
	outcome_done(&o);
	echo_pid(*state);
}

/* ---- the bad ---- */

static void ends_of_workers_are_told(void **state)
{
	expect_failure(*state, "die", VSS_E_UNEXPECTED_PROVIDER_ERROR, "signal 10");
	expect_failure(*state, "exit", VSS_E_UNEXPECTED_PROVIDER_ERROR, "exit status 3");
	expect_failure(*state, "half", VSS_E_UNEXPECTED_PROVIDER_ERROR, "exit status 0");
	expect_failure(*state, "close", VSS_E_UNEXPECTED_PROVIDER_ERROR, "signal 9");
	expect_failure(*state, "helper-die", VSS_E_UNEXPECTED_PROVIDER_ERROR, "exit status 4");
}

static void nonsense_ends_the_worker(void **state)
{
	expect_failure(*state, "text", VSS_E_INVALID_DOCUMENT, "not JSON");
	expect_failure(*state, "no-answer", VSS_E_UNEXPECTED_PROVIDER_ERROR, "no answer");
	expect_failure(*state, "huge", VSS_E_LIMITS_EXCEEDED, "limit");
}

/* A worker has ended; who waits for it is the pool. */
static void wait_for_an_end(void)
{
	uint64_t end = clock_now() + SOON;
	siginfo_t info = { 0 };

	while (info.si_pid == 0 && clock_now() < end) {
		waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
		usleep(1000);
	}
	assert_int_not_equal(info.si_pid, 0);
}

static void last_words_count(void **state)
{
	struct outcome o;

	for (int i = 0; i < 20; i++) {
		run(*state, "last", NULL, &o);
		assert_int_equal(o.err.code, VSS_OK);
		outcome_done(&o);
		wait_for_an_end(); /* and it must not be given the next job */
	}
	echo_pid(*state);
}

static void second_answer_is_not_the_next_jobs(void **state)
{
	struct outcome o;

	for (int i = 0; i < 10; i++) {
		run(*state, "twice", NULL, &o);
		assert_int_equal(json_integer_value(json_object_get(o.answer, "number")), 1);
		outcome_done(&o);
		usleep(20000); /* the second one lies there now */
		echo_pid(*state);
	}
}

static void idle_worker_that_is_killed_is_replaced(void **state)
{
	struct pool *pool = *state;
	json_int_t pid = echo_pid(pool);

	kill((pid_t)pid, SIGKILL);
	usleep(50000);
	assert_int_not_equal(echo_pid(pool), pid);
}

static void deadline_ends_the_worker(void **state)
{
	struct pool *pool = *state;
	json_int_t pid = echo_pid(pool);
	struct outcome o = { 0 };
	uint64_t begin = clock_now();

	start_by(pool, "hang", NULL, begin + 100 * USEC_PER_MSEC, &o);
	wait_for(pool, &o);
	assert_int_equal(o.err.code, VSS_E_TIMED_OUT);
	assert_non_null(strstr(o.err.text, "\"hang\""));
	assert_in_range(clock_now() - begin, 100 * USEC_PER_MSEC, 5 * USEC_PER_SEC);
	run_for(pool, 100 * USEC_PER_MSEC);
	assert_int_equal(kill((pid_t)pid, 0), -1);
	echo_pid(pool);
}

static void past_deadline_fails_from_the_loop(void **state)
{
	struct pool *pool = *state;
	struct outcome o = { 0 };

	start_by(pool, "slow", json_pack("{si}", "ms", 200), 1, &o);
	wait_for(pool, &o);
	assert_int_equal(o.err.code, VSS_E_TIMED_OUT);
}

static void cancel_ends_the_job_once(void **state)
{
	struct pool *pool = *state;
	struct outcome running = { 0 }, fresh = { 0 };

	struct job *job = start_by(pool, "hang", NULL, clock_now() + SOON, &running);
	run_for(pool, 50 * USEC_PER_MSEC);
	assert_int_equal(workers_busy(pool->workers), 1);
	job_cancel(job);
	assert_int_equal(running.calls, 1);
	assert_int_equal(running.err.code, VSS_E_CANCELLED);
	job_cancel(start_by(pool, "echo", NULL, clock_now() + SOON, &fresh));
	assert_int_equal(fresh.calls, 1);
	assert_int_equal(workers_busy(pool->workers), 0);
	run_for(pool, 50 * USEC_PER_MSEC);
	assert_int_equal(running.calls + fresh.calls, 2);
	echo_pid(pool);
}

static void missing_program_fails_from_the_loop(void **state)
{
	struct pool *pool = *state;
	struct workers *workers;
	struct outcome o = { 0 };

	assert_int_equal(workers_new(&workers, pool->event, "/nonexistent/vss-worker", NULL), 0);
	assert_non_null(workers_run(workers, "test", "echo", json_object(), NULL, 0, clock_now() + SOON, done, &o, NULL));
	assert_int_equal(o.calls, 0);
	wait_for(pool, &o);
	assert_int_equal(o.err.code, VSS_E_OBJECT_NOT_FOUND);
	assert_non_null(strstr(o.err.text, "/nonexistent/vss-worker"));
	/* One whose failure is not told yet when the pool ends. */
	struct outcome last = { 0 };
	workers_run(workers, "test", "echo", json_object(), NULL, 0, clock_now() + SOON, done, &last, NULL);
	workers_free(workers);
	assert_int_equal(last.calls, 1);
	assert_int_equal(last.err.code, VSS_E_CANCELLED);
}

static void stillborn_worker_fails_its_job(void **state)
{
	struct pool *pool = *state;
	struct outcome o = { 0 };

	workers_warm(pool->workers, "stillborn");
	run_for(pool, 100 * USEC_PER_MSEC);
	workers_run(pool->workers, "stillborn", "echo", json_object(), NULL, 0, clock_now() + SOON, done, &o, NULL);
	wait_for(pool, &o);
	assert_int_equal(o.err.code, VSS_E_UNEXPECTED_PROVIDER_ERROR);
	assert_non_null(strstr(o.err.text, "exit status 2"));
}

/* ---- the many ---- */

static void a_thousand_jobs(void **state)
{
	struct pool *pool = *state;
	static struct outcome outcomes[1000];
	uint64_t end = clock_now() + 3 * SOON;
	size_t ended = 0;

	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		json_t *request = json_pack("{si}", "n", (int)i);
		assert_non_null(workers_run(pool->workers, i % 3 ? "test" : "other", i % 50 == 7 ? "die" : "echo", request,
					    NULL, 0, end, done, &outcomes[i], NULL));
	}
	assert_int_equal(workers_busy(pool->workers), 1000);
	while (workers_busy(pool->workers) && clock_now() < end)
		turn(pool, USEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		json_t *request = json_object_get(outcomes[i].answer, "request");
		assert_int_equal(outcomes[i].calls, 1);
		assert_int_equal(outcomes[i].err.code, i % 50 == 7 ? VSS_E_UNEXPECTED_PROVIDER_ERROR : VSS_OK);
		if (request)
			assert_int_equal(json_integer_value(json_object_get(request, "n")), i);
		ended += request != NULL;
		outcome_done(&outcomes[i]);
	}
	assert_int_equal(ended, 980);
}

static void queue_is_bounded(void **state)
{
	struct pool *pool = *state;
	static struct outcome outcomes[WORKERS_MAX + WORKER_QUEUE_MAX];
	struct outcome refused = { 0 };
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++)
		start_by(pool, "hang", NULL, USEC_INFINITY, &outcomes[i]);
	assert_null(workers_run(pool->workers, "test", "echo", json_object(), NULL, 0, USEC_INFINITY, done, &refused, &err));
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	assert_int_equal(refused.calls, 0);
	pool->workers = workers_free(pool->workers);
	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		assert_int_equal(outcomes[i].calls, 1);
		assert_int_equal(outcomes[i].err.code, VSS_E_CANCELLED);
	}
}

/* With all places taken by hung workers, queued jobs keep their own deadlines, and go on once places come free. */
static void hung_workers_do_not_hang_the_queue(void **state)
{
	struct pool *pool = *state;
	static struct outcome hung[WORKERS_MAX];
	struct outcome impatient = { 0 }, patient = { 0 };
	uint64_t now = clock_now();

	memset(hung, 0, sizeof hung);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		start_by(pool, "hang", NULL, now + 2 * USEC_PER_SEC, &hung[i]);
	start_by(pool, "echo", NULL, now + 200 * USEC_PER_MSEC, &impatient);
	start_by(pool, "echo", NULL, now + SOON, &patient);
	wait_for(pool, &impatient);
	assert_int_equal(impatient.err.code, VSS_E_TIMED_OUT);
	assert_non_null(strstr(impatient.err.text, "free"));
	assert_int_equal(patient.calls, 0);
	wait_for(pool, &patient);
	assert_int_equal(patient.err.code, VSS_OK);
	outcome_done(&patient);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		wait_for(pool, &hung[i]);
}

/* A caller's list of descriptors lives on its stack, and a job may queue for longer than that. */
static void queued_job_keeps_its_descriptors(void **state)
{
	struct pool *pool = *state;
	static struct outcome hung[WORKERS_MAX];
	struct outcome o = { 0 };
	struct stat sent, returned;
	uint64_t now = clock_now();
	int file = memfd_create("copy", MFD_CLOEXEC), list[] = { file };

	memset(hung, 0, sizeof hung);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		start_by(pool, "hang", NULL, now + 300 * USEC_PER_MSEC, &hung[i]);
	assert_non_null(workers_run(pool->workers, "test", "echo", json_object(), list, 1, now + SOON, done, &o, NULL));
	list[0] = -1;
	wait_for(pool, &o);
	assert_int_equal(o.err.code, VSS_OK);
	assert_int_equal(o.n_fds, 1);
	assert_int_equal(fstat(file, &sent), 0);
	assert_int_equal(fstat(o.fds[0], &returned), 0);
	assert_int_equal(sent.st_ino, returned.st_ino);
	outcome_done(&o);
	close(file);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		wait_for(pool, &hung[i]);
}

static void role_gets_a_place_of_idle_others(void **state)
{
	struct pool *pool = *state;
	static struct outcome outcomes[WORKERS_MAX];
	struct outcome other = { 0 };

	memset(outcomes, 0, sizeof outcomes);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		start_by(pool, "slow", json_pack("{si}", "ms", i ? 10000 : 100), clock_now() + SOON, &outcomes[i]);
	workers_run(pool->workers, "other", "echo", json_object(), NULL, 0, clock_now() + 5 * USEC_PER_SEC, done, &other,
		    NULL);
	wait_for(pool, &other);
	assert_int_equal(other.err.code, VSS_OK);
	outcome_done(&other);
	pool->workers = workers_free(pool->workers);
	for (size_t i = 0; i < WORKERS_MAX; i++)
		outcome_done(&outcomes[i]);
}

static int count_children(void)
{
	char path[64], text[8192] = "";
	int n = 0;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		return -1;
	for (char *c = text; *c; c++)
		n += *c == ' ';
	return n;
}

static void one_idle_worker_a_role_is_kept(void **state)
{
	struct pool *pool = *state;
	static struct outcome outcomes[8];

	memset(outcomes, 0, sizeof outcomes);
	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++)
		start_by(pool, "slow", json_pack("{si}", "ms", 50), clock_now() + SOON, &outcomes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		wait_for(pool, &outcomes[i]);
		outcome_done(&outcomes[i]);
	}
	workers_warm(pool->workers, "other");
	workers_warm(pool->workers, "other");
	/* Those that are let go end when they get to it. */
	for (uint64_t end = clock_now() + SOON; count_children() != 2 && clock_now() < end;)
		run_for(pool, 50 * USEC_PER_MSEC);
	run_for(pool, 200 * USEC_PER_MSEC);
	assert_int_equal(count_children(), 2);
}

struct chain {
	struct pool *pool;
	unsigned left;
	bool ended;
};

static void next_in_chain(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct chain *chain = data;

	assert_int_equal(err->code, VSS_OK);
	chain->ended = --chain->left == 0;
	if (!chain->ended)
		workers_run(chain->pool->workers, "test", "echo", json_object(), NULL, 0, clock_now() + SOON, next_in_chain,
			    chain, NULL);
}

static void a_jobs_end_may_begin_the_next(void **state)
{
	struct chain chain = { .pool = *state, .left = 200 };

	workers_run(chain.pool->workers, "test", "echo", json_object(), NULL, 0, clock_now() + SOON, next_in_chain, &chain,
		    NULL);
	while (!chain.ended)
		turn(chain.pool, USEC_PER_SEC);
	run_for(chain.pool, 50 * USEC_PER_MSEC);
	assert_int_equal(count_children(), 1);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(one_worker_serves_many_jobs),
		test(passes_descriptors_both_ways),
		test(closes_descriptors_that_nobody_takes),
		test(tells_the_workers_own_error),
		test(worker_inherits_nothing),
		test(output_goes_to_standard_error),
		test(large_requests_and_answers_pass),
		test(too_large_a_request_fails),
		test(ends_of_workers_are_told),
		test(nonsense_ends_the_worker),
		test(last_words_count),
		test(second_answer_is_not_the_next_jobs),
		test(idle_worker_that_is_killed_is_replaced),
		test(deadline_ends_the_worker),
		test(past_deadline_fails_from_the_loop),
		test(cancel_ends_the_job_once),
		test(missing_program_fails_from_the_loop),
		test(stillborn_worker_fails_its_job),
		test(a_thousand_jobs),
		test(queue_is_bounded),
		test(hung_workers_do_not_hang_the_queue),
		test(queued_job_keeps_its_descriptors),
		test(role_gets_a_place_of_idle_others),
		test(one_idle_worker_a_role_is_kept),
		test(a_jobs_end_may_begin_the_next),
	};

	return cmocka_run_group_tests_name("workers", tests, NULL, NULL);
}
