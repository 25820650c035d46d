/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block devices as sysfs and device-mapper tell of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DM_TYPE_SIZE 16u
#define DM_TYPES_MAX 8u
#define DM_NAME_SIZE 128u

/* What vssd has to know of a device-mapper table. */
struct dm_table {
	char types[DM_TYPES_MAX][DM_TYPE_SIZE]; /* its targets' types, each once */
	size_t n_types;
	char params[1024]; /* the first target's; cut off where longer */
	int open_count;
};

/* Where to look: unit tests put a made-up machine here. */
struct block_view {
	const char *sysfs;				      /* "/sys" */
	bool (*read_table)(dev_t number, struct dm_table *ret); /* false: there is none, or it cannot be read */
};
extern struct block_view block_view;

/* The device's directory in sysfs; -1 when it has none. name, where given, gets the kernel's ("dm-3"). */
int sysfs_open(dev_t number, char *name, size_t size);

/* An attribute of that directory without its newline; false when there is none. */
bool sysfs_read(int device, const char *attribute, char *text, size_t size);
bool sysfs_read_number(int device, const char *attribute, dev_t *ret);

/* Each device in the directory's "slaves" or "holders". */
void sysfs_for_each(int device, const char *kind, void (*visit)(dev_t number, void *data), void *data);

/* The machine's block devices of which the kernel's names begin with prefix. */
void sysfs_for_each_block(const char *prefix, void (*visit)(dev_t number, void *data), void *data);
