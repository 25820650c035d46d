/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/locks.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

struct lock {
	struct locks *locks;
	struct lock *next; /* in the order of asking */
	json_t *domains, *holder;
	bool granted;
	lock_granted_fn fn;
	void *data;
};

struct locks {
	struct lock *first;
};

struct locks *locks_new(void)
{
	return calloc(1, sizeof(struct locks));
}

struct locks *locks_free(struct locks *locks)
{
	while (locks && locks->first)
		lock_release(locks->first);
	free(locks);
	return NULL;
}

/* The first domain that both want; NULL if none. */
static const char *shared_domain(const struct lock *a, const struct lock *b)
{
	size_t i, j;
	json_t *x, *y;

	json_array_foreach(a->domains, i, x)
		json_array_foreach(b->domains, j, y)
			if (json_equal(x, y))
				return json_string_value(x);
	return NULL;
}

/* An earlier one is in the way also while it waits itself: else a stream of small sets would starve a large one. */
static bool is_free(const struct lock *lock)
{
	for (const struct lock *l = lock->locks->first; l != lock; l = l->next)
		if (shared_domain(l, lock))
			return false;
	return true;
}

struct lock *locks_request(struct locks *locks, json_t *domains, json_t *holder, lock_granted_fn fn, void *data)
{
	struct lock *lock = calloc(1, sizeof *lock), **end = &locks->first;

	if (!lock) {
		json_decref(holder);
		return NULL;
	}
	*lock = (struct lock){ .locks = locks, .domains = json_incref(domains), .holder = holder, .fn = fn, .data = data };
	while (*end)
		end = &(*end)->next;
	*end = lock;
	lock->granted = is_free(lock);
	return lock;
}

bool lock_is_granted(const struct lock *lock)
{
	return lock->granted;
}

/* fn may ask for or release locks: after each grant the list is read from its start. */
static bool grant_one(struct locks *locks)
{
	for (struct lock *l = locks->first; l; l = l->next) {
		if (l->granted || !is_free(l))
			continue;
		l->granted = true;
		l->fn(l->data);
		return true;
	}
	return false;
}

struct lock *lock_release(struct lock *lock)
{
	if (!lock)
		return NULL;
	struct locks *locks = lock->locks;
	for (struct lock **link = &locks->first; *link; link = &(*link)->next) {
		if (*link == lock) {
			*link = lock->next;
			break;
		}
	}
	json_decref(lock->domains);
	json_decref(lock->holder);
	free(lock);
	while (grant_one(locks))
		;
	return NULL;
}

json_t *lock_waits_for(const struct lock *lock)
{
	json_t *rows = json_array();

	for (const struct lock *l = lock->locks->first; l && l != lock; l = l->next) {
		const char *domain = shared_domain(l, lock);
		if (!domain)
			continue;
		json_t *row = json_copy(l->holder);
		json_object_set_new(row, "Domain", json_string(domain));
		json_object_set_new(row, "Waiting", json_boolean(!l->granted));
		json_array_append_new(rows, row);
	}
	return rows;
}
