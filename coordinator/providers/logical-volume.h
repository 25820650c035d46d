/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a logical volume is made of, as sysfs and device-mapper tell it, and whether a copy of it can be made at one
 * instant. No LVM command is run: this is asked for every path that somebody names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "coordinator/providers/layers.h"
#include "coordinator/providers/sysfs.h"

#define LVM_UUID_SIZE 39u /* with dashes */
#define LVM_NAME_SIZE 128u
#define LOGICAL_VOLUME_WHY 512u

struct logical_volume {
	dev_t number;
	char dm_name[DM_NAME_SIZE], dm_uuid[DM_UUID_SIZE];
	char vg[LVM_NAME_SIZE], lv[LVM_NAME_SIZE];
	char vg_uuid[LVM_UUID_SIZE], lv_uuid[LVM_UUID_SIZE];
	char pool_uuid[LVM_UUID_SIZE]; /* of a thin volume; else "" */
	bool is_part;		       /* of another one, or a pool: no volume of its own */
	bool is_snapshot;	       /* of the kind that keeps only what differs */
	int open_count;
	char why[LOGICAL_VOLUME_WHY]; /* the rule by which it is refused; "" */
	dev_t pvs[LAYERS_MAX];	      /* the physical volumes on which it really has extents */
	size_t n_pvs;
};

/* False when the device is no logical volume. */
bool logical_volume_read(dev_t number, struct logical_volume *ret);

/* The only device on which another one lies, where exactly one logical volume is beneath it and only dm-crypt between;
 * false otherwise. */
bool logical_volume_beneath(dev_t top, dev_t *ret);

/* Splits a device-mapper name into volume group and logical volume, with their dashes; false when it has no two. */
bool logical_volume_split_name(const char *dm_name, char vg[LVM_NAME_SIZE], char lv[LVM_NAME_SIZE]);
