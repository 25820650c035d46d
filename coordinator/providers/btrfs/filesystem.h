/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A btrfs filesystem reached by its UUID, over a mount of our own that has no mount point: it is gone as soon as the
 * last descriptor on it is closed, whoever is killed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"

#define TOP_LEVEL_SUBVOLUME 5u

/* A detached mount of one subvolume (nosuid, nodev); attributes: MOUNT_ATTR_* to add. An O_PATH descriptor, with which
 * the mount ends unless move_mount has put it somewhere. -1 with err when no such filesystem is mounted on this
 * machine. Neither this nor the others change whether the filesystem itself is writable. */
int filesystem_mount(const char *uuid, uint64_t subvolume, unsigned attributes, struct err *err);

/* The root directory of the top-level subvolume over such a mount. */
int filesystem_open(const char *uuid, struct err *err);
int filesystem_open_device(const char *device, struct err *err); /* mounted or not */

#define DEVICE_NODE_SIZE 160

/* The node of one of the mounted filesystem's devices, by its mapper name where it has one. */
void filesystem_device(const char *uuid, char node[DEVICE_NODE_SIZE]);

int filesystem_uuid(int fd, char uuid[ID_SIZE], struct err *err);
bool filesystem_is_read_only(int fd);
int filesystem_sync(int fd, struct err *err);

/* Writes out what waits for it where that shortens a snapshot's own commit. On a filesystem that is all but clean a
 * commit of its own would only cost time: the snapshot flushes its source in any case. */
int filesystem_flush(int fd, struct err *err);
