/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writers and LVM are played: what the watcher decides has to keep up with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "coordinator/watch/fill.h"

#define MIB UINT64_C(1048576)
#define GIB (1024 * MIB)
#define EXTENT (4 * MIB)

/* Fills a store of `size` at `rate` MiB a second from `begin` on, each extension taking `takes`; the least that was ever free,
 * or 0 when it overflowed. */
static uint64_t play(uint64_t size, uint64_t full, uint64_t rate, uint64_t begin, uint64_t takes)
{
	struct fill fill = { 0 };
	uint64_t now = USEC_PER_SEC, least = UINT64_MAX, end = now + 60 * USEC_PER_SEC, start = now + begin;

	while (now < end && size < full) {
		uint64_t used = now > start ? (now - start) * rate * MIB / USEC_PER_SEC : 0;
		if (used >= size)
			return 0;
		if (size - used < least)
			least = size - used;
		fill_take(&fill, now, used, size);
		if (fill_wants_room(&fill)) {
			uint64_t growth = fill_growth(&fill, full, EXTENT);
			now += takes;
			used = now > start ? (now - start) * rate * MIB / USEC_PER_SEC : 0;
			if (used >= size)
				return 0;
			size += growth;
		}
		now += fill_poll_after(&fill);
	}
	return least;
}

static void extended_in_time(void **state)
{
	static const uint64_t rates[] = { 1, 10, 50, 100, 200, 400 };

	for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
		assert_true(play(GIB, 100 * GIB, rates[i], 0, USEC_PER_SEC / 2) > 0);
		assert_true(play(GIB, 100 * GIB, rates[i], 7 * USEC_PER_SEC + 123456, USEC_PER_SEC / 2) > 0);
	}
	/* The control: with an extension that takes far too long nothing helps. */
	assert_int_equal(play(GIB, 100 * GIB, 400, 0, 10 * USEC_PER_SEC), 0);
}

static void thresholds(void **state)
{
	struct fill fill = { 0 };

	fill_take(&fill, 1 * USEC_PER_SEC, 590 * MIB, 1000 * MIB);
	assert_false(fill_wants_room(&fill));
	fill_take(&fill, 3601 * USEC_PER_SEC, 600 * MIB, 1000 * MIB);
	assert_true(fill_wants_room(&fill));

	fill = (struct fill){ 0 };
	fill_take(&fill, 1 * USEC_PER_SEC, 0, 1000 * MIB);
	assert_true(fill_usec_left(&fill) == UINT64_MAX);
	fill_take(&fill, 2 * USEC_PER_SEC, 200 * MIB, 1000 * MIB); /* full in 4 s */
	assert_true(fill_wants_room(&fill));
}

static void growth(void **state)
{
	struct fill fill = { 0 };

	fill_take(&fill, 1 * USEC_PER_SEC, 0, 300 * MIB);
	assert_int_equal(fill_growth(&fill, GIB, EXTENT), 152 * MIB); /* half as much again, in extents */
	assert_int_equal(fill_growth(&fill, 310 * MIB, EXTENT), 12 * MIB);
	assert_int_equal(fill_growth(&fill, 300 * MIB, EXTENT), 0);
	fill_take(&fill, 2 * USEC_PER_SEC, 30 * MIB, 300 * MIB);
	assert_int_equal(fill_growth(&fill, GIB, EXTENT), 300 * MIB);
	fill = (struct fill){ 0 };
	fill_take(&fill, USEC_PER_SEC, 10 * MIB, 32 * MIB);
	assert_int_equal(fill_growth(&fill, GIB, EXTENT), 108 * MIB); /* room for a burst */
}

static void looked_at_as_often_as_needed(void **state)
{
	struct fill quiet = { 0 }, busy = { 0 };

	fill_take(&quiet, USEC_PER_SEC, 0, 100 * GIB);
	assert_int_equal(fill_poll_after(&quiet), USEC_PER_SEC);
	fill_take(&busy, USEC_PER_SEC, 0, GIB);
	assert_in_range(fill_poll_after(&busy), 250 * USEC_PER_MSEC, USEC_PER_SEC);
	fill_take(&busy, 2 * USEC_PER_SEC, 900 * MIB, GIB);
	assert_int_equal(fill_poll_after(&busy), 50 * USEC_PER_MSEC);
}

static void floors(void **state)
{
	struct fill fill = { 0 };

	fill_take(&fill, USEC_PER_SEC, 89 * MIB, 100 * MIB);
	assert_false(fill_below_floor(&fill, 10));
	fill_take(&fill, 3600 * USEC_PER_SEC, 91 * MIB, 100 * MIB);
	assert_true(fill_below_floor(&fill, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extended_in_time), cmocka_unit_test(thresholds),
		cmocka_unit_test(growth),	    cmocka_unit_test(looked_at_as_often_as_needed),
		cmocka_unit_test(floors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
