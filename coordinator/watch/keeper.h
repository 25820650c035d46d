/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keeps copies' stores and thin pools from filling up: looks at each as often as its fill asks for, extends in time, lets
 * the oldest copies go where there is no more room, and tells where that does not help either. Ends merges, too, whose own
 * watcher is gone. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "coordinator/watch/devices.h"
#include "coordinator/watch/fill.h"
#include "coordinator/watch/room.h"
#include "coordinator/watch/storage-worker.h"

#define ALARM_SIZE 512u

struct watched {
	struct watched *next;
	char name[DEVICE_NAME_SIZE];
	bool is_pool, present;
	struct device_status status;
	struct fill fill, meta; /* meta: of a pool */
	uint64_t due, retry;	/* when to look again; when to try again what did not help */
	bool is_quiet;		/* retry is for what is welcome, not for what is urgent */
	uint64_t enough;	/* the size at which a store cannot fill up */
	uint64_t merging;	/* since when it has been going into its volume; 0 */
	size_t copies;		/* in a pool */
	uint64_t asked;		/* the pool's transaction when they were counted; UINT64_MAX: never */
	char alarm[ALARM_SIZE]; /* what is wrong; "" */
};

struct keeper {
	struct storage_worker worker;
	struct room_owner owner;
	struct watched *list;
	uint64_t next_scan;
	json_t *events; /* what was done and what went wrong, latest last: for vssctl status */
};

/* Looks at whatever is due; returns when the next look is. */
uint64_t keeper_turn(struct keeper *keeper, uint64_t now);

/* Whether there is anything that could fill up. */
bool keeper_has_work(const struct keeper *keeper);

/* What is watched, how full it is, and what is wrong. */
json_t *keeper_state(const struct keeper *keeper);

void keeper_done(struct keeper *keeper);
