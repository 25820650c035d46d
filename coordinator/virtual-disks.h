/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of virtual disks: a disk that can be detached and taken elsewhere keeps its own volumes' copies and nobody else's,
 * no copy is made of a disk in a disk, and nothing is held still together with what it is written through.
 * Volumes and stores are as storage-rules.h has them. Each returns 0, or -1 with an err that names the volumes and the rule. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"

/* The virtual disk on which something lies, the first of several; NULL for none. Borrowed. */
json_t *virtual_disk(json_t *object);

/* What concerns a volume by itself: a disk in a disk, and extents on several disks of which one can be detached. */
int virtual_check_volume(json_t *volume, struct err *err);

/* Whether two volumes may be in one set. */
int virtual_check_pair(json_t *a, json_t *b, struct err *err);

/* Whether they may at least be held together, by somebody who holds what lies further up first: not where nobody knows which
 * one does. */
int virtual_check_held(json_t *a, json_t *b, struct err *err);

/* What one physical volume, or a pool, may keep. name: of the store, for the error. */
int virtual_check_store(json_t *volume, json_t *store, const char *name, struct err *err);

/* Whether LVM can suspend the volume at all: it writes to every physical volume of its group meanwhile. pvs: of the facts. */
int virtual_check_group(json_t *volume, json_t *pvs, struct err *err);

/* The one's disk is a file on the other, or further down. */
bool virtual_is_image_on(json_t *upper, json_t *lower);
