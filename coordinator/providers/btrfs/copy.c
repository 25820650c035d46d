/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/btrfs/copy.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/namespaces.h"

#define COPY_ROOT_SIZE (sizeof "/" VSS_STORE_DIR "/" + ID_SIZE + sizeof "/" VSS_STORE_COPY)

int copy_open(const char *filesystem, const char *copy, struct err *err)
{
	autoclose int top = filesystem_open(filesystem, err);
	autoclose int store = -1;
	struct stat info;

	if (top < 0 || store_open(top, false, &store, err) < 0)
		return -1;
	autoclose int place = store < 0 ? -1 : place_open(store, copy);
	if (place < 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The btrfs filesystem %s holds no copy %s", filesystem,
			       copy);
	if (fstatat(place, VSS_STORE_RECORD, &info, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s is unfinished", copy);
	int directory = open_beneath(place, VSS_STORE_COPY, O_RDONLY | O_DIRECTORY);
	if (directory < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open the copy %s", copy);
	return directory;
}

static void copy_root(const char *copy, char root[COPY_ROOT_SIZE])
{
	snprintf(root, COPY_ROOT_SIZE, "/" VSS_STORE_DIR "/%s/" VSS_STORE_COPY, copy);
}

const char *copy_mount_point(const struct mounts *mounts, const char *copy)
{
	char root[COPY_ROOT_SIZE];

	copy_root(copy, root);
	for (size_t i = 0; i < mounts->n; i++)
		if (strcmp(mounts->list[i].root, root) == 0)
			return mounts->list[i].target;
	return NULL;
}

struct search {
	char root[COPY_ROOT_SIZE + 2]; /* between the blanks of a mountinfo line */
	char *where;
	size_t size;
	bool found;
};

static bool search_namespace(pid_t pid, const char *mountinfo, void *data)
{
	struct search *search = data;
	const char *hit = strstr(mountinfo, search->root);

	if (!hit)
		return true;
	hit += strlen(search->root);
	snprintf(search->where, search->size, "%.*s of process %d", (int)strcspn(hit, " "), hit, (int)pid);
	search->found = true;
	return false;
}

bool copy_is_mounted(const char *copy, char *where, size_t size)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	struct search search = { .where = where, .size = size };
	char root[COPY_ROOT_SIZE];
	const char *target = mounts_load(&mounts, NULL) == 0 ? copy_mount_point(&mounts, copy) : NULL;

	if (target) {
		snprintf(where, size, "%s", target);
		return true;
	}
	copy_root(copy, root);
	snprintf(search.root, sizeof search.root, " %s ", root);
	namespaces_for_each(search_namespace, &search);
	return search.found;
}

bool copy_is_mounted_at(const char *copy, const char *path)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	char root[COPY_ROOT_SIZE];

	copy_root(copy, root);
	if (mounts_load(&mounts, NULL) < 0)
		return false;
	const struct mount *mount = mounts_find(&mounts, path);
	return mount && strcmp(mount->target, path) == 0 && strcmp(mount->type, "btrfs") == 0 &&
	       strcmp(mount->root, root) == 0;
}
