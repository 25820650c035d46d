/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may do what: root may do all; others what polkit says for the task (actions in common/names.h, the volume as
 * the detail "vss.volume"); without polkit root alone. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/bus.h"

struct authority;

struct authority *authority_new(struct bus *bus);
struct authority *authority_free(struct authority *authority);

/* fn runs exactly once, perhaps at once: err->code is VSS_OK, or ACCESS_DENIED with the reason (which action, that
 * polkit refused, is missing, or did not answer within 25 s [interactive: 120 s]). call stays the caller's, and is kept
 * alive by it. volume may be NULL. uid is the caller's, as the bus says. */
typedef void (*authority_fn)(struct bus_call *call, uid_t uid, const struct err *err, void *data);
void authority_check(struct authority *authority, struct bus_call *call, const char *action, const char *volume,
		     authority_fn fn, void *data);
