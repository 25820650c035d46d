/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "common/cleanup.h"
#include "coordinator/providers/users.h"

int open_beneath(int dir, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static int open_without_links(const char *path, struct err *err)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	int fd;

	if (path[0] != '/')
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not an absolute path: %.500s", path);
	fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
	if (fd < 0 && errno == ELOOP)
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "%.500s goes through a symbolic link: name the directory itself", path);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_INVALID_ARGUMENT, "Cannot open the directory %.500s", path);
	return fd;
}

int open_mount_target(const char *path, char spelling[PATH_MAX], struct err *err)
{
	autoclose int fd = open_without_links(path, err);
	char link[32];
	ssize_t length;

	if (fd < 0)
		return -1;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, spelling, PATH_MAX - 1);
	if (length < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read where a directory lies");
	spelling[length] = '\0';
	return steal_fd(fd);
}

static int unmount(const char *path)
{
	char parent[PATH_MAX], link[PATH_MAX];
	const char *name = strrchr(path, '/');

	snprintf(parent, sizeof parent, "%.*s/", (int)(name - path), path);
	autoclose int fd = open_without_links(parent, NULL);
	if (fd < 0 || (size_t)snprintf(link, sizeof link, "/proc/self/fd/%d%s", fd, name) >= sizeof link)
		return -1;
	return umount2(link, UMOUNT_NOFOLLOW);
}

int unmount_path(const char *path, struct err *err)
{
	char users[512];

	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not an absolute path: %.500s", path);
	if (unmount(path) == 0)
		return 0;
	if (errno != EBUSY)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot unmount %.500s", path);
	users_of_path(path, users, sizeof users);
	return err_set(err, VSS_E_VOLUME_IN_USE, "%.300s is in use%s%s: end that and unexpose again", path,
		       *users ? " by " : "", users);
}
