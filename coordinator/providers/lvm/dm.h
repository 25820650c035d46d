/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device-mapper devices under LVM's names, beside LVM: what re-arming needs, and taking down what an ended one left. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

#define DM_DEVICE_NAME_SIZE 128u
#define DM_DEVICE_UUID_SIZE 129u
#define DM_PARAMS_SIZE 512u

/* What LVM itself sends with a resume (primary source, no fallback in the library, low priority of links). */
#define DM_FLAGS_ORIGIN 0x60u
#define DM_FLAGS_SNAPSHOT 0x70u

struct dm_state {
	bool exists, live, loaded, suspended, read_only;
	int open_count;
	dev_t number;
	char name[DM_DEVICE_NAME_SIZE], uuid[DM_DEVICE_UUID_SIZE];
};

struct dm_line {
	uint64_t length;
	char type[16], params[DM_PARAMS_SIZE];
	unsigned n_targets;
};

/* LVM's name of a device: dashes doubled. */
bool dm_name_of(const char *vg, const char *lv, char name[DM_DEVICE_NAME_SIZE]);

/* By name, by uuid, by number. False where it cannot be asked (no device-mapper); a device that is not there is a state
 * that does not exist. */
bool dm_by_name(const char *name, struct dm_state *ret);
bool dm_by_uuid(const char *uuid, struct dm_state *ret);
bool dm_by_number(dev_t number, struct dm_state *ret);

/* The first line of the live table, or of the loaded one; false when there is none. */
bool dm_read_table(const char *name, bool loaded, struct dm_line *ret);
/* What the live target says of itself, without making it write anything. */
bool dm_read_status(const char *name, struct dm_line *ret);

/* Takes devices down that nobody may have open; retries while somebody has, up to 2 s each. -1 with err naming it.
 * Those that are not there are passed by. */
int dm_remove(const char *const *names, size_t n, struct err *err);

/* A device with its table loaded and not resumed. -1 with err; nothing is left then. */
int dm_load_new(const char *name, const char *uuid, const struct dm_line *table, struct err *err);
/* The same, live, read-write. */
int dm_activate_new(const char *name, const char *uuid, const struct dm_line *table, uint16_t flags, struct err *err);
int dm_resume(const char *name, uint16_t flags, struct err *err);
/* Forgets a table that is loaded and not live. */
int dm_clear(const char *name, struct err *err);
int dm_message(const char *name, const char *text, struct err *err);

/* The node below /dev/mapper where udev does not make it. */
void dm_make_nodes(const char *name);

/* Opens the device by its number, below /dev. -1 with errno. */
int dm_open(dev_t number, int flags);
/* "/dev/dm-3" */
void dm_node(dev_t number, char node[32]);

/* Calls visit for each device with its name. */
void dm_for_each(void (*visit)(const char *name, void *data), void *data);

/* fn hears of every failure, in libdevmapper's words: of LVM's own calls too. */
void dm_listen(void (*fn)(const char *message));
