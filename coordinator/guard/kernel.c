/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/kernel.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MESSAGE_SIZE 128

/* A request with room for what a status or a message needs; small enough for the stacks of the crew. */
struct request {
	struct dm_ioctl head;
	char data[sizeof(struct dm_target_msg) + MESSAGE_SIZE];
};

static int flush(int fd)
{
	return syncfs(fd) < 0 ? -errno : 0;
}

static int freeze(int fd)
{
	return ioctl(fd, FIFREEZE, 0) < 0 ? -errno : 0;
}

static int thaw(int fd)
{
	return ioctl(fd, FITHAW, 0) < 0 ? -errno : 0;
}

static bool is_read_only(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_flags & ST_RDONLY);
}

/* The kernel's own spelling of a device number in 64 bits. */
static uint64_t huge_device(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (uint64_t)major << 8 | (uint64_t)(minor & ~0xffu) << 12;
}

static int dm(int control, unsigned long command, uint32_t major, uint32_t minor, struct request *request)
{
	struct dm_ioctl *head = &request->head;

	head->version[0] = DM_VERSION_MAJOR;
	head->data_size = sizeof *request;
	head->data_start = offsetof(struct request, data);
	head->dev = huge_device(major, minor);
	return ioctl(control, command, request) < 0 ? -errno : 0;
}

static int suspend(int control, uint32_t major, uint32_t minor)
{
	struct request request = { .head.flags = DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG };

	return dm(control, DM_DEV_SUSPEND, major, minor, &request);
}

/* Flags for udev with cookie 0: nobody has to wait for them, and no semaphore is needed. */
static int resume(int control, uint32_t major, uint32_t minor, uint32_t flags, bool *ret_changed)
{
	struct request request = { .head.event_nr = flags << 16 };
	int r = dm(control, DM_DEV_SUSPEND, major, minor, &request);

	*ret_changed = r == 0 && (request.head.flags & DM_UEVENT_GENERATED_FLAG);
	return r;
}

static int status(int control, uint32_t major, uint32_t minor, struct device_status *ret)
{
	struct request request = { 0 };
	int r = dm(control, DM_DEV_STATUS, major, minor, &request);

	*ret = (struct device_status){ .suspended = request.head.flags & DM_SUSPEND_FLAG,
				       .live = request.head.flags & DM_ACTIVE_PRESENT_FLAG,
				       .loaded = request.head.flags & DM_INACTIVE_PRESENT_FLAG };
	memcpy(ret->name, request.head.name, sizeof ret->name - 1);
	memcpy(ret->uuid, request.head.uuid, sizeof ret->uuid - 1);
	return r;
}

static int message(int control, uint32_t major, uint32_t minor, const char *text)
{
	struct request request = { 0 };
	size_t length = strlen(text);

	if (length >= MESSAGE_SIZE)
		return -EINVAL;
	/* Sector 0 is there already; the message follows it. */
	memcpy(request.data + offsetof(struct dm_target_msg, message), text, length + 1);
	return dm(control, DM_TARGET_MSG, major, minor, &request);
}

static int snapshot(int source, int store, const char *name, bool read_only)
{
	struct btrfs_ioctl_vol_args_v2 args = { .fd = source, .flags = read_only ? BTRFS_SUBVOL_RDONLY : 0 };

	strncpy(args.name, name, sizeof args.name - 1);
	return ioctl(store, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0 ? -errno : 0;
}

const struct kernel real_kernel = {
	.flush = flush,
	.freeze = freeze,
	.thaw = thaw,
	.is_read_only = is_read_only,
	.suspend = suspend,
	.resume = resume,
	.status = status,
	.message = message,
	.snapshot = snapshot,
};
