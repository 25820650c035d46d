/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A copy's record: a document of vssd's, kept beside the copy. */
#pragma once

#include <jansson.h>

#include "common/error.h"

#define RECORD_SIZE_MAX (1u << 20)

/* Puts the record in place, complete or not at all for whoever looks now. Durable once the returned descriptor (or the
 * filesystem) is synced. -1 with err. */
int record_write(int place, const char *copy, json_t *record, struct err *err);

enum record_state {
	RECORD_ABSENT,
	RECORD_VALID,
	RECORD_BROKEN, /* err says how */
};

/* What lies there may come from another machine: bounded, parsed, and held against the name of its place. */
enum record_state record_read(int place, const char *copy, json_t **ret, struct err *err);
