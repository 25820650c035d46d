/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a rehearsal (vssctl verify) says of a server. */
#pragma once

#include "writers/bundled/bundled.h"

void checklist(struct bundled_task *task);
