/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The block devices beneath a filesystem, as sysfs shows them; loop devices are followed no further than the path of
 * their backing file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LAYERS_MAX 256u
#define DM_UUID_SIZE 129u

struct layer {
	dev_t number;
	char name[64];	  /* "loop0" */
	const char *kind; /* "loop", "partition", "dm", "nbd", "ublk", "md", "disk" */
	bool is_leaf;	  /* nothing of this machine's lies beneath: a disk, real or virtual */
	bool is_lvm;	  /* a logical volume or a part of one */
	char dm_uuid[DM_UUID_SIZE];
	char *backing; /* loop: the file's path */
};

struct layers {
	struct layer list[LAYERS_MAX];
	size_t n;
	bool cut_off; /* there were more than fit */
};

/* Adds the device and all beneath it, each once. A device that sysfs does not know adds nothing. */
void layers_add(struct layers *layers, dev_t number);
void layers_done(struct layers *layers);

/* A disk that this machine made of a file or of somebody's server. */
bool layer_is_virtual(const struct layer *layer);
