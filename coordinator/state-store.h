/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small JSON documents on /run, a file each, so that a restarted (or killed) vssd goes on where it was. */
#pragma once

#include <jansson.h>

#include "common/error.h"

struct state_store;

/* Opens (and makes, 0700) runtime_dir/kind. It has to be on a filesystem that no set can hold: tmpfs. */
int state_store_new(struct state_store **ret, const char *runtime_dir, const char *kind, struct err *err);
struct state_store *state_store_free(struct state_store *store);

/* Both do nothing on a NULL store. Replaces as a whole (temporary file and rename). */
int state_store_put(struct state_store *store, const char *name, json_t *value, struct err *err);
void state_store_remove(struct state_store *store, const char *name);
/* {name: value}; files that are not JSON are removed. */
json_t *state_store_all(struct state_store *store);
