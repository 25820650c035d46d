/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files written into a copy before it is sealed, durably. Paths are those of the live files. */
#pragma once

#include "writers/bundled/bundled.h"

/* The live file's counterpart in the copy becomes what the live file is now; it must have that size. */
enum vss_result copy_into_copy(struct bundled_task *task, const char *path, uint64_t size);
enum vss_result write_into_copy(struct bundled_task *task, const char *path, const char *text);
/* A file that is not there is as good as removed. */
enum vss_result remove_from_copy(struct bundled_task *task, const char *directory, const char *name);
