/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a btrfs filesystem keeps its copies, below its top-level subvolume:
 *
 *	.vss/			root's, 0700: nobody else reaches old data or old set-uid programs through it
 *	    COPY-ID/		a copy's place
 *		unfinished	a link whose target is the mark "HOST,SET,VOLUME"; renamed to `sealed` at the end
 *		work		the writable snapshot, while writers repair it
 *		copy		the read-only snapshot
 *		record.json	{"Copy": ID, "Record": object}
 *		revert		for a moment: what takes the volume's place, then what had it
 *
 * A copy exists from the moment its record is readable. Before, the mark tells whose it is: being metadata, it reaches
 * the disk with the transaction that makes the snapshot, whatever happens to the power afterwards. Removing goes the
 * same way back (mark, record, snapshot), so that half a copy is never taken for one. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/id.h"

#define STORE_WORK "work"
#define STORE_REVERT "revert"
#define MARK_UNFINISHED "unfinished"
#define MARK_SEALED "sealed"

#define MARK_HOST_SIZE 65
#define MARK_VOLUME_SIZE 129

struct mark {
	char host[MARK_HOST_SIZE];
	char set[ID_SIZE];
	char volume[MARK_VOLUME_SIZE];
};

/* false: a field has characters or a length that a mark cannot hold */
bool mark_init(struct mark *mark, const char *host, const char *set, const char *volume);
bool mark_parse(struct mark *mark, const char *text);
bool mark_read(int place, const char *name, struct mark *ret);

/* Opens top's store; refuses one that anybody but root could have made or could enter.
 * 1: *ret is open; 0: there is none (only without create); -1 with err. */
int store_open(int top, bool create, int *ret, struct err *err);

/* How many copies of volume the store holds or is making, counted up to limit. */
unsigned store_count(int store, const char *volume, unsigned limit);

int place_create(int store, const char *copy, const struct mark *mark, int *ret, struct err *err);
int place_open(int store, const char *copy); /* -1 with errno */
/* Of an empty place without a mark: false, nobody will mark it; true, it has got its mark meanwhile, or (*ret_mark untouched) is
 * about to. */
bool place_is_being_made(int store, int place, struct mark *ret_mark);

void place_mark_sealed(int place);
/* A sealed copy's mark names another volume from now on. */
void place_mark_volume(int place, const struct mark *mark, const char *volume);

/* Removes the place and all that a provider ever puts there, marked as taken down by host, so that whoever finds it
 * half gone can finish. One that is not there is success. */
int place_remove(int store, const char *copy, const char *host, struct err *err);
