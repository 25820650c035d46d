/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What COMMAND of vssctl freeze needs must not lie on what is frozen: it would wait for its own end. */
#pragma once

#include <stddef.h>

/* 0, or -1 with a sentence in why: argv[0] (found as a shell does), its interpreters, the working directory, and where
 * standard input, output and error lead lie on none of the filesystems of paths. */
int freeze_places_check(char *const *paths, size_t n_paths, const char *command, char why[512]);
