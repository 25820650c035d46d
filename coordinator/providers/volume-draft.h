/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is learnt of one volume before it is written down. */
#pragma once

#include "coordinator/providers/logical-volume.h"
#include "coordinator/providers/subvolumes.h"
#include "coordinator/providers/volume.h"

#ifdef HAVE_BTRFS
#define WITH_BTRFS true
#else
#define WITH_BTRFS false
#endif
#ifdef HAVE_LVM
#define WITH_LVM true
#else
#define WITH_LVM false
#endif

struct draft {
	const struct place *place;
	const struct mount *mount; /* NULL: not mounted here */
	char id[VOLUME_ID_SIZE];
	char type[32];
	char uuid[FS_UUID_SIZE], label[FS_LABEL_SIZE];
	struct subvolume_place subvolume; /* btrfs only */
	char *base, *within, *root;
	struct layers layers;
	dev_t top;	/* the block device that holds the filesystem; 0 where there are several, or none */
	bool on_lv;	/* lv is what it lies on */
	bool encrypted; /* by dm-crypt between the filesystem and the logical volume */
	struct logical_volume lv;
};

/* The description, as volumes.h lays it down; NULL when memory is short or its names are no UTF-8. */
json_t *draft_describe(struct volumes *volumes, const struct draft *draft);

/* Why no provider takes the volume, and what would help; NULL when one does. */
json_t *draft_why_not(const struct volumes *volumes, const struct draft *draft);
