/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* btrfs subvolumes by raw ioctl: no commit and no look-up more than the kernel itself needs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"

struct subvolume {
	uint64_t id;
	char uuid[ID_SIZE];
	bool read_only;
	uint64_t created; /* transaction id */
};

/* The subvolume in which fd lies. */
int subvolume_get(int fd, struct subvolume *ret, struct err *err);
bool subvolume_is_root(int fd); /* fd is the root directory of its subvolume */

/* All return -1 with errno: the caller knows what to say. */
int subvolume_snapshot(int source, int directory, const char *name, bool read_only);
int subvolume_destroy(int directory, const char *name);	     /* one that holds no other */
int subvolume_destroy_tree(int directory, const char *name); /* with all that are nested in it; ENOENT is success */
