/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A copy's record: a document of vssd's, kept beside the copy. */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "common/names.h"

#define RECORD_SIZE_MAX (1u << 20)

/* Puts the record in place, complete or not at all for whoever looks now. Durable once the returned descriptor (or the
 * filesystem) is synced. -1 with err. */
int record_write(int place, const char *copy, json_t *record, struct err *err);
/* In place of the one that is there, which stays until this is complete. Not yet durable. */
int record_replace(int place, const char *copy, json_t *record, struct err *err);
#define RECORD_TEMPORARY VSS_STORE_RECORD ".new"

enum record_state {
	RECORD_ABSENT,
	RECORD_VALID,
	RECORD_BROKEN, /* err says how */
};

/* What lies there may come from another machine: bounded, parsed, and held against the name of its place. */
enum record_state record_read(int place, const char *copy, json_t **ret, struct err *err);
