/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* abort and remove: taking a copy down, finished or not. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/request.h"

/* The store above an open place. A place that was removed meanwhile has none: 0 with *ret -1. */
static int store_above(int place, const char *copy, int *ret, struct err *err)
{
	autoclose int store = openat(place, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat above, named;

	if (store < 0 && errno == ENOENT)
		return 0;
	if (store < 0 || fstat(place, &above) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open the place of the copy %s",
				 copy);
	if (fstatat(store, copy, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (named.st_ino != above.st_ino || named.st_dev != above.st_dev)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The descriptor is not that of the copy %s", copy);
	*ret = steal_fd(store);
	return 0;
}

static int store_of_filesystem(const char *uuid, int *ret, struct err *err)
{
	autoclose int top = filesystem_open(uuid, err);

	return top < 0 || store_open(top, false, ret, err) < 0 ? -1 : 0;
}

static int open_store(const json_t *entry, const char *copy, const struct fd_list *fds, int *ret, struct err *err)
{
	const json_t *volume = json_object_get(entry, "Volume");
	const char *uuid;

	if (json_object_get(entry, "Store")) {
		int place = request_fd(entry, "Store", fds, err);
		return place < 0 ? -1 : store_above(place, copy, ret, err);
	}
	uuid = volume ? request_string(volume, "FsUuid", err) : request_string(entry, "Filesystem", err);
	return uuid ? store_of_filesystem(uuid, ret, err) : -1;
}

static int abort_member(const json_t *entry, const struct fd_list *fds, const char *host, struct err *err)
{
	const char *copy = request_id(entry, "Copy", err);
	autoclose int store = -1;

	if (!copy || open_store(entry, copy, fds, &store, err) < 0)
		return -1;
	return store < 0 ? 0 : place_remove(store, copy, host, err);
}

/* One that cannot be removed does not keep the others; the first failure is reported. */
int btrfs_abort(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	char machine[MACHINE_ID_SIZE];
	const char *host = request_host(request, machine);
	struct err failure = { 0 };
	size_t i;

	if (!members)
		return -1;
	json_array_foreach(members, i, entry)
	{
		if (abort_member(entry, fds, host, &failure) == 0 || err->code)
			continue;
		*err = failure;
	}
	return err->code ? -1 : 0;
}

static int check_unused(const char *copy, struct err *err)
{
	char where[256];

	if (!copy_is_mounted(copy, where, sizeof where))
		return 0;
	return err_set(err, VSS_E_VOLUME_IN_USE, "The copy %s is mounted at %s: unexpose it first", copy, where);
}

int btrfs_remove(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err)
{
	const char *copy = request_id(request, "Copy", err);
	const char *uuid = copy ? request_id(request, "Filesystem", err) : NULL;
	char machine[MACHINE_ID_SIZE];
	autoclose int store = -1;

	if (!uuid || store_of_filesystem(uuid, &store, err) < 0)
		return -1;
	autoclose int place = store < 0 ? -1 : place_open(store, copy);
	if (place < 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The btrfs filesystem %s holds no copy %s", uuid, copy);
	if (filesystem_is_read_only(store))
		return err_set(
		    err, VSS_E_PROVIDER_VETO,
		    "The btrfs filesystem %s is mounted read-only: remount it read-write to delete the copy %s", uuid,
		    copy);
	if (check_unused(copy, err) < 0 || place_remove(store, copy, request_host(request, machine), err) < 0)
		return -1;
	return filesystem_sync(store, err);
}
