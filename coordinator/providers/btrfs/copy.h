/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A copy named by its id and its filesystem, and the mounts of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "coordinator/providers/btrfs/subvolume.h"
#include "coordinator/providers/mounts.h"

/* Opens the directory of a sealed copy. -1 with err. */
int copy_open(const char *filesystem, const char *copy, struct err *err);

/* Where the copy is mounted, in any mount namespace: true with a text for people, "/mnt/x" or "/mnt/x of process 7". */
bool copy_is_mounted(const char *copy, char *where, size_t size);

/* Where the copy is mounted in our own namespace, NULL if nowhere; valid as long as mounts. */
const char *copy_mount_point(const struct mounts *mounts, const char *copy);

/* Is the topmost mount at path this copy? */
bool copy_is_mounted_at(const char *copy, const char *path);
