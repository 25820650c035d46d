/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding a way to a filesystem that is only known by its device: for whoever releases what others held. */
#pragma once

#include "coordinator/guard/board.h"

/* A descriptor of a directory on the object's filesystem, wherever it is mounted; a negative errno, ENOENT if nowhere.
 */
int mount_open(const struct object *object);
