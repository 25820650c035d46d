/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/subvolumes.h"

#include <btrfsutil.h>
#include <linux/btrfs_tree.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/btrfs/subvolume.h"

int subvolume_locate(int directory, struct subvolume_place *ret, struct err *err)
{
	struct subvolume info;
	enum btrfs_util_error error;

	if (subvolume_get(directory, &info, err) < 0)
		return -1;
	ret->id = info.id;
	memcpy(ret->uuid, info.uuid, sizeof ret->uuid);
	ret->path = info.id == BTRFS_FS_TREE_OBJECTID ? strdup("") : NULL;
	if (info.id == BTRFS_FS_TREE_OBJECTID)
		return 0;
	error = btrfs_util_subvolume_path_fd(directory, info.id, &ret->path);
	if (error != BTRFS_UTIL_OK)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read where the btrfs subvolume %llu lies (%s)",
				 (unsigned long long)info.id, btrfs_util_strerror(error));
	return 0;
}

char *subvolume_path(int directory, uint64_t id)
{
	char *path;

	return btrfs_util_subvolume_path_fd(directory, id, &path) == BTRFS_UTIL_OK ? path : NULL;
}

int subvolume_for_each_nested(int directory, subvolume_fn visit, void *data, struct err *err)
{
	struct btrfs_util_subvolume_iterator *iterator;
	enum btrfs_util_error error = btrfs_util_create_subvolume_iterator_fd(directory, 0, 0, &iterator);
	int saved;

	if (error != BTRFS_UTIL_OK)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot list nested btrfs subvolumes (%s)",
				 btrfs_util_strerror(error));
	for (;;) {
		autofree char *path = NULL;
		uint64_t id;
		error = btrfs_util_subvolume_iterator_next(iterator, &path, &id);
		if (error != BTRFS_UTIL_OK)
			break;
		visit(path, id, data);
	}
	saved = errno;
	btrfs_util_destroy_subvolume_iterator(iterator);
	if (error != BTRFS_UTIL_ERROR_STOP_ITERATION)
		return err_errno(err, saved, VSS_E_UNEXPECTED, "Cannot list nested btrfs subvolumes (%s)",
				 btrfs_util_strerror(error));
	return 0;
}
