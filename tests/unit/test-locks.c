/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/locks.h"

struct asker {
	struct lock *lock;
	unsigned granted;
	bool releases; /* at once, inside the callback */
	struct asker *frees; /* and this one, too */
};

static void granted(void *data)
{
	struct asker *a = data;

	a->granted++;
	assert_true(lock_is_granted(a->lock));
	if (a->frees)
		a->frees->lock = lock_release(a->frees->lock);
	if (a->releases)
		a->lock = lock_release(a->lock);
}

static void ask(struct locks *locks, struct asker *a, const char *domains, const char *name)
{
	autojson json_t *list = json_loads(domains, 0, NULL);

	a->lock = locks_request(locks, list, json_pack("{ss}", "Session", name), granted, a);
	assert_non_null(a->lock);
}

static bool has(const struct asker *a)
{
	return lock_is_granted(a->lock);
}

static void disjoint_side_by_side(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, b = { 0 }, none = { 0 };

	ask(locks, &a, "[\"x\", \"y\"]", "a");
	ask(locks, &b, "[\"z\"]", "b");
	ask(locks, &none, "[]", "none");
	assert_true(has(&a) && has(&b) && has(&none));
	assert_int_equal(a.granted, 0); /* granted at once is not told again */
	locks_free(locks);
}

static void in_the_order_of_asking(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, b = { 0 }, c = { 0 };

	ask(locks, &a, "[\"x\"]", "a");
	ask(locks, &b, "[\"x\"]", "b");
	ask(locks, &c, "[\"x\"]", "c");
	assert_true(has(&a) && !has(&b) && !has(&c));
	assert_null(lock_release(a.lock));
	assert_true(has(&b) && !has(&c));
	assert_int_equal(b.granted, 1);
	lock_release(b.lock);
	assert_true(has(&c));
	lock_release(c.lock);
	assert_null(lock_release(NULL));
	locks_free(locks);
}

/* Small ones that come later do not pass a large one that waits: else it would wait for ever. */
static void no_starvation(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, large = { 0 }, small = { 0 }, aside = { 0 };

	ask(locks, &a, "[\"x\"]", "a");
	ask(locks, &large, "[\"x\", \"y\"]", "large");
	ask(locks, &small, "[\"y\"]", "small");
	ask(locks, &aside, "[\"z\"]", "aside");
	assert_true(!has(&large) && !has(&small) && has(&aside));
	lock_release(a.lock);
	assert_true(has(&large) && !has(&small));
	lock_release(large.lock);
	assert_true(has(&small));
	locks_free(locks);
}

/* One that gives up while it waits makes way for those behind it. */
static void giving_up(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, large = { 0 }, small = { 0 };

	ask(locks, &a, "[\"x\"]", "a");
	ask(locks, &large, "[\"x\", \"y\"]", "large");
	ask(locks, &small, "[\"y\"]", "small");
	lock_release(large.lock);
	assert_int_equal(large.granted, 0);
	assert_true(has(&small));
	locks_free(locks);
}

static void release_inside_the_callback(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, chain[5] = { 0 };

	ask(locks, &a, "[\"x\"]", "a");
	for (size_t i = 0; i < ARRAY_SIZE(chain); i++) {
		chain[i].releases = true;
		ask(locks, &chain[i], "[\"x\"]", "chain");
	}
	chain[1].frees = &chain[3];
	lock_release(a.lock);
	for (size_t i = 0; i < ARRAY_SIZE(chain); i++) {
		assert_int_equal(chain[i].granted, i != 3);
		assert_null(chain[i].lock);
	}
	locks_free(locks);
}

static void who_is_in_the_way(void **state)
{
	struct locks *locks = locks_new();
	struct asker a = { 0 }, b = { 0 }, c = { 0 };

	ask(locks, &a, "[\"x\"]", "a");
	ask(locks, &b, "[\"x\", \"y\"]", "b");
	ask(locks, &c, "[\"q\", \"y\"]", "c");
	autojson json_t *rows = lock_waits_for(c.lock), *none = lock_waits_for(a.lock);
	json_t *row = json_array_get(rows, 0);
	assert_int_equal(json_array_size(none), 0);
	assert_int_equal(json_array_size(rows), 1);
	assert_string_equal(json_string_value(json_object_get(row, "Session")), "b");
	assert_string_equal(json_string_value(json_object_get(row, "Domain")), "y");
	assert_true(json_is_true(json_object_get(row, "Waiting")));
	locks_free(locks);
}

/* Whatever comes and goes: no two that share something hold at once, and everybody gets his turn. */
static void many_at_random(void **state)
{
	struct locks *locks = locks_new();
	struct asker askers[200] = { 0 };
	unsigned masks[200], done = 0;

	srand(1);
	for (size_t i = 0; i < ARRAY_SIZE(askers); i++) {
		char text[64] = "[";
		masks[i] = (unsigned)rand() & 0xFF;
		for (int bit = 0; bit < 8; bit++)
			if (masks[i] & (1u << bit)) {
				char one[8] = "\"0\"";
				one[1] = (char)('0' + bit);
				strcat(text, text[1] ? "," : "");
				strcat(text, one);
			}
		strcat(text, "]");
		ask(locks, &askers[i], text, "n");
	}
	while (done < ARRAY_SIZE(askers)) {
		unsigned held = 0;
		size_t victim = ARRAY_SIZE(askers);
		for (size_t i = 0; i < ARRAY_SIZE(askers); i++) {
			if (!askers[i].lock || !has(&askers[i]))
				continue;
			assert_int_equal(held & masks[i], 0);
			held |= masks[i];
			if (victim == ARRAY_SIZE(askers) || rand() % 3 == 0)
				victim = i;
		}
		assert_true(victim < ARRAY_SIZE(askers)); /* nobody holds: a deadlock */
		askers[victim].lock = lock_release(askers[victim].lock);
		done++;
	}
	locks_free(locks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disjoint_side_by_side),       cmocka_unit_test(in_the_order_of_asking),
		cmocka_unit_test(no_starvation),	       cmocka_unit_test(giving_up),
		cmocka_unit_test(release_inside_the_callback), cmocka_unit_test(who_is_in_the_way),
		cmocka_unit_test(many_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
