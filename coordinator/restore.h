/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What writers hear around a restore: PreRestore before their files on a volume are replaced, PostRestore afterwards. Whoever
 * was sent PreRestore is sent PostRestore, however it ends. No D-Bus in here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/config.h"
#include "coordinator/fanout.h"
#include "coordinator/registry.h"
#include "coordinator/workers.h"

struct restore;

/* What a restore uses; all borrowed. */
struct restore_context {
	const struct config *config;
	struct registry *registry;
	struct workers *workers;
	struct fanout *fanout;
};

/* err->code: the first writer's failure, or why nobody could be asked. Runs once for each step; that of restore_end perhaps
 * from within the call. It may free the restore. */
typedef void (*restore_fn)(const struct err *err, void *data);

/* volumes: array of what `resolve` said of those that are restored, taken. id: a session's, or one made for this. NULL: out
 * of memory. */
struct restore *restore_new(const struct restore_context *context, const char *id, json_t *volumes);
/* Gives up what is under way; nobody hears anything any more. Accepts NULL, returns NULL. */
struct restore *restore_free(struct restore *restore);

/* Finds the writers with components on the volumes and sends them PreRestore. -1 with err: not begun, fn does not run. */
int restore_begin(struct restore *restore, restore_fn fn, void *data, struct err *err);
/* PostRestore, with Succeeded, to those that were sent PreRestore. */
void restore_end(struct restore *restore, bool succeeded, restore_fn fn, void *data);
/* {"Writer", "Instance", "Components", "PreRestore", "PostRestore": outcome texts}; a new array. */
json_t *restore_rows(const struct restore *restore);
