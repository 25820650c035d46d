/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/suspend.h"

#include <linux/dm-ioctl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	bool briefly, first; /* first: this process comes before others */
	int policy;	     /* as it was before; its nice value is LVM's business */
	uint64_t device;     /* that was suspended first: LVM resumes it last */
} state;

/* Best effort: without the right to it LVM's own higher priority has to do. */
static void come_first(bool yes)
{
	struct sched_param param = { .sched_priority = yes ? sched_get_priority_min(SCHED_RR) : 0 };

	if (yes == state.first)
		return;
	if (yes)
		state.policy = sched_getscheduler(0);
	state.first = yes;
	sched_setscheduler(0, yes ? SCHED_RR | SCHED_RESET_ON_FORK : state.policy, &param);
}

void suspend_briefly(bool yes)
{
	state.briefly = yes;
	if (!yes)
		come_first(false);
}

static long suspend(int fd, struct dm_ioctl *device)
{
	device->flags |= DM_SKIP_LOCKFS_FLAG;
	if (!state.first)
		state.device = device->dev;
	come_first(true);
	return syscall(SYS_ioctl, fd, DM_DEV_SUSPEND, device);
}

static long resume(int fd, struct dm_ioctl *device)
{
	uint64_t number = device->dev;
	long r = syscall(SYS_ioctl, fd, DM_DEV_SUSPEND, device);

	if (number == state.device)
		come_first(false);
	return r;
}

/* Takes the place of the C library's for the whole program and the libraries in it, LVM's too: its copy of libdevmapper
 * is its own, and the ioctl is all that can be reached from outside. */
__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	struct dm_ioctl *device;
	va_list args;
	long r;

	va_start(args, request);
	device = va_arg(args, void *);
	va_end(args);
	if (!state.briefly || request != DM_DEV_SUSPEND)
		r = syscall(SYS_ioctl, fd, request, device);
	else if (device->flags & DM_SUSPEND_FLAG)
		r = suspend(fd, device);
	else
		r = resume(fd, device);
	return (int)r;
}
