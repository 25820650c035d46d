/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking copies down, whatever state they are in. */
#pragma once

#include <stddef.h>

#include "common/error.h"
#include "coordinator/providers/lvm/group.h"

struct unwanted {
	const char *copy, *vg_uuid;
};

/* Removes the copies of this host, unfinished ones and others; one that is not there is not an error, and neither does
 * one that cannot be removed keep the others. Whatever was interrupted on the way, by SIGKILL too, is set right:
 * volumes that LVM has left suspended or without their table, devices that belong to nothing. -1 with the first
 * failure. */
int take_down(const struct unwanted *list, size_t n, const char *host, struct err *err);
/* The same, by somebody who has just read all groups. */
int take_down_known(const struct groups *before, const struct unwanted *list, size_t n, const char *host,
		    struct err *err);
