/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where room comes from: a choice, made of the facts of shadow storage. Nothing is done in here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/clock.h"
#include "coordinator/watch/fill.h"

#define ROOM_READ_ONLY                                                                                                 \
	"The pool is read-only after an error, so that nothing can be written or deleted in it: if its metadata are full extend " \
	"them (lvextend --poolmetadatasize), else repair it (lvconvert --repair)"

#define ROOM_LIMIT (30 * USEC_PER_SEC) /* for LVM to do what was chosen */

enum room_kind {
	ROOM_NONE, /* there is none; why says it */
	ROOM_ENOUGH,   /* it cannot fill up any more */
	ROOM_UNKNOWN,  /* LVM knows no such copy or pool (any more) */
	ROOM_QUIET,    /* there is none without a sacrifice, and no hurry */
	ROOM_EXTEND,
	ROOM_EVICT,
};

/* Whose copies may be let go. */
struct room_owner {
	const char *machine_id;	  /* as vssd tags its copies: nobody else's go */
	const char *sessions_dir; /* of vssd: a live session is a file there */
};

struct room_choice {
	enum room_kind kind;
	json_t *request;     /* to the worker: of "extend", or of "remove" */
	char what[256];	     /* for people */
	char why[400];
};

/* device: the store's, or the pool's, in device-mapper's spelling. */
void room_for_store(struct room_choice *ret, json_t *facts, const char *device, const struct fill *fill,
		    const struct room_owner *owner);
/* read_only: the kernel writes to it no more, so that no copy can be deleted from it. */
void room_for_pool(struct room_choice *ret, json_t *facts, const char *device, const struct fill *fill, bool metadata,
		   bool read_only, const struct room_owner *owner);
void room_choice_done(struct room_choice *choice);

/* How many copies a pool holds. */
size_t room_count_copies(json_t *facts, const char *device);
