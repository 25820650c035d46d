/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signals that end vssctl. They never end it at once: the call that waits is cancelled, or the child that runs is told,
 * and the verb cleans up on its way out. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "requestor/vssctl/vssctl.h"

/* timeout(1) and shells send the same one twice in a row. Only one that comes later is meant to end the cleaning up,
 * which vssd then finishes by itself. */
#define AGAIN_USEC USEC_PER_SEC

#define LAST_RUNGS 5 /* seconds for cleaning up when time is over */

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

/* A handler has no argument of its own, so this is the one state that vssctl keeps outside main. */
static struct {
	struct vss_connection *_Atomic connection;
	atomic_int child, last;
	atomic_uint_least64_t when; /* the last one came */
	atomic_uint rungs;	    /* of the deadline */
	struct sigaction pipe;	    /* what the caller had, for COMMAND */
} state;

static void handle(int number, siginfo_t *info, void *context)
{
	struct vss_connection *connection = state.connection;
	int child = state.child;
	uint64_t now = clock_now(), before = state.when;

	state.last = number;
	state.when = now;
	if (child > 0) {
		/* What the terminal sends, it sends to the whole foreground group: the child has it already. */
		if (info->si_code != SI_KERNEL)
			kill(child, number);
	} else if (connection && (before == 0 || now - before > AGAIN_USEC)) {
		vss_cancel(connection);
	}
}

static void set_handlers(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART, .sa_sigaction = handler }, old;

	if (!handler)
		action = (struct sigaction){ .sa_handler = SIG_DFL };
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		/* nohup and shells without job control ask us not to look. */
		if (sigaction(signals[i], NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_IGN)
			continue;
		sigaction(signals[i], &action, NULL);
	}
}

void interrupt_install(struct vss_connection *connection)
{
	state.connection = connection;
	set_handlers(handle);
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN },
		  &state.pipe); /* a reader that went away must not keep us from cleaning up */
}

static void out_of_time(int number)
{
	static const char text[] = "vssctl: ended, as it could not be cleaned up in time; vssd does that\n";
	struct vss_connection *connection = state.connection;

	if (connection)
		vss_cancel(connection);
	if (++state.rungs <= LAST_RUNGS && connection)
		return;
	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	_exit(EXIT_RETRY);
}

void interrupt_deadline(unsigned seconds)
{
	const struct itimerval times = { .it_value.tv_sec = seconds, .it_interval.tv_sec = 1 };

	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = out_of_time, .sa_flags = SA_RESTART }, NULL);
	setitimer(ITIMER_REAL, &times, NULL);
}

bool interrupt_out_of_time(void)
{
	return state.rungs > 0;
}

int vssctl_connect(struct vssctl *ctl)
{
	if (vss_connect(&ctl->connection, NULL, &ctl->failure) < 0)
		return -1;
	interrupt_install(ctl->connection);
	return 0;
}

void interrupt_block(bool block)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

void interrupt_forward_to(int child)
{
	state.child = child;
}

int interrupt_signal(void)
{
	return state.last;
}

void interrupt_restore(void)
{
	set_handlers(NULL);
	state.connection = NULL;
	sigaction(SIGPIPE, &state.pipe, NULL);
}
