/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A window's plan: from vssd's JSON into a board, with every bound checked, and against the kernel. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"
#include "coordinator/guard/board.h"

/* Fills board (zeroed) from {"Set", "Owner", "Deadline", "Hold", "Filesystems": [{"Fd", "Path", "Device", "Depth"}],
 * "Devices": [{"Device", "Name", "Flags", "Depth"}], "Cuts": [...]}; n_fds descriptors came with it. */
int plan_parse(json_t *plan, size_t n_fds, struct board *board, struct err *err);
/* Compares the plan with what is there: devices have these names and are neither suspended nor without a table;
 * descriptors are directories of the filesystems named; none is named twice, none holds the guard's own list. */
int plan_check(struct board *board, int control, const int *fds, int run_directory, struct err *err);
