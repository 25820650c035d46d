/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What sets queue on: lock domains (filesystems, devices, writers), granted all at once and in the order of asking, so that
 * neither deadlock nor starvation can happen. Sets that share nothing do not meet here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct locks;
struct lock;

struct locks *locks_new(void);
struct locks *locks_free(struct locks *locks);

/* Runs from locks_release of another lock (or never, where locks_request said it is granted at once). */
typedef void (*lock_granted_fn)(void *data);

/* domains: array of strings, borrowed. holder: a row that tells people who asks (taken), shown by lock_waits_for. */
struct lock *locks_request(struct locks *locks, json_t *domains, json_t *holder, lock_granted_fn fn, void *data);
bool lock_is_granted(const struct lock *lock);
/* Gives the lock up, granted or not. Accepts NULL, returns NULL. */
struct lock *lock_release(struct lock *lock);
/* Rows {holder..., "Domain": s} of those that are in the way; a new array. */
json_t *lock_waits_for(const struct lock *lock);
