/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of shadow storage: facts in, a verdict out. Nothing in here asks anybody anything.
 *
 * A volume is what the volumes worker's `resolve` says (providers/volumes.h). Facts are what the providers'
 * `storage-list` say, of all roles in one object (providers/provider.h):
 *
 * {"Groups": [{"Uuid", "Name", "Size", "Free", "ExtentSize": bytes, "Why": why nothing in it may be copied (absent: it may),
 *              "Pvs": [{"Uuid", "Device", "Number", "Size", "Free", "Disks": [disk]}]}],            volume groups
 *  "Pools":  [{"Uuid", "Group": VG uuid, "Name": "vg/pool", "Size", "Free", "MetadataSize", "MetadataFree": bytes, "Disks"}],
 *  "Filesystems": [{"Uuid", "Path", "Size", "Free"}],                                       btrfs
 *  "Associations": [{"For": volume id, "Volume": path or "vg/lv", "On": store id, "OnName": s, "Max": bytes or -1,
 *                    "Guaranteed": b, "Explicit": b, "Used": bytes, "Allocated": bytes, "Copies": n,
 *                    "Stores": [{"Copy", "Used", "Allocated"}], oldest first, ...}],
 *                   of LVM also "Provider", "Kind", "Vg", "VgUuid", "Lv", "PoolUuid", "LvSize", "Path", "Disks" of the volume,
 *                   and of each store "Device": its device-mapper name, "Lv", "Full": bytes at which it cannot overflow,
 *                   "Session", "Host", "Created", "Open": how many have it open
 *  "InUse": {copy: anything}}                   exposed, or in a live session or lease: vssd adds this
 *
 * disk: as in a volume's "Disks", Images and all of those of physical volumes. A store's id is "vg:UUID" (any allowed physical volume of the group), "pv:UUID",
 * "pool:UUID" or "fs:UUID". */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct storage_limits {
	uint64_t min_size;	 /* of an association, and of a store */
	uint64_t small_min_size; /* for volumes smaller than small_volume */
	uint64_t small_volume;
	unsigned max_volumes;	   /* a set */
	unsigned max_cow_copies;   /* of a volume whose copies cost every write */
	unsigned max_other_copies; /* thin, btrfs */
};

#define STORAGE_UNBOUNDED (-1)

/* Per cent of a thin pool with copies that have to stay free: all its volumes stop when it is full. */
#define STORAGE_DATA_FLOOR 10u
#define STORAGE_METADATA_FLOOR 25u

/* Limits as VSS has them, and as vssd.conf does where it says nothing. */
struct storage_limits storage_default_limits(void);

/* The rules that concern the members of a set as such: how many, virtual disks and what holds their images. members:
 * array of volumes. 0, or -1 with an err that names the volumes and the rule. */
int storage_check_set(const struct storage_limits *limits, json_t *members, struct err *err);

/* Of members that are only held, for somebody else. */
int storage_check_held(json_t *members, struct err *err);

/* Where the stores of a set's copies go: for each member of which the copies are kept in a volume group an entry
 * {"Id": volume id, "StoreSize": bytes, "Pvs": [devices], "Evict": [the copies that have to go first]}, for thin ones
 * {"Id"}; what is placed for one is not there for the next any more. -1 with err where a rule forbids the copy or there is
 * no room. */
int storage_place(const struct storage_limits *limits, json_t *members, json_t *facts, json_t **ret, struct err *err);

/* Whether copies of the volume may be kept in the store; store: one of storage_candidates. */
int storage_check_candidate(json_t *volume, json_t *store, struct err *err);

/* Every store in the facts: {"Id", "Kind": "vg|pv|pool|fs", "Name", "Group", "Size", "Free", "Disks" (pv, pool),
 * "Pvs" (vg), "GroupPvs" (vg, pv, pool)}. The caller's own. */
json_t *storage_candidates(json_t *facts);
json_t *storage_candidate(json_t *facts, const char *id); /* one of them; NULL */
/* Whether copies of the association's volume stay with it: in its own filesystem, group or pool, or on a single physical
 * volume of which each disk bears some of it. */
bool storage_is_own(json_t *association, json_t *store);

/* The devices on which stores of an association's copies may lie (its own: a row of the facts of a logical volume also has
 * what a volume has), and how many bytes are free there. */
json_t *storage_room(json_t *association, json_t *facts, uint64_t *ret_free);
/* The same of a thin pool that grows: one on a virtual disk stays there. NULL: wherever LVM likes. */
json_t *storage_pool_room(json_t *pool, json_t *facts, uint64_t *ret_free);

/* An association to be made, or made another size (is_new false). max: bytes or STORAGE_UNBOUNDED. */
int storage_check_association(const struct storage_limits *limits, json_t *volume, json_t *store, int64_t max,
			      bool is_new, json_t *facts, struct err *err);
/* An association to be deleted. */
int storage_check_deletion(json_t *association, struct err *err);

json_t *storage_association(json_t *facts, const char *volume_id); /* borrowed; NULL */
uint64_t storage_min_size(const struct storage_limits *limits, json_t *volume);
