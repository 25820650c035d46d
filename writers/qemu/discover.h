/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which guests there are, and which files of this host their disks are. */
#pragma once

#include <jansson.h>

#include "common/error.h"

/* As struct bundled_kind wants it; each row also has "Agent", "Qmp" (where there is one), "Disks": [files], and "Problem": what keeps
 * the guest from being copied whole. */
json_t *discover_guests(const json_t *settings, struct err *err);
