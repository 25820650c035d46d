/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount, expose, unexpose: a copy to look at, always read-only. */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#include "common/cleanup.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
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

int btrfs_expose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err)
{
	const char *given = request_string(request, "Path", err);
	char path[PATH_MAX];
	autoclose int target = given ? open_mount_target(given, path, err) : -1;

	if (target < 0)
		return -1;
	autoclose int mount = mount_copy(request, err);
	if (mount < 0)
		return -1;
	if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mount the copy at %s", path);
	json_object_set_new(answer, "Path", json_string(path));
	return 0;
}

int btrfs_unexpose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		   struct err *err)
{
	const char *path = request_string(request, "Path", err);
	const char *copy = path ? request_id(request, "Copy", err) : NULL;

	if (!copy)
		return -1;
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not an absolute path: %.500s", path);
	if (!copy_is_mounted_at(copy, path))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s is not what is mounted at %.500s", copy, path);
	return unmount_path(path, err);
}
