/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/btrfs/subvolume.h"

#include <btrfsutil.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"

#define NESTED_MAX 10000u /* subvolumes that one deletion takes along */

bool subvolume_is_root(int fd)
{
	struct stat info;

	return fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) && info.st_ino == BTRFS_FIRST_FREE_OBJECTID;
}

int subvolume_get(int fd, struct subvolume *ret, struct err *err)
{
	struct btrfs_ioctl_get_subvol_info_args info = { 0 };
	char hex[ID_HEX_SIZE];

	if (ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, &info) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot read a btrfs subvolume's description");
	for (size_t i = 0; i < BTRFS_UUID_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", info.uuid[i]);
	*ret = (struct subvolume){
		.id = info.treeid,
		.read_only = info.flags & BTRFS_ROOT_SUBVOL_RDONLY,
		.created = info.otransid,
	};
	id_from_hex(hex, ret->uuid);
	return 0;
}

int subvolume_snapshot(int source, int directory, const char *name, bool read_only)
{
	struct btrfs_ioctl_vol_args_v2 args = { .fd = source, .flags = read_only ? BTRFS_SUBVOL_RDONLY : 0 };

	snprintf(args.name, sizeof args.name, "%s", name);
	return ioctl(directory, BTRFS_IOC_SNAP_CREATE_V2, &args);
}

int subvolume_destroy(int directory, const char *name)
{
	struct btrfs_ioctl_vol_args args = { 0 };

	if (snprintf(args.name, sizeof args.name, "%s", name) >= (int)sizeof args.name) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return ioctl(directory, BTRFS_IOC_SNAP_DESTROY, &args);
}

static int make_writable(int root, const char *path)
{
	autoclose int fd = open_beneath(root, path, O_RDONLY | O_DIRECTORY);
	uint64_t flags;

	if (fd < 0 || ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) < 0)
		return -1;
	if (!(flags & BTRFS_SUBVOL_RDONLY))
		return 0;
	flags &= ~(uint64_t)BTRFS_SUBVOL_RDONLY;
	return ioctl(fd, BTRFS_IOC_SUBVOL_SETFLAGS, &flags);
}

/* The path is the kernel's, but whoever may still write there could have put a link in its place meanwhile. */
static int destroy_nested(int root, const char *path)
{
	autofree char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	const char *name = slash ? slash + 1 : parent;

	if (!parent)
		return -1;
	if (slash)
		*slash = '\0';
	autoclose int directory = open_beneath(root, slash ? parent : ".", O_RDONLY | O_DIRECTORY);
	return directory < 0 ? -1 : subvolume_destroy(directory, name);
}

typedef int (*nested_fn)(int root, const char *path);

static int visit_nested(struct btrfs_util_subvolume_iterator *iterator, int root, nested_fn visit)
{
	for (unsigned n = 0; n < NESTED_MAX; n++) {
		autofree char *path = NULL;
		enum btrfs_util_error error = btrfs_util_subvolume_iterator_next(iterator, &path, NULL);

		if (error == BTRFS_UTIL_ERROR_STOP_ITERATION)
			return 0;
		if (error != BTRFS_UTIL_OK || visit(root, path) < 0)
			return -1;
	}
	errno = EMFILE;
	return -1;
}

/* Calls visit for every subvolume below root: outer ones first, or with POST_ORDER inner ones first. */
static int for_each_nested(int root, int order, nested_fn visit)
{
	struct btrfs_util_subvolume_iterator *iterator;
	int r, saved;

	if (btrfs_util_create_subvolume_iterator_fd(root, 0, order, &iterator) != BTRFS_UTIL_OK)
		return -1;
	r = visit_nested(iterator, root, visit);
	saved = errno;
	btrfs_util_destroy_subvolume_iterator(iterator);
	errno = saved;
	return r;
}

int subvolume_destroy_tree(int directory, const char *name)
{
	if (subvolume_destroy(directory, name) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY)
		return -1;
	autoclose int root = open_beneath(directory, name, O_RDONLY | O_DIRECTORY);
	if (root < 0 || make_writable(root, ".") < 0 || for_each_nested(root, 0, make_writable) < 0 ||
	    for_each_nested(root, BTRFS_UTIL_SUBVOLUME_ITERATOR_POST_ORDER, destroy_nested) < 0)
		return -1;
	return subvolume_destroy(directory, name);
}
