/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/shadow-table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/shadow-row.h"

/* Ids are random: two hex digits of one spread them. */
static size_t bucket_of(const char *copy)
{
	char digits[3] = { copy[0], copy[0] ? copy[1] : '\0', '\0' };

	return strtoul(digits, NULL, 16) % SHADOW_BUCKETS;
}

struct shadow *shadow_table_find(const struct shadow_table *table, const char *copy)
{
	for (struct shadow *s = table->buckets[bucket_of(copy)]; s; s = s->same_bucket)
		if (strcmp(s->id, copy) == 0)
			return s;
	return NULL;
}

static void bucket_add(struct shadow_table *table, struct shadow *shadow)
{
	struct shadow **bucket = &table->buckets[bucket_of(shadow->id)];

	shadow->same_bucket = *bucket;
	*bucket = shadow;
}

static void bucket_remove(struct shadow_table *table, struct shadow *shadow)
{
	struct shadow **link = &table->buckets[bucket_of(shadow->id)];

	while (*link != shadow)
		link = &(*link)->same_bucket;
	*link = shadow->same_bucket;
}

static void shadow_free(struct shadow *shadow)
{
	free(shadow->text);
	free(shadow->token);
	json_decref(shadow->row);
	json_decref(shadow->twin);
	free(shadow);
}

void shadow_table_done(struct shadow_table *table)
{
	while (table->first) {
		struct shadow *s = table->first;
		table->first = s->next;
		shadow_free(s);
	}
}

static struct shadow *add(struct shadow_table *table, const char *copy, json_int_t created)
{
	struct shadow *s = calloc(1, sizeof *s), **link = &table->first;

	if (!s)
		return NULL;
	snprintf(s->id, ID_SIZE, "%s", copy);
	while (*link && json_integer_value(json_object_get((*link)->row, "Created")) <= created)
		link = &(*link)->next;
	s->next = *link;
	*link = s;
	bucket_add(table, s);
	return s;
}

struct shadow *shadow_table_put(struct shadow_table *table, const char *copy, const char *token, json_t *row)
{
	struct shadow *s = shadow_table_find(table, copy);

	if (s)
		json_object_set(row, "Exposed", json_object_get(s->row, "Exposed"));
	else
		s = add(table, copy, json_integer_value(json_object_get(row, "Created")));
	if (!s) {
		json_decref(row);
		return NULL;
	}
	json_decref(s->row);
	s->row = row;
	free(steal_pointer(s->text));
	s->seen = true;
	free(s->token);
	s->token = token ? strdup(token) : NULL;
	return s;
}

void shadow_table_remove(struct shadow_table *table, struct shadow *shadow)
{
	struct shadow **link = &table->first;

	while (*link != shadow)
		link = &(*link)->next;
	*link = shadow->next;
	bucket_remove(table, shadow);
	shadow_free(shadow);
}

void shadow_set_exposed(struct shadow *shadow, const char *path)
{
	const char *now = json_string_value(json_object_get(shadow->row, "Exposed")) ?: "";
	json_t *row;

	if (strcmp(now, path) == 0)
		return;
	/* Rows are handed out by reference: what somebody holds stays as it was. */
	row = json_copy(shadow->row);
	json_object_set_new(row, "Exposed", json_string(path));
	json_decref(shadow->row);
	shadow->row = row;
	free(steal_pointer(shadow->text));
}

bool shadow_fits(const struct shadow *shadow, json_t *filter)
{
	const char *key;
	json_t *value;

	json_object_foreach (filter, key, value)
		if (!json_equal(value, json_object_get(shadow->row, key)))
			return false;
	return true;
}

static const char *brief_text(struct shadow *shadow)
{
	autojson json_t *brief = shadow->text ? NULL : shadow_row_brief(shadow->row);

	if (!shadow->text)
		shadow->text = json_dumps(brief, JSON_COMPACT);
	return shadow->text;
}

char *shadow_table_text(const struct shadow_table *table, json_t *filter, bool brief)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *separator = "[";

	if (!out)
		return NULL;
	for (struct shadow *s = table->first; s; s = s->next) {
		if (!shadow_fits(s, filter))
			continue;
		autofree char *whole = brief ? NULL : json_dumps(s->row, JSON_COMPACT);
		const char *row = brief ? brief_text(s) : whole;
		fprintf(out, "%s%s", separator, row ? row : "{}");
		separator = ",";
	}
	fprintf(out, "%s]", *separator == '[' ? "[" : "");
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}
