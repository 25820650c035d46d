/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The instances that are known, and their components. */
#pragma once

#include "writers/bundled/bundled.h"

struct instance {
	char *name; /* the component's: "postgresql/15/main" */
	json_t *row;
	void *state;   /* the kind's: something is held */
	bool busy;     /* a task has it */
	bool left_out; /* of the set that is being made: it failed, and is in doubt */
	bool served;
	bool found;    /* by the last discovery */
	uint64_t held_since;
	struct instance *next;
};

struct instances {
	const struct bundled_kind *kind;
	struct instance *first;
};

/* Takes over what discovery found (array, borrowed); those that are gone go as soon as nothing is held in them. */
void instances_update(struct instances *instances, json_t *rows);
/* Declares the components anew. What the library refuses is logged and left out. */
void instances_declare(const struct instances *instances, struct vss_writer *writer);
struct instance *instances_find(const struct instances *instances, const char *name);
bool instances_hold(const struct instances *instances); /* anything? */
void instances_clear(struct instances *instances);
