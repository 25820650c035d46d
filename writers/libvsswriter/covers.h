/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "writers/vsswriter.h"

bool path_is_below(const char *path, const char *top); /* both absolute; the same counts */
/* Length of the longest mount point in a mountinfo table that path lies below; 0 if there is none. */
size_t mount_prefix_length(FILE *mountinfo, const char *path);
