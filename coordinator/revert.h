/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making a volume what a copy of it says: the writers concerned let go of their files, the provider goes back, the writers
 * take their files up again. No D-Bus in here. */
#pragma once

#include <jansson.h>

#include "coordinator/catalogue.h"
#include "coordinator/locks.h"
#include "coordinator/restore.h"

struct revert;

/* What reverts use; all borrowed. */
struct revert_context {
	struct restore_context restore;
	struct catalogue *catalogue;
	struct locks *locks;
};

struct revert_options {
	char copy[ID_SIZE];
	bool preview;    /* tell what it would do, do nothing */
	bool force;      /* a writer's failed PreRestore does not stop it */
	json_t *holder;  /* for those who wait for the volume: as a session's; borrowed */
};

/* result (borrowed): {"Shadow", "Volume", "VolumeId", "Created", "Younger": [ids], "Kept": b, "State": "" (preview) | "reverted" |
 * "merging" | "pending", "Message": s, "Writers": rows}. */
typedef void (*revert_fn)(const struct err *err, json_t *result, void *data);

/* fn runs exactly once, never from within this call. NULL with err: not begun, fn does not run. */
struct revert *revert_start(const struct revert_context *context, const struct revert_options *options, revert_fn fn,
			    void *data, struct err *err);
/* When vssd ends: fn does not run. */
void revert_cancel(struct revert *revert);
