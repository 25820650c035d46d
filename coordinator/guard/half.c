/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/half.h"

#include <errno.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/spawn.h"

static int spawn(const char *program, const char *run_directory, int socket, pid_t *ret_pid)
{
	char *argv[] = { (char *)program, (char *)"--executor", (char *)"--run-directory", (char *)run_directory,
			 NULL };

	return spawn_self(argv, socket, false, ret_pid);
}

int half_start(struct half *half, const char *program, const char *run_directory, struct err *err)
{
	int ends[2], r;

	*half = HALF_NONE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(err, errno, VSS_E_OUT_OF_MEMORY, "vss-guard cannot start its executor");
	autoclose int ours = ends[0];
	autoclose int theirs = ends[1];
	r = spawn(program, run_directory, theirs, &half->pid);
	if (r != 0) {
		waitpid(half->pid, NULL, 0);
		half->pid = 0;
		return err_errno(err, r, VSS_E_OUT_OF_MEMORY, "vss-guard cannot start its executor");
	}
	half->pidfd = pidfd_open(half->pid, 0);
	if (half->pidfd < 0) {
		r = errno;
		kill(half->pid, SIGKILL);
		waitpid(half->pid, NULL, 0);
		*half = HALF_NONE;
		return err_errno(err, r, VSS_E_OUT_OF_MEMORY, "vss-guard cannot watch its executor");
	}
	half->socket = steal_fd(ours);
	return 0;
}

void half_adopt(struct half *half, pid_t pid)
{
	*half = HALF_NONE;
	half->pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
	if (half->pidfd >= 0)
		half->pid = pid;
}

void half_kill(struct half *half)
{
	if (half->pidfd >= 0)
		pidfd_send_signal(half->pidfd, SIGKILL, NULL, 0);
}

void half_forget(struct half *half)
{
	half_kill(half);
	half_bury(half);
}

void half_bury(struct half *half)
{
	if (half->pidfd >= 0)
		close(half->pidfd);
	if (half->socket >= 0)
		close(half->socket);
	*half = HALF_NONE;
}
