/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* May this file decide what we run? Only if nobody but root (or the user that we run as) can change it: the file
 * itself, every directory on the way, and every symbolic link on the way belong to them and are not writable by others.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"

/* Walks the absolute path and returns an O_PATH descriptor of its end, which must be of the type (S_IFREG, S_IFDIR);
 * *ret_path (nullable) is the path without symbolic links. -1: err says which object is to blame and why; its code is
 * VSS_E_OBJECT_NOT_FOUND if there is no such file, VSS_E_ACCESS_DENIED if it cannot be trusted. */
int trust_open(const char *path, mode_t type, char **ret_path, struct err *err);
