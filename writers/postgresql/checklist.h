/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a rehearsal finds out of a cluster. */
#pragma once

#include "writers/bundled/bundled.h"

void checklist(struct bundled_task *task);
