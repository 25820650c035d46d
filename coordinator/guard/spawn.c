/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PASSED_FD 3

static int self = -1;

void spawn_remember_self(void)
{
	self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	/* Not where the child wants the descriptor that it is given. */
	if (self >= 0 && self <= PASSED_FD) {
		int higher = fcntl(self, F_DUPFD_CLOEXEC, PASSED_FD + 1);
		close(self);
		self = higher;
	}
}

/* In the child, which shares the parent's memory until exec. */
static void become(char *const *argv, int fd, bool new_session)
{
	sigset_t none;

	if (fd == PASSED_FD)
		fcntl(fd, F_SETFD, 0);
	else if (fd >= 0)
		dup2(fd, PASSED_FD);
	syscall(SYS_close_range, fd < 0 ? PASSED_FD : PASSED_FD + 1, ~0U, 1 << 2 /* CLOSE_RANGE_CLOEXEC */);
	if (new_session)
		setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	syscall(SYS_execveat, self, "", argv, environ, AT_EMPTY_PATH);
}

/* vfork: a copy of locked memory would have to be made whole. */
int spawn_self(char *const *argv, int fd, bool new_session, pid_t *ret_pid)
{
	volatile int error = 0;
	pid_t pid = vfork();

	if (pid < 0)
		return errno;
	if (pid == 0) {
		become(argv, fd, new_session);
		error = errno;
		_exit(127);
	}
	*ret_pid = pid;
	return error;
}
