/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guard asks of the kernel: raw ioctls without allocation, each 0 or a negative errno. A table, so that tests
 * can run the guard on volumes that do not exist, and stop it at each step on those that do. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_NAME_SIZE 128
#define DEVICE_UUID_SIZE 129

struct device_status {
	bool suspended, live, loaded; /* live: has a table in use; loaded: has one waiting for resume */
	char name[DEVICE_NAME_SIZE], uuid[DEVICE_UUID_SIZE];
};

struct kernel {
	int (*flush)(int fd);
	int (*freeze)(int fd);
	int (*thaw)(int fd);
	bool (*is_read_only)(int fd);
	/* Of the device with this number, through the descriptor of /dev/mapper/control. Suspends without locking a
	 * filesystem: that is frozen already, and freezes must not nest. */
	int (*suspend)(int control, uint32_t major, uint32_t minor);
	/* flags: LVM's flags for udev. *ret_changed: it was this call that made the device live again. */
	int (*resume)(int control, uint32_t major, uint32_t minor, uint32_t flags, bool *ret_changed);
	int (*status)(int control, uint32_t major, uint32_t minor, struct device_status *ret);
	int (*message)(int control, uint32_t major, uint32_t minor, const char *text);
	int (*snapshot)(int source, int store, const char *name, bool read_only);
};

extern const struct kernel real_kernel;
