/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What device-mapper says of copies' stores, of thin pools and of merges. No LVM command, and nothing is made to write. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_NAME_SIZE 128u

enum device_kind {
	DEVICE_OTHER,
	DEVICE_STORE, /* a snapshot: its store's fill */
	DEVICE_POOL,  /* a thin pool */
	DEVICE_MERGE, /* a copy that goes into its volume: LVM has put errors in its place */
};

struct device_status {
	enum device_kind kind;
	bool invalid;		   /* a store that has overflowed; a pool that failed */
	bool read_only;		   /* a pool to which the kernel writes no more: nothing can be deleted from it either */
	uint64_t used, size;	   /* bytes; of a pool: its data */
	uint64_t meta_used, meta_size; /* a pool's */
	uint64_t transaction;	   /* a pool's: another one when volumes have come or gone */
	int open_count;
};

/* The names of the devices that may be of interest: copies that are active, and thin pools. */
void devices_for_each(void (*visit)(const char *name, bool is_pool, void *data), void *data);

/* False when it is not there, or is none of those. */
bool device_status(const char *name, struct device_status *ret);
