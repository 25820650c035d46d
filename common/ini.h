/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ini dialect of configuration and manifests: [Section], Key=Value, # and ; comments, UTF-8, 64 KiB at most. */
#pragma once

#include "common/error.h"

/* Returns 0, or -1 with err (without file and line: ini_read puts "FILE:LINE: " before it). */
typedef int (*ini_entry_fn)(const char *section, const char *key, const char *value, void *data, struct err *err);

/* Reads from an open descriptor (borrowed); name is used in errors. Stops at the first error. */
int ini_read(int fd, const char *name, ini_entry_fn fn, void *data, struct err *err);
