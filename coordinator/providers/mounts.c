/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/mounts.h"

#include <libmount.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define MOUNTS_MAX 100000

static const char *const foreign_types[] = {
	"9p",	 "afs",	      "autofs", "beegfs", "ceph",  "cifs",   "coda",	 "davfs",  "fuse",  "fuseblk",
	"gfs2",	 "glusterfs", "gpfs",	"lustre", "ncp",   "ncpfs",  "nfs",	 "nfs4",   "ocfs2", "orangefs",
	"panfs", "prl_fs",    "pvfs2",	"smb3",	  "smbfs", "vboxsf", "virtiofs", "vmhgfs",
};

static const char *const kernel_types[] = {
	"bdev",	      "binder",	    "binfmt_misc", "bpf",      "cgroup",     "cgroup2",	  "configfs", "cpuset",
	"debugfs",    "devpts",	    "devtmpfs",	   "efivarfs", "functionfs", "hugetlbfs", "mqueue",   "nfsd",
	"nsfs",	      "overlay",    "pipefs",	   "proc",     "pstore",     "ramfs",	  "resctrl",  "rootfs",
	"rpc_pipefs", "securityfs", "selinuxfs",   "smackfs",  "sockfs",     "sysfs",	  "tmpfs",    "tracefs",
};

static bool is_in(const char *type, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(type, list[i]) == 0)
			return true;
	return false;
}

enum mount_class mount_class_of(const char *type)
{
	if (strncmp(type, "fuse.", 5) == 0 || is_in(type, foreign_types, ARRAY_SIZE(foreign_types)))
		return MOUNT_FOREIGN;
	return is_in(type, kernel_types, ARRAY_SIZE(kernel_types)) ? MOUNT_KERNEL : MOUNT_LOCAL;
}

static bool has_option(const char *options, const char *name)
{
	return options && mnt_optstr_get_option(options, name, NULL, NULL) == 0;
}

static struct mount describe(struct libmnt_fs *fs)
{
	const char *type = mnt_fs_get_fstype(fs), *source = mnt_fs_get_source(fs), *root = mnt_fs_get_root(fs);
	const char *options = mnt_fs_get_fs_options(fs);

	return (struct mount){
		.id = mnt_fs_get_id(fs),
		.parent = mnt_fs_get_parent_id(fs),
		.device = mnt_fs_get_devno(fs),
		.target = mnt_fs_get_target(fs),
		.root = root ? root : "/",
		.source = source ? source : "",
		.type = type ? type : "",
		.options = options ? options : "",
		.read_only = has_option(options, "ro"),
		.class = mount_class_of(type ? type : ""),
	};
}

static int compare_ids(const void *a, const void *b)
{
	const struct mount *const *x = a, *const *y = b;

	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static struct mount *find_id(const struct mounts *mounts, int id)
{
	const struct mount key = { .id = id }, *wanted = &key;
	struct mount **found = bsearch(&wanted, mounts->by_id, mounts->n, sizeof *mounts->by_id, compare_ids);

	return found ? *found : NULL;
}

const struct mount *mounts_by_id(const struct mounts *mounts, int id)
{
	return find_id(mounts, id);
}

/* Children in the kernel's order: each list is built from its end. */
static void link_tree(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->n; i++)
		mounts->by_id[i] = &mounts->list[i];
	qsort(mounts->by_id, mounts->n, sizeof *mounts->by_id, compare_ids);
	for (size_t i = mounts->n; i-- > 0;) {
		struct mount *mount = &mounts->list[i];
		struct mount *parent = find_id(mounts, mount->parent);

		if (parent && parent != mount) {
			mount->sibling = parent->child;
			parent->child = mount;
		} else if (strcmp(mount->target, "/") == 0) {
			mounts->root = mount;
		}
	}
}

static int read_table(struct mounts *mounts, struct err *err)
{
	struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	int n = mnt_table_get_nents(mounts->table);
	struct libmnt_fs *fs;

	if (n <= 0 || n > MOUNTS_MAX) {
		mnt_free_iter(iterator);
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "This mount namespace has %d mounts; vssd handles 1 to %d",
			       n, MOUNTS_MAX);
	}
	mounts->list = iterator ? calloc((size_t)n, sizeof *mounts->list) : NULL;
	mounts->by_id = mounts->list ? calloc((size_t)n, sizeof(struct mount *)) : NULL;
	while (mounts->by_id && mnt_table_next_fs(mounts->table, iterator, &fs) == 0)
		if (mnt_fs_get_target(fs))
			mounts->list[mounts->n++] = describe(fs);
	mnt_free_iter(iterator);
	if (!mounts->by_id)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the list of mounts");
	return 0;
}

int mounts_load_file(struct mounts *mounts, const char *path, struct err *err)
{
	*mounts = (struct mounts){ .table = mnt_new_table_from_file(path) };
	if (!mounts->table)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read %s", path);
	if (read_table(mounts, err) < 0) {
		mounts_done(mounts);
		return -1;
	}
	link_tree(mounts);
	return 0;
}

int mounts_load(struct mounts *mounts, struct err *err)
{
	return mounts_load_file(mounts, "/proc/self/mountinfo", err);
}

void mounts_done(struct mounts *mounts)
{
	free(mounts->list);
	free(mounts->by_id);
	mnt_unref_table(mounts->table);
	*mounts = (struct mounts){ 0 };
}

bool mounts_is_visible(const struct mounts *mounts, const struct mount *mount)
{
	return mounts_find(mounts, mount->target) == mount;
}

const char *path_below(const char *path, const char *ancestor)
{
	size_t length = strlen(ancestor);

	if (strncmp(path, ancestor, length) != 0)
		return NULL;
	if (length > 0 && ancestor[length - 1] == '/')
		return path + length;
	if (path[length] == '/')
		return path + length + 1;
	return path[length] == '\0' ? path + length : NULL;
}

/* As the kernel's walk does: at each step the mount on the current one that lies nearest on the way; one that lies on
 * the very root of another covers it. */
const struct mount *mounts_find(const struct mounts *mounts, const char *path)
{
	const struct mount *at = mounts->root;

	while (at) {
		const struct mount *next = NULL;
		size_t nearest = 0;
		for (const struct mount *child = at->child; child; child = child->sibling) {
			size_t length = strlen(child->target);
			if (path_below(path, child->target) && (!next || length < nearest)) {
				next = child;
				nearest = length;
			}
		}
		if (!next)
			break;
		at = next;
	}
	return at;
}
