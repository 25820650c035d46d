/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How full something is, how fast it fills, and what that means: numbers in, decisions out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fill {
	uint64_t used, size; /* bytes */
	uint64_t seen;	     /* when, usec; 0: never */
	double rate;	     /* bytes a second; falls slower than it rises */
};

/* What is known now. */
void fill_take(struct fill *fill, uint64_t now, uint64_t used, uint64_t size);

/* Until it is full if it goes on like this; UINT64_MAX when it does not fill. */
uint64_t fill_usec_left(const struct fill *fill);

/* Until it has to be looked at again: the sooner the less room there is and the faster it goes. */
uint64_t fill_poll_after(const struct fill *fill);

/* A store: 60 % are used, or it is full in 5 s. */
bool fill_is_urgent(const struct fill *fill);

/* ... or a burst of half a second, such as a disk may take, would fill it: more room is welcome, but nothing is given for it. */
bool fill_wants_room(const struct fill *fill);

/* By how much: half as much again, or what comes in 10 s, but never beyond full, where it cannot overflow any more.
 * In units of extent. 0: it needs none. */
uint64_t fill_growth(const struct fill *fill, uint64_t full, uint64_t extent);

/* A pool, of which the floor is to stay free: a part of it (in per cent), or what comes in 5 s. */
bool fill_below_floor(const struct fill *fill, unsigned percent);
