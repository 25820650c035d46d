/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one time type: microseconds of CLOCK_MONOTONIC; every deadline is absolute. */
#pragma once

#include <stdint.h>
#include <time.h>

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX

static inline uint64_t clock_usec(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

static inline uint64_t clock_now(void)
{
	return clock_usec(CLOCK_MONOTONIC);
}
