/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The copies that are known, oldest first, found by id. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/id.h"

#define SHADOW_BUCKETS 256

struct shadow {
	struct shadow *next; /* oldest first */
	struct shadow *same_bucket;
	char id[ID_SIZE];
	char *token; /* the provider's, of the state in which it was read; NULL */
	json_t *row;
	json_t *twin; /* {"Filesystem", "Device"} of another copy with this id, in a clone of its storage; NULL */
	char *text; /* of row, brief, as JSON, made when it is wanted; NULL after a change */
	bool seen;  /* in the reading under way */
	bool removing;
};

/* A zeroed one is empty. */
struct shadow_table {
	struct shadow *first;
	struct shadow *buckets[SHADOW_BUCKETS]; /* the same, by id */
};

void shadow_table_done(struct shadow_table *table);

struct shadow *shadow_table_find(const struct shadow_table *table, const char *copy);
/* The copy, which is there afterwards and says what row says; takes row. What storage cannot know stays. NULL: out of memory. */
struct shadow *shadow_table_put(struct shadow_table *table, const char *copy, const char *token, json_t *row);
void shadow_table_remove(struct shadow_table *table, struct shadow *shadow);

void shadow_set_exposed(struct shadow *shadow, const char *path);
/* Whether the copy's row has all members of filter. NULL: every copy fits. */
bool shadow_fits(const struct shadow *shadow, json_t *filter);
/* The rows that fit as one JSON text, to be freed. */
char *shadow_table_text(const struct shadow_table *table, json_t *filter, bool brief);
