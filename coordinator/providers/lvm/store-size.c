/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/store-size.h"

#define STORE_PERCENT 15u
#define STORE_MIN (UINT64_C(1) << 30)
#define EXCEPTION_SIZE 16u /* what is kept of each chunk that was copied */

static uint64_t extents(uint64_t bytes, uint64_t extent)
{
	return extent ? bytes / extent + (bytes % extent != 0) : 0;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A header, every chunk, and the areas of exceptions, each of them a chunk. */
uint64_t store_size_full(uint64_t volume, uint64_t extent)
{
	uint64_t chunks = extents(volume, STORE_CHUNK);
	uint64_t areas = chunks / (STORE_CHUNK / EXCEPTION_SIZE) + 1;

	return extents((1 + chunks + areas) * STORE_CHUNK, extent);
}

struct store_size store_size(uint64_t volume, uint64_t extent, uint64_t asked)
{
	uint64_t full = store_size_full(volume, extent);
	uint64_t share = least_of(extents(volume / 100 * STORE_PERCENT + 1, extent), full);
	uint64_t most = least_of(extents(STORE_MIN, extent), full);

	if (asked) {
		uint64_t n = least_of(extents(asked, extent), full);
		return (struct store_size){ .wanted = n, .least = n };
	}
	return (struct store_size){ .wanted = share > most ? share : most, .least = share };
}
