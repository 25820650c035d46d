/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define INTERVAL (2 * 1000)

/* Whoever unlocks last removes the file: what is locked has to be what has the name. */
static bool is_named(int fd, const char *path)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
	       held.st_dev == named.st_dev;
}

/* -1 with errno: EWOULDBLOCK while somebody else has it. */
static int lock_file(const char *path, uint64_t deadline)
{
	for (;;) {
		autoclose int fd = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0700);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_named(fd, path))
			return steal_fd(fd);
		if (clock_now() >= deadline) {
			errno = EWOULDBLOCK;
			return -1;
		}
		usleep(INTERVAL);
	}
}

/* The file :aux is LVM's queue for writers: who has it keeps new readers out while it waits for those that are there.
 */
int group_lock(const char *directory, const char *vg, uint64_t deadline, struct err *err)
{
	char path[512], queue[sizeof path + sizeof ":aux"];

	mkdir(directory, 0700);
	snprintf(path, sizeof path, "%s/V_%s", directory, vg);
	snprintf(queue, sizeof queue, "%s:aux", path);
	autoclose int waiting = lock_file(queue, deadline);
	int lock = waiting < 0 ? -1 : lock_file(path, deadline);
	if (lock >= 0)
		return lock;
	if (errno != EWOULDBLOCK)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "The lock of the volume group %s cannot be taken (%s)", vg, path);
	return err_set(
	    err, VSS_E_HOLD_WRITES_TIMEOUT,
	    "An LVM command is at work on the volume group %s and has not ended in time: try again (%s is its lock)",
	    vg, path);
}
