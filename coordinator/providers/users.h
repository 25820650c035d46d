/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who keeps a mount busy. */
#pragma once

#include <stddef.h>

/* Processes with a directory, a root or an open file below path, as "bash (812), rsync (813)"; empty when none is
 * seen. Reads names in /proc only and touches no file. */
void users_of_path(const char *path, char *text, size_t size);
