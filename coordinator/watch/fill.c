/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/watch/fill.h"

#include "common/clock.h"

#define FULL_PERCENT 60u
#define SOON (5 * USEC_PER_SEC)
#define GROW_SECONDS 10
#define RESERVE (UINT64_C(128) << 20) /* what a fast disk takes before an extension is through */
#define POLL_MIN (50 * USEC_PER_MSEC)
#define POLL_MAX (1 * USEC_PER_SEC)
#define FASTEST 1e9 /* bytes a second that a writer that has not begun yet may turn out to have */
#define RATE_KEPT 0.8

void fill_take(struct fill *fill, uint64_t now, uint64_t used, uint64_t size)
{
	double rate = 0;

	if (fill->seen && now > fill->seen && used > fill->used)
		rate = (double)(used - fill->used) * USEC_PER_SEC / (double)(now - fill->seen);
	if (rate < fill->rate * RATE_KEPT)
		rate = fill->rate * RATE_KEPT;
	fill->rate = rate < 1 ? 0 : rate;
	fill->used = used;
	fill->size = size;
	fill->seen = now;
}

static uint64_t room(const struct fill *fill)
{
	return fill->size > fill->used ? fill->size - fill->used : 0;
}

uint64_t fill_usec_left(const struct fill *fill)
{
	double left = fill->rate > 0 ? (double)room(fill) * USEC_PER_SEC / fill->rate : 1e18;

	return left >= 1e18 ? UINT64_MAX : (uint64_t)left;
}

uint64_t fill_poll_after(const struct fill *fill)
{
	uint64_t quiet = (uint64_t)((double)room(fill) / (2 * FASTEST) * USEC_PER_SEC);
	uint64_t busy = fill_usec_left(fill) / 16;
	uint64_t after = quiet < busy ? quiet : busy;

	return after < POLL_MIN ? POLL_MIN : after > POLL_MAX ? POLL_MAX : after;
}

bool fill_is_urgent(const struct fill *fill)
{
	return fill->used >= fill->size / 100 * FULL_PERCENT || fill_usec_left(fill) < SOON;
}

bool fill_wants_room(const struct fill *fill)
{
	return room(fill) < RESERVE || fill_is_urgent(fill);
}

uint64_t fill_growth(const struct fill *fill, uint64_t full, uint64_t extent)
{
	uint64_t growth = fill->size / 2, coming = (uint64_t)(fill->rate * GROW_SECONDS);

	if (fill->size >= full)
		return 0;
	if (growth < coming)
		growth = coming;
	if (room(fill) + growth < RESERVE)
		growth = RESERVE - room(fill);
	if (growth > full - fill->size)
		growth = full - fill->size;
	return extent ? (growth + extent - 1) / extent * extent : growth;
}

bool fill_below_floor(const struct fill *fill, unsigned percent)
{
	return room(fill) < fill->size / 100 * percent || fill_usec_left(fill) < SOON;
}
