/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The half that holds. Its main thread never makes an ioctl that may hang: it only waits, for the crew, for the
 * releaser's words, for the releaser's end, and for the deadline. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/message.h"
#include "coordinator/guard/run.h"
#include "coordinator/guard/spawn.h"

#define PRIORITY 40
#define CHECK_INTERVAL_MS 1000

struct executor {
	struct run run;
	int socket, signals;
	int fds[BOARD_FDS_MAX + 2]; /* the board, the control, then the plan's */
	const char *run_directory, *program;
	bool refused; /* armed with what cannot be used */
};

static int timeout_ms(uint64_t deadline)
{
	uint64_t now = clock_now();

	if (deadline <= now)
		return 0;
	return deadline - now > CHECK_INTERVAL_MS * USEC_PER_MSEC ? CHECK_INTERVAL_MS
								  : (int)((deadline - now) / USEC_PER_MSEC) + 1;
}

/* Waits for fd (or, with -1, for a word alone). A word other than WORD_RELEASE is not spoken while a plan runs. */
static enum stop wait_until(struct run *run, int fd)
{
	struct executor *x = run->data;
	uint64_t deadline = run->release.board->deadline + GUARD_EXECUTOR_GRACE;

	for (;;) {
		struct pollfd polled[] = { { .fd = x->socket, .events = POLLIN },
					   { .fd = x->signals, .events = POLLIN },
					   { .fd = fd, .events = POLLIN } };

		poll(polled, ARRAY_SIZE(polled), timeout_ms(deadline));
		if (polled[1].revents)
			return STOP_PEER;
		if (polled[0].revents) {
			int word = message_receive(x->socket, NULL, 0, NULL);
			if (word != 0)
				return word == WORD_RELEASE ? STOP_ORDER : STOP_PEER;
		}
		if (polled[2].revents)
			return STOP_NONE;
		if (clock_now() >= deadline)
			return STOP_DEADLINE;
	}
}

static void blame(struct run *run)
{
	static const enum fault_kind faults[] = {
		[STOP_ORDER] = FAULT_ORDER, [STOP_DEADLINE] = FAULT_DEADLINE, [STOP_PEER] = FAULT_RELEASER
	};

	if (run->stopped != STOP_NONE)
		board_fault(run->release.board, faults[run->stopped], 0, 0);
}

/* With Hold: stays until the release is ordered, which is no failure. */
static void stay(struct executor *x)
{
	struct run *run = &x->run;

	message_send(x->socket, WORD_HELD, NULL, 0);
	enum stop stop = run->wait(run, -1);
	if (stop != STOP_ORDER)
		run->stopped = stop;
}

static void run_window(struct executor *x)
{
	struct run *run = &x->run;
	struct board *board = run->release.board;

	if (run_hold(run) && run_cut(run) && board->hold)
		stay(x);
	blame(run);
	run_release(run);
	run_verify(run);
}

/* The crew and the board, before anything is held. */
static int arm(struct executor *x, size_t n)
{
	struct err err = { 0 };
	struct board *board;

	if (n < 2 || board_map(x->fds[0], &board, &err) < 0)
		return -1;
	size_t threads = board_objects(board) > board->n_cuts ? board_objects(board) : board->n_cuts;
	x->run.release = (struct release){ .board = board, .control = x->fds[1], .fds = x->fds + 2, .mortal = true };
	return crew_new(&x->run.release.crew, threads, &err);
}

/* The next word, or WORD_DONE when the releaser has ended or we shall. */
static int next_word(struct executor *x, size_t *ret_n)
{
	for (;;) {
		struct pollfd polled[] = { { .fd = x->socket, .events = POLLIN },
					   { .fd = x->signals, .events = POLLIN } };

		poll(polled, ARRAY_SIZE(polled), -1);
		if (polled[1].revents)
			return WORD_DONE;
		int word = message_receive(x->socket, x->fds, ARRAY_SIZE(x->fds), ret_n);
		if (word != 0)
			return word < 0 ? WORD_DONE : word;
	}
}

/* The releaser is gone: a new one begins with what the boards say; under systemd, the unit does that. */
static void start_anew(const struct executor *x)
{
	char *argv[] = { (char *)x->program, (char *)"--run-directory", (char *)x->run_directory, NULL };
	pid_t pid;

	if (!getenv("INVOCATION_ID"))
		spawn_self(argv, -1, true, &pid);
}

static void outlive(struct executor *x)
{
	struct board *board = x->run.release.board;

	if (board) {
		autoclose int directory = open(x->run_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rcu_restore(board->rcu_before);
		if (!board_holds(board))
			board_remove(directory, board);
	}
	start_anew(x);
}

static int take_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int executor_main(int socket, const char *run_directory, const char *program)
{
	struct executor x = { .socket = socket, .run_directory = run_directory, .program = program };
	size_t n = 0;
	int word;

	x.run.wait = wait_until;
	x.run.data = &x;
	x.signals = take_signals();
	settle(PRIORITY);
	message_send(socket, WORD_READY, NULL, 0);
	while ((word = next_word(&x, &n)) != WORD_DONE) {
		if (word == WORD_ARM)
			message_send(socket, arm(&x, n) == 0 ? WORD_ARMED : WORD_REFUSED, NULL, 0);
		if (word != WORD_GO)
			continue;
		run_window(&x);
		if (message_send(socket, WORD_DONE, NULL, 0) == 0)
			return 0;
		break;
	}
	if (message_send(socket, WORD_DONE, NULL, 0) < 0)
		outlive(&x);
	return 0;
}
