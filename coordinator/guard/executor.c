/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The half that holds. Its main thread never makes an ioctl that may hang: it only waits, for the crew, for the
 * releaser's words, for the releaser's end, and for the deadline. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/message.h"
#include "coordinator/guard/run.h"
#include "coordinator/guard/spawn.h"

#define PRIORITY 40

enum { EVENT_SIGNAL, EVENT_WORD, EVENT_CREW, EVENT_TIMER };

struct executor {
	struct run run;
	int socket, signals, timer; /* the timer: for the deadline */
	int events;		    /* epoll: all that is waited for while a plan runs */
	int fds[BOARD_FDS_MAX + 2]; /* the board, the control, then the plan's */
	const char *run_directory, *program;
	bool refused; /* armed with what cannot be used */
};

/* What happened first in this order. A word other than WORD_RELEASE is not spoken while a plan runs. */
static enum stop wait_once(const struct executor *x)
{
	struct epoll_event events[4];
	int n = epoll_wait(x->events, events, ARRAY_SIZE(events), -1);
	bool happened[] = { [EVENT_SIGNAL] = false, [EVENT_WORD] = false, [EVENT_CREW] = false, [EVENT_TIMER] = false };

	for (int i = 0; i < n; i++)
		happened[events[i].data.u32] = true;
	if (happened[EVENT_SIGNAL])
		return STOP_PEER;
	if (happened[EVENT_WORD]) {
		int word = message_receive(x->socket, NULL, 0, NULL);
		if (word != 0)
			return word == WORD_RELEASE ? STOP_ORDER : STOP_PEER;
	}
	return happened[EVENT_TIMER] && !happened[EVENT_CREW] ? STOP_DEADLINE : STOP_NONE;
}

static enum stop wait_until(struct run *run)
{
	return wait_once(run->data);
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
	enum stop stop;
	do
		stop = wait_once(x);
	while (stop == STOP_NONE);
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

static int set_timer(const struct executor *x, uint64_t deadline)
{
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(deadline / USEC_PER_SEC),
						 .tv_nsec = (long)(deadline % USEC_PER_SEC) * 1000 } };

	return timerfd_settime(x->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int watch(const struct executor *x, int fd, uint32_t event, uint32_t when)
{
	return epoll_ctl(x->events, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = when, .data.u32 = event });
}

/* The crew, the board, and the timer, before anything is held. */
static int arm(struct executor *x, size_t n)
{
	struct err err = { 0 };
	struct board *board;

	if (n < 2 || board_map(x->fds[0], &board, &err) < 0 || set_timer(x, board->deadline + GUARD_EXECUTOR_GRACE) < 0)
		return -1;
	size_t threads = board_objects(board) > board->n_cuts ? board_objects(board) : board->n_cuts;
	x->run.release = (struct release){ .board = board, .control = x->fds[1], .fds = x->fds + 2, .mortal = true };
	/* Of the crew only a change is told, so that it need not be read. */
	return crew_new(&x->run.release.crew, threads, &err) == 0 && watch(x, x->socket, EVENT_WORD, EPOLLIN) == 0 &&
		       watch(x, x->signals, EVENT_SIGNAL, EPOLLIN) == 0 &&
		       watch(x, x->timer, EVENT_TIMER, EPOLLIN) == 0 &&
		       watch(x, crew_fd(x->run.release.crew), EVENT_CREW, EPOLLIN | EPOLLET) == 0
		   ? 0
		   : -1;
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
	x.events = epoll_create1(EPOLL_CLOEXEC);
	x.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
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
