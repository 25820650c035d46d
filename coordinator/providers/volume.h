/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a volume is: the description that volumes.h lays down, made once for each volume that a request reaches. */
#pragma once

#include <jansson.h>

#include "coordinator/providers/layers.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/place.h"

#define VOLUME_ID_SIZE 128
#define FS_UUID_SIZE 64
#define FS_LABEL_SIZE 257

/* A volume as it is reached through one mount, or through its device's node. */
struct volume {
	dev_t device; /* place.device, or place.block: with the mount, what tells volumes apart without a look at the disk */
	const struct mount *mount; /* NULL: it is not mounted here */
	char *base;   /* a path of this mount ... */
	char *within; /* ... and what it is below the volume's root; "" where it is the root itself */
	json_t *description;
	const char *id, *root; /* Id and Path in the description */
	bool described;	       /* the answer holds the description, or that of the same volume by another mount */
};

/* All that one request needs to know, read once. */
struct volumes {
	struct mounts mounts;
	struct volume *list;
	size_t n;
	unsigned depth; /* of images in images, while one is described */
};

void volumes_done(struct volumes *volumes);

/* The volume of a place. NULL with err. The pointer lasts until the next call. */
const struct volume *volume_of(struct volumes *volumes, const struct place *place, struct err *err);

/* The volume on the block device of which place is a node: that of its mount, or an unmounted one. */
const struct volume *volume_on_device(struct volumes *volumes, const struct place *place, struct err *err);

/* Opens the directory of a place for ioctls: itself, or the one that holds it when it is not a directory. */
int place_open_directory(const struct place *place);

/* UUID and label of the filesystem; "" where it has none. */
void filesystem_identity(int directory, const struct mount *mount, char uuid[FS_UUID_SIZE], char label[FS_LABEL_SIZE]);

/* The filesystem's devices and all beneath. */
void filesystem_layers(struct layers *layers, const struct mount *mount, const char *uuid);

/* The disks among these layers as volumes.h has them. What sets queue on where a disk's image lies is added to domains,
 * which may be NULL. volumes->mounts is loaded when there is an image to be found, if it is not yet. */
json_t *volumes_describe_disks(struct volumes *volumes, const struct layers *layers, json_t *domains);
