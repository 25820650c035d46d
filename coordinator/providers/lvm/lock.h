/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LVM's own lock of a volume group, taken the way LVM takes it, so that no LVM command changes the group while it is
 * held: for less than a second. */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* directory: LVM's setting global/locking_dir. The descriptor that holds it, until it and its duplicates are closed. -1
 * with err when it was not free by the deadline (absolute). */
int group_lock(const char *directory, const char *vg, uint64_t deadline, struct err *err);
