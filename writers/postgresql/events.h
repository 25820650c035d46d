/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each event means for a cluster. */
#pragma once

#include "writers/bundled/bundled.h"

enum vss_result cluster_serve(struct bundled_task *task);
