/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From what a caller named, a path or a descriptor, to an object on a known mount, without ever touching one that is
 * of a network, FUSE or autofs type. */
#pragma once

#include <limits.h>
#include <stdbool.h>

#include "coordinator/providers/mounts.h"

struct place {
	char path[PATH_MAX];	/* no links, no "..": the nearest existing one */
	char missing[PATH_MAX]; /* what of the given path does not exist below it; "" if all does */
	int fd;			/* O_PATH on path */
	const struct mount *mount;
	dev_t device; /* as stat shows it: differs for each btrfs subvolume */
	ino_t inode;
	mode_t mode;
	dev_t block; /* of a node of a block device: the device */
};

/* allow_missing: a path that does not exist resolves by its nearest existing parent. */
int place_find(const struct mounts *mounts, const char *path, bool allow_missing, struct place *ret, struct err *err);
int place_find_fd(const struct mounts *mounts, int fd, struct place *ret, struct err *err); /* fd is borrowed */
void place_done(struct place *place);
