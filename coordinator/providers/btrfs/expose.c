/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount, expose, unexpose: a copy to look at, always read-only. */
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "common/cleanup.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/users.h"
#include "coordinator/providers/request.h"

static int mount_copy(json_t *request, struct err *err)
{
	const char *copy = request_id(request, "Copy", err);
	const char *uuid = copy ? request_id(request, "Filesystem", err) : NULL;
	autoclose int directory = uuid ? copy_open(uuid, copy, err) : -1;
	struct subvolume wanted, got;

	if (directory < 0 || subvolume_get(directory, &wanted, err) < 0)
		return -1;
	autoclose int mount = filesystem_mount(uuid, wanted.id, MOUNT_ATTR_RDONLY, err);
	autoclose int root = mount < 0 ? -1 : openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return mount < 0
			   ? -1
			   : err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open the copy %s", copy);
	if (subvolume_get(root, &got, err) < 0)
		return -1;
	if (strcmp(wanted.uuid, got.uuid) != 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s was replaced while it was being mounted",
			       copy);
	return steal_fd(mount);
}

int btrfs_mount(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	int mount = mount_copy(request, err);

	if (mount < 0)
		return -1;
	json_object_set_new(answer, "Mount", json_integer(fd_list_add(answer_fds, mount)));
	return 0;
}

/* The directory itself, no link on the way: what the caller named is what is mounted over. */
static int open_target(const char *path, struct err *err)
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

/* The kernel's own spelling of where fd leads. */
static int path_of(int fd, char path[PATH_MAX], struct err *err)
{
	char link[32];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read where a directory lies");
	path[length] = '\0';
	return 0;
}

int btrfs_expose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err)
{
	const char *given = request_string(request, "Path", err);
	autoclose int target = given ? open_target(given, err) : -1;
	char path[PATH_MAX];

	if (target < 0 || path_of(target, path, err) < 0)
		return -1;
	autoclose int mount = mount_copy(request, err);
	if (mount < 0)
		return -1;
	if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mount the copy at %s", path);
	json_object_set_new(answer, "Path", json_string(path));
	return 0;
}

/* By way of its parent's descriptor, so that no link put into the path meanwhile leads elsewhere. */
static int unmount(const char *path)
{
	char parent[PATH_MAX], link[PATH_MAX];
	const char *name = strrchr(path, '/');

	snprintf(parent, sizeof parent, "%.*s/", (int)(name - path), path);
	autoclose int fd = open_target(parent, NULL);
	if (fd < 0 || (size_t)snprintf(link, sizeof link, "/proc/self/fd/%d%s", fd, name) >= sizeof link)
		return -1;
	return umount2(link, UMOUNT_NOFOLLOW);
}

int btrfs_unexpose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		   struct err *err)
{
	const char *path = request_string(request, "Path", err);
	const char *copy = path ? request_id(request, "Copy", err) : NULL;
	char users[512];

	if (!copy)
		return -1;
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not an absolute path: %.500s", path);
	if (!copy_is_mounted_at(copy, path))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s is not what is mounted at %.500s", copy, path);
	if (unmount(path) == 0)
		return 0;
	if (errno != EBUSY)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot unmount %.500s", path);
	users_of_path(path, users, sizeof users);
	return err_set(err, VSS_E_VOLUME_IN_USE, "%.300s is in use%s%s: end that and unexpose again", path,
		       *users ? " by " : "", users);
}
