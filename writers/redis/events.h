/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each event means for a server. */
#pragma once

#include "writers/bundled/bundled.h"

enum vss_result server_serve(struct bundled_task *task);
void hold_free(void *hold);
