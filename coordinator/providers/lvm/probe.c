/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/probe.h"

#include <errno.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/providers/lvm/command.h"

#define EXIT_THAW 255

/* In a process and a session of its own: the worker may be killed at any moment, with its group, and what it had frozen
 * would stay so. It has no heap (start_all). */
static _Noreturn void freeze_and_thaw(int fd)
{
	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	syncfs(fd);
	if (ioctl(fd, FIFREEZE, 0) < 0)
		_exit(errno < EXIT_THAW ? errno : EIO);
	if (ioctl(fd, FITHAW, 0) < 0)
		_exit(EXIT_THAW);
	_exit(0);
}

static int start(struct probe *probe, struct err *err)
{
	probe->pid = _Fork();
	if (probe->pid == 0)
		freeze_and_thaw(probe->fd);
	if (probe->pid < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot start a process to probe %s",
				 probe->path);
	probe->pidfd = (int)syscall(SYS_pidfd_open, probe->pid, 0);
	return probe->pidfd < 0 ? err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot probe %s", probe->path)
				: 0;
}

static int judge(const struct probe *probe, int status, struct err *err)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;

	if (code == 0)
		return 0;
	if (code == EBUSY)
		return err_set(
		    err, VSS_E_VOLUME_IN_USE,
		    "%s is frozen by somebody else (fsfreeze, a hypervisor's agent, another backup): wait until it "
		    "has thawed, or thaw it (fsfreeze --unfreeze %s)",
		    probe->path, probe->path);
	if (code == EXIT_THAW)
		return err_set(
		    err, VSS_E_VOLUME_IN_USE,
		    "%s was thawed by somebody else while vssd tried whether it can be frozen: two programs that "
		    "freeze it do not go together",
		    probe->path);
	if (code == EOPNOTSUPP)
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "The filesystem at %s cannot be frozen: unmount it for the copy", probe->path);
	return err_errno(err, code, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s cannot be frozen", probe->path);
}

static int wait_for(struct probe *probe, uint64_t deadline, struct err *err)
{
	struct pollfd ended = { .fd = probe->pidfd, .events = POLLIN };
	uint64_t now = clock_now();
	int status;

	if (poll(&ended, 1, deadline > now ? (int)((deadline - now) / USEC_PER_MSEC) + 1 : 0) <= 0)
		return err_set(err, VSS_E_FLUSH_WRITES_TIMEOUT,
			       "%s could not be frozen in time: its storage does not answer, or has too much to write",
			       probe->path);
	if (waitpid(probe->pid, &status, 0) != probe->pid)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot probe %s", probe->path);
	probe->pid = 0;
	return judge(probe, status, err);
}

static int start_all(struct probe *probes, size_t n, struct err *err)
{
	int r = 0;

	lvm_share_heap(false);
	for (size_t i = 0; i < n && r == 0; i++)
		if (probes[i].fd >= 0)
			r = start(&probes[i], err);
	lvm_share_heap(true);
	return r;
}

/* All are waited for, so that none is left frozen when this returns. */
int probe_filesystems(struct probe *probes, size_t n, uint64_t deadline, struct err *err)
{
	struct err failure = { 0 }, other;
	int r;

	for (size_t i = 0; i < n; i++)
		probes[i].pid = probes[i].pidfd = -1;
	r = start_all(probes, n, &failure);
	for (size_t i = 0; i < n; i++) {
		if (probes[i].pidfd >= 0 && wait_for(&probes[i], deadline, r == 0 ? &failure : &other) < 0)
			r = -1;
		cleanup_close(&probes[i].pidfd);
	}
	if (r < 0)
		err_set(err, failure.code, "%s", failure.text);
	return r;
}
