/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The facts that the rules of shadow storage go by, asked of the providers anew each time: storage is the truth. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "coordinator/catalogue.h"
#include "coordinator/config.h"
#include "coordinator/workers.h"

struct storage_limits;

/* facts: as storage-rules.h lays them down, with "InUse"; borrowed. err: no provider could tell. Where
 * only one of them could not, "Errors" {role: text} says so. */
typedef void (*storage_facts_fn)(const struct err *err, json_t *facts, void *data);

struct storage_source {
	struct workers *workers;
	struct catalogue *catalogue;
	const struct config *config;
	const char *machine_id;
	bool (*session_lives)(const char *session, void *data);
	void *data;
};

/* fn runs exactly once. with_usage: also what the stores hold, which takes longer. */
void storage_facts_read(const struct storage_source *source, bool with_usage, storage_facts_fn fn, void *data);

/* {copy: true} of those that are not to go by themselves: exposed, of a live session, or another machine's. */
json_t *storage_in_use(const struct storage_source *source);

struct storage_limits storage_limits_of(const struct config *config);
