/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How large the store of a copy that keeps only differences has to be, in extents. */
#pragma once

#include <stdint.h>

#define STORE_CHUNK 4096u /* LVM's default */

struct store_size {
	uint64_t wanted, least; /* least: where there is no room for what is wanted */
};

/* In bytes; asked 0: 15 % of the volume and at least 1 GiB where that fits, and never more than it can ever need. */
struct store_size store_size(uint64_t volume, uint64_t extent, uint64_t asked);

/* Such that it can never overflow. */
uint64_t store_size_full(uint64_t volume, uint64_t extent);
