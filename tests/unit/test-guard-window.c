/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The window, on a kernel that does not hold anything: its order, and its way out of every failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/run.h"
#include "coordinator/guard/verdict.h"
#include "fake-kernel.h"

static struct board *board;
static int fds[BOARD_FDS_MAX];
static enum stop stop_with; /* what the next wait ends with, once the hold has begun */
static bool stop_early;	    /* also before that */
static uint64_t release_began;

static enum stop wait_for_crew(struct run *run)
{
	int fd = crew_fd(run->release.crew);

	if (stop_with != STOP_NONE && (stop_early || board->begin > 0))
		return stop_with;
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
	crew_clear(run->release.crew);
	return STOP_NONE;
}

static int setup(void **state)
{
	guard_kernel = &fake_kernel;
	fake_reset();
	stop_with = STOP_NONE;
	stop_early = false;
	board = calloc(1, sizeof *board);
	for (int i = 0; i < BOARD_FDS_MAX; i++)
		fds[i] = FAKE_FD + i;
	return board ? 0 : -1;
}

static int teardown(void **state)
{
	free(board);
	return 0;
}

/* Filesystem i lies on device i; its snapshot is device 16 + i. */
static void add_volumes(uint32_t n, const uint32_t *depths)
{
	board->n_filesystems = board->n_devices = board->n_cuts = n;
	for (uint32_t i = 0; i < n; i++) {
		struct object *f = &board->objects[i], *d = &board->objects[n + i];
		*f = (struct object){ .fd = (int)i, .depth = depths ? depths[i] : 0 };
		snprintf(f->name, sizeof f->name, "/m%u", i);
		*d = (struct object){ .is_device = true, .fd = -1, .minor = i, .depth = f->depth };
		snprintf(d->name, sizeof d->name, "dev%u", i);
		board->cuts[i] = (struct cut){ .kind = CUT_RESUME, .minor = 16 + i };
		snprintf(board->cuts[i].name, sizeof board->cuts[i].name, "copy%u", i);
		fake_devices[i].live = true;
		fake_devices[16 + i].loaded = true;
	}
}

static void run_window(void)
{
	struct run run = { .release = { .board = board, .fds = fds }, .wait = wait_for_crew };
	struct err err = { 0 };

	assert_int_equal(crew_new(&run.release.crew, board_objects(board) + 1, &err), 0);
	if (run_hold(&run))
		run_cut(&run);
	if (run.stopped != STOP_NONE)
		board_fault(board, FAULT_DEADLINE, 0, 0);
	stop_with = STOP_NONE;
	release_began = clock_now();
	run_release(&run);
	run_verify(&run);
	crew_free(run.release.crew);
}

static void assert_nothing_held(void)
{
	assert_false(board_holds(board));
	for (int i = 0; i < FAKE_MAX; i++) {
		assert_int_equal(fake_filesystems[i].held, 0);
		assert_int_equal(fake_devices[i].held, 0);
	}
}

static void assert_fault(enum vss_error code, const char *text)
{
	struct err err = { 0 };

	assert_int_equal(verdict_error(board, &err), -1);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err.text);
}

static void in_order(const char *first, const char *second)
{
	if (fake_place(first) < 0 || fake_place(second) < 0 || fake_place(first) >= fake_place(second))
		fail_msg("%s does not come before %s in: %s", first, second, fake_story());
}

static void one_depth(void **state)
{
	add_volumes(3, NULL);
	run_window();
	assert_int_equal(board->fault, FAULT_NONE);
	assert_nothing_held();
	for (int i = 0; i < 3; i++) {
		char freeze[16], suspend[16], cut[16], resume[16], thaw[16];
		snprintf(freeze, sizeof freeze, "freeze-%d", i);
		snprintf(suspend, sizeof suspend, "suspend-%d", (i + 1) % 3);
		snprintf(cut, sizeof cut, "resume-%d", 16 + (i + 2) % 3);
		snprintf(resume, sizeof resume, "resume-%d", i);
		snprintf(thaw, sizeof thaw, "thaw-%d", (i + 1) % 3);
		in_order(freeze, suspend);
		in_order(suspend, cut);
		in_order(cut, resume);
		in_order(resume, thaw);
		assert_true(fake_devices[16 + i].live);
	}
}

/* Volume 1 lies within volume 0: frozen and suspended before it, released after it. */
static void two_depths(void **state)
{
	add_volumes(2, (const uint32_t[]){ 0, 1 });
	run_window();
	assert_int_equal(board->fault, FAULT_NONE);
	assert_nothing_held();
	in_order("freeze-1", "suspend-1");
	in_order("suspend-1", "freeze-0");
	in_order("freeze-0", "suspend-0");
	in_order("suspend-0", "resume-16");
	in_order("resume-0", "thaw-0");
	in_order("thaw-0", "resume-1");
	in_order("resume-1", "thaw-1");
}

static void frozen_by_a_stranger(void **state)
{
	add_volumes(3, NULL);
	fake_filesystems[1].hold_error = -EBUSY;
	fake_filesystems[1].held = 1; /* theirs */
	run_window();
	assert_fault(VSS_E_VOLUME_IN_USE, "/m1 is frozen by somebody else");
	assert_int_equal(fake_place("thaw-1"), -1);
	assert_int_equal(fake_place("suspend-0"), -1);
	assert_int_equal(fake_filesystems[1].held, 1);
	fake_filesystems[1].held = 0;
	assert_nothing_held();
	assert_false(fake_devices[16].live);
}

static void suspend_fails(void **state)
{
	add_volumes(3, NULL);
	fake_devices[2].hold_error = -EIO;
	run_window();
	assert_fault(VSS_E_UNEXPECTED_PROVIDER_ERROR, "dev2 could not be suspended");
	assert_nothing_held();
	assert_int_equal(fake_place("resume-16"), -1);
	assert_int_equal(fake_place("resume-2"), -1);
}

static void resumed_before_the_cut(void **state)
{
	add_volumes(2, NULL);
	fake_devices[1].ignore_hold = true;
	run_window();
	assert_fault(VSS_E_VOLUME_IN_USE, "dev1 was resumed by somebody else while held");
	assert_int_equal(fake_place("resume-16"), -1);
	assert_nothing_held();
}

static void thawed_by_a_stranger(void **state)
{
	add_volumes(2, NULL);
	fake_filesystems[0].ignore_hold = true;
	run_window();
	assert_fault(VSS_E_VOLUME_IN_USE, "/m0 was thawed by somebody else while held");
	assert_nothing_held();
}

/* Whoever killed the releaser may be about to kill us: not while we thaw. */
static void releaser_is_gone(void **state)
{
	add_volumes(2, NULL);
	fake_filesystems[0].slow = 20; /* so that it is waited for */
	stop_with = STOP_PEER;
	run_window();
	assert_nothing_held();
	/* Not of the objects: what nobody had begun to hold yet was never freed. */
	assert_true(board->end >= release_began + GUARD_LAST_MOMENT);
}

static void copy_is_live(void **state)
{
	add_volumes(2, NULL);
	fake_devices[17].live = true;
	run_window();
	assert_fault(VSS_E_VOLUME_IN_USE, "copy1 was made live by somebody else");
	assert_int_equal(fake_place("resume-16"), -1);
	assert_nothing_held();
}

static void copy_is_empty(void **state)
{
	add_volumes(2, NULL);
	fake_devices[16].loaded = false;
	run_window();
	assert_fault(VSS_E_VOLUME_IN_USE, "copy0 has lost the table");
	assert_nothing_held();
}

static void cut_fails(void **state)
{
	add_volumes(2, NULL);
	fake_devices[17].cut_error = -ENOMEM;
	run_window();
	assert_fault(VSS_E_OUT_OF_MEMORY, "The cut of copy1 failed");
	assert_nothing_held();
}

/* Every kind of cut, and a set that holds nothing. */
static void cuts_of_btrfs(void **state)
{
	board->n_cuts = 2;
	board->cuts[0] = (struct cut){ .kind = CUT_SNAPSHOT, .source = 3, .store = 4, .name = "copy" };
	board->cuts[1] = (struct cut){ .kind = CUT_MESSAGE, .minor = 9, .message = "create_snap 5 3" };
	board->n_devices = 1; /* as many threads as cuts are needed */
	board->objects[0] = (struct object){ .is_device = true, .fd = -1, .minor = 1 };
	run_window();
	assert_int_equal(board->fault, FAULT_NONE);
	assert_true(fake_place("snapshot-3") > 0 && fake_place("message-9") > 0);
	assert_nothing_held();
}

/* The deadline comes while things are held: whatever is held is released, nothing is cut. */
static void out_of_time(void **state)
{
	add_volumes(3, NULL);
	fake_filesystems[1].slow = 500; /* so that there is something to wait for */
	stop_with = STOP_DEADLINE;
	run_window();
	assert_fault(VSS_E_HOLD_WRITES_TIMEOUT, "");
	assert_nothing_held();
	assert_int_equal(fake_place("resume-16"), -1);
}

/* What is written out before anything is held may take its time, and hang. */
static void flushed_before(void **state)
{
	uint32_t depths[] = { 0, 1 };
	uint64_t began = clock_now();

	add_volumes(2, depths);
	fake_filesystems[1].slow_flush = 50;
	run_window();
	assert_int_equal(board->fault, FAULT_NONE);
	in_order("flush-1", "flush-0");
	in_order("flush-0", "freeze-1");
	assert_true(board->begin >= began + 50 * USEC_PER_MSEC);
}

static void flush_hangs(void **state)
{
	add_volumes(2, NULL);
	fake_filesystems[1].slow_flush = 500;
	stop_with = STOP_DEADLINE;
	stop_early = true;
	run_window();
	assert_fault(VSS_E_HOLD_WRITES_TIMEOUT, "");
	assert_int_equal(fake_place("freeze-0"), -1);
	assert_nothing_held();
}

/* Stopped for a while, and then quick: nothing is cut any more. */
static void woken_too_late(void **state)
{
	add_volumes(2, NULL);
	board->deadline = 1;
	run_window();
	assert_fault(VSS_E_HOLD_WRITES_TIMEOUT, "");
	assert_nothing_held();
	assert_int_equal(fake_place("resume-16"), -1);
}

/* A plan that was revoked holds nothing any more. */
static void revoked(void **state)
{
	add_volumes(3, NULL);
	board->revoked = true;
	run_window();
	assert_string_equal(fake_story(), "");
	assert_nothing_held();
}

/* The releaser: begun by a process that is gone, one held, one not; one begun by a thread that lives. */
static void released_for_another(void **state)
{
	struct release release = { .board = board, .fds = fds };
	struct err err = { 0 };

	add_volumes(3, NULL);
	board->objects[0].state = HOLD_HELD;
	board->objects[1].state = HOLD_BEGUN;
	board->objects[3].state = HOLD_BEGUN;
	board->objects[4].state = HOLD_BEGUN;
	fake_filesystems[0].held = fake_filesystems[1].held = fake_devices[0].held = 1;
	assert_int_equal(crew_new(&release.crew, board_objects(board), &err), 0);
	for (int i = 0; i < 1000 && release_pending(&release) > 0; i++) {
		release_sweep(&release);
		poll(NULL, 0, 5);
	}
	crew_free(release.crew);
	assert_nothing_held();
	assert_int_equal(fake_place("thaw-2"), -1);   /* not touched by anybody */
	assert_int_equal(fake_place("resume-1"), -1); /* begun, and never came */
}

static void a_hold_that_may_still_come(void **state)
{
	struct release release = { .board = board, .fds = fds, .holder = getpid() };
	struct err err = { 0 };

	add_volumes(1, NULL);
	board->objects[0].state = board->objects[1].state = HOLD_BEGUN;
	board->objects[0].holder = board->objects[1].holder = gettid(); /* we live */
	assert_int_equal(crew_new(&release.crew, 2, &err), 0);
	for (int i = 0; i < 5; i++) {
		release_sweep(&release);
		poll(NULL, 0, 5);
	}
	assert_int_equal(release_pending(&release), 2);
	fake_devices[0].held = fake_filesystems[0].held = 1; /* now */
	for (int i = 0; i < 1000 && release_pending(&release) > 0; i++) {
		release_sweep(&release);
		poll(NULL, 0, 5);
	}
	crew_free(release.crew);
	assert_nothing_held();
}

/* btrfs makes itself read-only when its thaw is broken off, and says nothing. */
static void forced_read_only(void **state)
{
	add_volumes(2, NULL);
	board->objects[1].is_btrfs = true;
	fake_filesystems[0].read_only = fake_filesystems[1].read_only = true;
	run_window();
	assert_fault(VSS_E_UNEXPECTED_PROVIDER_ERROR, "/m1 is read-only since it was thawed");
	assert_nothing_held();
}

static void read_only_before(void **state)
{
	add_volumes(1, NULL);
	board->objects[0].is_btrfs = board->objects[0].is_read_only = true;
	fake_filesystems[0].read_only = true;
	run_window();
	assert_int_equal(board->fault, FAULT_NONE);
}

/* An executor that will be killed begins no thaw of a btrfs; that of another filesystem may be broken off. */
static void condemned(void **state)
{
	struct release release = { .board = board, .fds = fds, .mortal = true };
	pid_t gone = fork();

	if (gone == 0)
		_exit(0);
	waitpid(gone, NULL, 0);
	add_volumes(2, NULL);
	board->objects[0].is_btrfs = true;
	for (size_t i = 0; i < 2; i++) {
		board->objects[i].state = HOLD_HELD;
		fake_filesystems[i].held = 1;
	}
	board->condemned_by = getppid();
	release_object(&release, 0);
	release_object(&release, 1);
	assert_int_equal(fake_filesystems[0].held, 1);
	assert_int_equal(board->objects[0].state, HOLD_HELD);
	assert_int_equal(fake_filesystems[1].held, 0);
	/* Whoever condemned it has died before: nobody else is there to thaw. */
	board->condemned_by = gone;
	release_object(&release, 0);
	assert_nothing_held();
	assert_int_equal(board->objects[0].thawer, 0);
}

/* Not killed within such a thaw; a thread that is stopped, or gone, is in none. */
static void delicate(void **state)
{
	struct release release = { .board = board, .fds = fds };

	add_volumes(1, NULL);
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	release.holder = child;
	assert_false(release_is_delicate(&release));
	board->objects[0].thawer = child;
	assert_true(release_is_delicate(&release));
	kill(child, SIGSTOP);
	waitpid(child, NULL, WUNTRACED);
	assert_false(release_is_delicate(&release));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_false(release_is_delicate(&release));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_depth),
		TEST(two_depths),
		TEST(frozen_by_a_stranger),
		TEST(suspend_fails),
		TEST(resumed_before_the_cut),
		TEST(thawed_by_a_stranger),
		TEST(releaser_is_gone),
		TEST(copy_is_live),
		TEST(copy_is_empty),
		TEST(cut_fails),
		TEST(cuts_of_btrfs),
		TEST(out_of_time),
		TEST(flushed_before),
		TEST(flush_hangs),
		TEST(woken_too_late),
		TEST(revoked),
		TEST(released_for_another),
		TEST(a_hold_that_may_still_come),
		TEST(forced_read_only),
		TEST(read_only_before),
		TEST(condemned),
		TEST(delicate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
