/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A copy's device and the filesystem on it, mounted without a mount point. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

#define COPY_TYPE_SIZE 32u

/* The kind of filesystem on the device, of those that a copy may hold and be mounted; "" for none of them. */
void copy_filesystem(dev_t number, char type[COPY_TYPE_SIZE]);

/* Whether it was left as a filesystem is that nobody writes to: false only when that is seen, of the ext family. */
bool copy_is_clean(dev_t number, const char *type);

/* A detached mount (nosuid, nodev), which ends with its descriptor. Read-only it never writes to the device, not even a
 * replay. -1 with err. */
int copy_mount(dev_t number, const char *type, bool writable, struct err *err);

/* Ends writing through all mounts of it: everything is on the device, and its filesystem is as after an unmount. */
int copy_end_writing(int mount, const char *name, struct err *err);

/* The device refuses writers from now on. */
int copy_set_read_only(dev_t number, const char *name, struct err *err);

/* Where the device is mounted, in any mount namespace: true with a text for people. */
bool copy_mounted_where(dev_t number, char *where, size_t size);
