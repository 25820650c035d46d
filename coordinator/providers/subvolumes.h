/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* btrfs subvolumes as the volumes worker sees them; a build without btrfs knows none. */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "common/id.h"

struct subvolume_place {
	uint64_t id;
	char uuid[ID_SIZE];
	char *path; /* below the top level, "" for the top level itself; freed by the caller */
};

/* The subvolume in which an open directory lies. */
int subvolume_locate(int directory, struct subvolume_place *ret, struct err *err);

/* Where the subvolume with this number lies below the top level, in the filesystem of an open directory; NULL if there is
 * none. Freed by the caller. */
char *subvolume_path(int directory, uint64_t id);

/* Calls visit with the path below directory (a subvolume's root) and the id of every nested subvolume. */
typedef void (*subvolume_fn)(const char *path, uint64_t id, void *data);
int subvolume_for_each_nested(int directory, subvolume_fn visit, void *data, struct err *err);
