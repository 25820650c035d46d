/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a block device is used for, beside being mounted, and what a filesystem keeps on other devices. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "coordinator/providers/mounts.h"

#define DEVICE_PATH_SIZE 80u

struct device_content {
	char type[32]; /* as blkid says; "" when it knows none */
	char uuid[64], label[257];
};

/* The device's node, by the kernel's own name; false when there is none that is this device. */
bool device_path(dev_t number, char path[DEVICE_PATH_SIZE]);

void device_probe(const char *path, struct device_content *ret);

/* Whether the filesystem on the device keeps a part of itself on another one; what: "its journal", say. */
bool device_has_outside_part(const char *path, const char **ret_what);

bool device_is_swap(dev_t number);

/* The mount of the filesystem that has its log or its realtime part here; NULL. */
const struct mount *device_serves(const struct mounts *mounts, dev_t number);

/* Claimed by the kernel: mounted somewhere, a part of an array, a journal. */
bool device_is_claimed(const char *path);

/* A mount of the filesystem on the device, or on what only encrypts it; the one with the whole of it if there is one.
 * NULL when it is not mounted here. */
const struct mount *device_mount(const struct mounts *mounts, dev_t number);

/* Names of the devices that lie on it ("luks-x, md0"); false when there are none. */
bool device_holders(dev_t number, char *text, size_t size);

/* The loop device that has this device itself for its image; false when there is none. */
bool device_is_loop_image(dev_t number, char *name, size_t size);
