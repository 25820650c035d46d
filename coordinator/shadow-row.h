/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What vssd tells of one copy: a row of its catalogue, made of what storage says. */
#pragma once

#include <jansson.h>

#include "coordinator/roles.h"

/* As the copy's record says. State is "created", or "foreign" where the record is another machine's. */
json_t *shadow_row(const char *machine_id, const struct role_info *role, const char *copy, const char *filesystem,
		   json_t *record);
/* Of a copy that is "unfinished", or whose record cannot be read, and why. */
json_t *shadow_row_broken(const char *machine_id, const struct role_info *role, const char *copy, const char *filesystem,
			  const char *host, const char *set, const char *why);
/* Of one that is known and of no use any more, and why: it is found where its volume's copies are looked for. "unfinished", so
 * that nothing but its deletion is tried, unless "foreign". */
json_t *shadow_row_damaged(const char *machine_id, const struct role_info *role, const char *copy, const char *filesystem,
			   json_t *record, const char *why);
/* What a long list tells of the copy: no empty texts, nothing that is for the provider alone. */
json_t *shadow_row_brief(json_t *row);
