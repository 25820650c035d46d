/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What LVM keeps of a copy for vssd: the name of its volume and tags on it. Nothing that lies there is believed beyond
 * what its form allows: whoever made the volume group may have put anything into it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/id.h"

#define COPY_NAME_SIZE 24u /* "vss-" and twelve digits of the id */
#define COPY_HOST_SIZE 65u
#define TAG_LINE_SIZE 8192u

enum copy_state {
	COPY_PREPARING,
	COPY_COMMITTED,
};

struct copy_tags {
	char copy[ID_SIZE], set[ID_SIZE], host[COPY_HOST_SIZE];
	enum copy_state state;
};

void copy_name(const char *copy, char name[COPY_NAME_SIZE]);

/* Whether the tags (as lvs prints them, with commas) are a copy's, and the volume has a copy's name. */
bool copy_tags_read(const char *tags, const char *name, struct copy_tags *ret);

/* The record that they hold; NULL when memory is short. A member that is missing or malformed is left out. */
json_t *copy_tags_record(const char *tags);

/* As options for an LVM command, each with a blank before it: those of a copy that is being made, and those that make
 * it one that exists. False when they do not fit. */
bool copy_tags_first(char line[TAG_LINE_SIZE], const char *copy, const char *set, const char *host,
		     const json_t *volume);
bool copy_tags_commit(char line[TAG_LINE_SIZE], const json_t *record);

/* One tag's value, in the characters that LVM allows. */
void tag_encode(const char *value, char *text, size_t size);
bool tag_decode(const char *text, size_t length, char *value, size_t size);
