/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mounts of this process's namespace, read once from mountinfo, and which of them a path lies on, found by name
 * alone: a mount whose server is gone must not be touched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

struct libmnt_table;

enum mount_class {
	MOUNT_LOCAL,   /* may be looked at */
	MOUNT_FOREIGN, /* network, FUSE, autofs: a look may hang for ever */
	MOUNT_KERNEL,  /* proc, sysfs, tmpfs and the like: no storage beneath */
};

/* Strings belong to the table. */
struct mount {
	int id, parent;
	dev_t device; /* the superblock's; for btrfs not what stat shows */
	const char *target, *root, *source, *type;
	const char *options; /* the filesystem's, not this mount's */
	bool read_only; /* the filesystem, not just this mount of it */
	enum mount_class class;

	struct mount *child, *sibling; /* mounts on this one */
};

struct mounts {
	struct libmnt_table *table;
	struct mount *list; /* in the kernel's order */
	size_t n;
	struct mount **by_id; /* sorted */
	struct mount *root;
};

int mounts_load(struct mounts *mounts, struct err *err);
int mounts_load_file(struct mounts *mounts, const char *path, struct err *err);
void mounts_done(struct mounts *mounts);

/* The mount on which an absolute path without links, "." or ".." lies, as a look-up would find it: over-mounted ones
 * are hidden. NULL only if there is no root mount. */
const struct mount *mounts_find(const struct mounts *mounts, const char *path);
const struct mount *mounts_by_id(const struct mounts *mounts, int id);

/* Its root can be reached by its name: nothing is mounted over it. */
bool mounts_is_visible(const struct mounts *mounts, const struct mount *mount);

/* What follows ancestor in path, without the slash; NULL when path is not below it. */
const char *path_below(const char *path, const char *ancestor);

enum mount_class mount_class_of(const char *type);
