/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The place that LVM made for a copy before the instant, emptied so that the copy begins with the instant. A snapshot
 * that LVM has made in the ordinary way is taken down, its store is emptied, and it is loaded again under LVM's own
 * name and UUID, not live: making it live is the cut. Of a thin one only the pool's entry is deleted, and made again by
 * the cut. LVM's metadata is right from before the cut to after it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "coordinator/providers/lvm/dm.h"

#define LVM_MEMBERS_MAX 64u /* of a set */

struct placeholder {
	bool thin;
	char name[DM_DEVICE_NAME_SIZE], uuid[DM_DEVICE_UUID_SIZE]; /* the copy's device */
	char origin[DM_DEVICE_UUID_SIZE];
	uint64_t length; /* sectors of the copy */

	char params[DM_PARAMS_SIZE]; /* of the snapshot's table */
	char store[DM_DEVICE_NAME_SIZE];

	char pool[DM_DEVICE_NAME_SIZE];
	unsigned id, origin_id; /* in the pool */

	char locks[256]; /* where LVM's locks lie */
};

/* Looks at the snapshot that LVM has made. -1 with err when it is not what vssd knows. */
int placeholder_of_snapshot(const char *vg, const char *lv, const char *origin, struct placeholder *ret,
			    struct err *err);
/* bare_uuid: the copy's device-mapper uuid. */
int placeholder_of_thin(const char *vg, const char *lv, const char *uuid, const char *origin, unsigned id,
			struct placeholder *ret, struct err *err);

/* Makes them ready for the instant. -1 with err; what was done until then is left as it is. */
int placeholders_ready(const struct placeholder *const *list, size_t n, struct err *err);

enum placeholder_state {
	PLACEHOLDER_READY,
	PLACEHOLDER_LIVE, /* somebody has made it live since, or taken it down: it has to be made ready again */
	PLACEHOLDER_LOST, /* its device or its store is not there any more */
};
enum placeholder_state placeholder_look(const struct placeholder *placeholder);

/* After the cut: the thin copy's device, read-write; nothing for the other kind. */
int placeholder_activate(const struct placeholder *placeholder, struct err *err);
int placeholder_deactivate(const struct placeholder *placeholder, struct err *err);

/* A sealed memory file: vssd keeps it from one op to the next. -1 with err. */
int placeholder_save(const struct placeholder *placeholder, struct err *err);
int placeholder_load(int fd, struct placeholder *ret, struct err *err);
