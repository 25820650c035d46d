/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paths whose parts may belong to somebody else. */
#pragma once

#include <limits.h>

#include "common/error.h"

/* Opens path below dir; never follows a link nor leaves dir. -1 with errno. */
int open_beneath(int dir, const char *path, int flags);

/* The directory itself, no link on the way (O_PATH), and the kernel's own spelling of where it is: what the caller
 * named is what is mounted over. -1 with err. */
int open_mount_target(const char *path, char spelling[PATH_MAX], struct err *err);

/* Unmounts what is mounted at an absolute path, by way of its parent's descriptor, so that no link put into the path
 * meanwhile leads elsewhere. VSS_E_VOLUME_IN_USE, naming who, while it is busy. */
int unmount_path(const char *path, struct err *err);
