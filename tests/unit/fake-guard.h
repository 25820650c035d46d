/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/guard/guard-client.h for tests: a guard that holds nothing. "guard arm", "guard go", "guard release" and "guard free" (whatever
 * it held is free) go on the tape. */
#pragma once

#include "coordinator/guard/guard-client.h"
#include "tests/unit/fake-fanout.h"

struct guard *fake_guard_new(sd_event *event);
void fake_guard_free(struct guard *guard);

/* What the next windows do at that step, "arm", "go" or "release"; answer: JSON text in place of the usual one. */
void fake_guard_rule(struct guard *guard, const char *step, enum fake_mode mode, enum vss_error error, const char *answer);
void fake_guard_obey(struct guard *guard);
/* The newest plan; borrowed, NULL if there was none. */
json_t *fake_guard_plan(const struct guard *guard);
size_t fake_guard_open(const struct guard *guard); /* windows that nobody has closed */
