/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The live table of a device-mapper device, as struct block_view wants it. */
#pragma once

#include "coordinator/providers/sysfs.h"

bool dm_table_read(dev_t number, struct dm_table *ret);
