/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volume groups and what is in them, as one report of LVM's tells it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "coordinator/providers/lvm/tags.h"

struct groups {
	json_t *rows;	 /* one for each logical volume */
	char *complaint; /* LVM's, about what it could not report; NULL */
};

/* The groups with these names (a blank between each) that this machine may change. -1 with err when LVM reports
 * nothing. */
int groups_read(struct groups *groups, const char *names, struct err *err);
/* All, those of other machines and shared ones too. */
int groups_read_all(struct groups *groups, struct err *err);
void groups_done(struct groups *groups);

/* A row's value; "" when it has none. Numbers are 0 when there is none. */
const char *row_text(const json_t *row, const char *field);
uint64_t row_number(const json_t *row, const char *field);
bool row_is(const json_t *row, const char *field, const char *value);
bool row_has_tags(const json_t *row, struct copy_tags *ret);

/* Why nothing in the row's group may be copied; NULL when it may. system_id: this machine's. */
const char *group_rule(const json_t *row, const char *system_id);

/* A store into which more went than it could take: its copy is lost. */
bool row_has_overflowed(const json_t *row);

/* Borrowed; NULL when there is none. */
json_t *groups_find_group(const struct groups *groups, const char *vg_uuid);
json_t *groups_find_volume(const struct groups *groups, const char *vg_uuid, const char *lv_uuid);
json_t *groups_find_copy(const struct groups *groups, const char *vg_uuid, const char *copy);

/* What kind of volume a copy is. */
bool row_is_thin(const json_t *row);
bool row_is_cow(const json_t *row); /* a snapshot that keeps only what differs */

/* Finds the sealed or unfinished copy of a request's Copy and Filesystem (the group's UUID) in a report of all groups.
 * NULL with err. */
json_t *groups_find_requested(const struct groups *groups, json_t *request, struct err *err);
