/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/storage-rules.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/virtual-disks.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct storage_limits storage_default_limits(void)
{
	return (struct storage_limits){ .min_size = 320 * MIB,
					.small_min_size = 32 * MIB,
					.small_volume = 500 * MIB,
					.max_volumes = 64,
					.max_cow_copies = 8,
					.max_other_copies = 512 };
}

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

static uint64_t bytes_of(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

static bool flag_of(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

/* ---- sets ---- */

int storage_check_set(const struct storage_limits *limits, json_t *members, struct err *err)
{
	size_t n = json_array_size(members);

	if (n > limits->max_volumes)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
			       "The set has %zu volumes, and %u are allowed: make two sets of it", n, limits->max_volumes);
	for (size_t i = 0; i < n; i++) {
		json_t *volume = json_array_get(members, i);
		if (virtual_check_volume(volume, err) < 0)
			return -1;
		for (size_t j = 0; j < i; j++)
			if (virtual_check_pair(json_array_get(members, j), volume, err) < 0)
				return -1;
	}
	return 0;
}

int storage_check_held(json_t *members, struct err *err)
{
	for (size_t i = 0; i < json_array_size(members); i++)
		for (size_t j = 0; j < i; j++)
			if (virtual_check_held(json_array_get(members, j), json_array_get(members, i), err) < 0)
				return -1;
	return 0;
}

/* ---- stores ---- */

static json_t *group_of(json_t *facts, const char *uuid)
{
	json_t *group;
	size_t i;

	json_array_foreach(json_object_get(facts, "Groups"), i, group)
		if (strcmp(text_of(group, "Uuid"), uuid) == 0)
			return group;
	return NULL;
}

static json_t *make_store(const char *kind, json_t *from, const char *name, json_t *group)
{
	json_t *store = json_pack("{so ss ss ss sI sI}", "Id", json_sprintf("%s:%s", kind, text_of(from, "Uuid")), "Kind",
				  kind, "Name", name, "Group", text_of(group, "Uuid"), "Size",
				  (json_int_t)bytes_of(from, "Size"), "Free", (json_int_t)bytes_of(from, "Free"));

	if (json_object_get(from, "Disks"))
		json_object_set(store, "Disks", json_object_get(from, "Disks"));
	if (json_object_get(from, "Number"))
		json_object_set(store, "Number", json_object_get(from, "Number"));
	if (json_object_get(from, "Pvs"))
		json_object_set(store, "Pvs", json_object_get(from, "Pvs"));
	if (group)
		json_object_set(store, "GroupPvs", json_object_get(group, "Pvs"));
	return store;
}

json_t *storage_candidates(json_t *facts)
{
	json_t *list = json_array(), *object, *pv;
	size_t i, j;

	json_array_foreach(json_object_get(facts, "Groups"), i, object) {
		json_array_append_new(list, make_store("vg", object, text_of(object, "Name"), object));
		json_array_foreach(json_object_get(object, "Pvs"), j, pv)
			json_array_append_new(list, make_store("pv", pv, text_of(pv, "Device"), object));
	}
	json_array_foreach(json_object_get(facts, "Pools"), i, object)
		json_array_append_new(list, make_store("pool", object, text_of(object, "Name"),
						       group_of(facts, text_of(object, "Group"))));
	json_array_foreach(json_object_get(facts, "Filesystems"), i, object)
		json_array_append_new(list, make_store("fs", object, text_of(object, "Path"), NULL));
	return list;
}

json_t *storage_candidate(json_t *facts, const char *id)
{
	autojson json_t *list = storage_candidates(facts);
	json_t *store;
	size_t i;

	json_array_foreach(list, i, store)
		if (strcmp(text_of(store, "Id"), id) == 0)
			return json_incref(store);
	return NULL;
}

static bool is_thin(json_t *volume)
{
	return strcmp(text_of(volume, "Kind"), "thin") == 0;
}

/* The physical volumes of a group or, of a single one, that one, on which copies of the volume may lie. */
static json_t *allowed_pvs(json_t *volume, json_t *store)
{
	json_t *list = json_array(), *pv;
	struct err ignored = { 0 };
	size_t i;

	json_array_foreach(json_object_get(store, "Pvs"), i, pv)
		if (virtual_check_store(volume, pv, text_of(pv, "Device"), &ignored) == 0)
			json_array_append(list, pv);
	return list;
}

static int check_group(json_t *volume, json_t *store, struct err *err)
{
	autojson json_t *allowed = allowed_pvs(volume, store);

	if (json_array_size(allowed) > 0)
		return 0;
	return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
		       "Self-hosting: no physical volume of the group %s may keep copies of %s: %s", text_of(store, "Name"),
		       text_of(volume, "Path"),
		       virtual_disk(volume) ? "none lies on the same virtual disk alone" : "all lie on virtual disks");
}

static int check_kind(json_t *volume, json_t *store, struct err *err)
{
	const char *kind = text_of(store, "Kind"), *path = text_of(volume, "Path"), *name = text_of(store, "Name");
	const char *id = text_of(store, "Id");

	if (strcmp(text_of(volume, "Provider"), "btrfs") == 0) {
		if (strcmp(kind, "fs") == 0 && strcmp(id + 3, text_of(volume, "FsUuid")) == 0)
			return 0;
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "Copies of %s (btrfs) lie in its own filesystem, and nowhere else: not on %s", path, name);
	}
	if (is_thin(volume)) {
		if (strcmp(kind, "pool") == 0 && strcmp(id + 5, text_of(volume, "PoolUuid")) == 0)
			return 0;
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "Copies of %s (a thin volume) lie in its own pool, and nowhere else: not on %s", path, name);
	}
	if ((strcmp(kind, "vg") == 0 || strcmp(kind, "pv") == 0) &&
	    strcmp(text_of(store, "Group"), text_of(volume, "VgUuid")) == 0)
		return 0;
	return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
		       "Copies of the logical volume %s lie on physical volumes of its own volume group (%s), and nowhere else: "
		       "not on %s",
		       path, text_of(volume, "Vg"), name);
}

int storage_check_candidate(json_t *volume, json_t *store, struct err *err)
{
	if (*text_of(volume, "Provider") == '\0')
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "%s", text_of(volume, "Why"));
	if (virtual_check_volume(volume, err) < 0 || check_kind(volume, store, err) < 0 ||
	    virtual_check_group(volume, json_object_get(store, "GroupPvs"), err) < 0)
		return -1;
	if (strcmp(text_of(store, "Kind"), "fs") == 0)
		return 0;
	if (strcmp(text_of(store, "Kind"), "vg") == 0)
		return check_group(volume, store, err);
	return virtual_check_store(volume, store, text_of(store, "Name"), err);
}

static bool bears(json_t *volume, const char *device)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(volume, "Disks"), i, disk)
		if (strcmp(text_of(disk, "Device"), device) == 0)
			return true;
	return false;
}

bool storage_is_own(json_t *association, json_t *store)
{
	json_t *disks = json_object_get(store, "Disks"), *disk;
	size_t i;

	if (strcmp(text_of(store, "Kind"), "pv") != 0)
		return store != NULL; /* there are no others that it may have */
	json_array_foreach(disks, i, disk)
		if (!bears(association, text_of(disk, "Device")))
			return false;
	return json_array_size(disks) > 0;
}

/* ---- associations ---- */

json_t *storage_association(json_t *facts, const char *volume_id)
{
	json_t *association;
	size_t i;

	json_array_foreach(json_object_get(facts, "Associations"), i, association)
		if (strcmp(text_of(association, "For"), volume_id) == 0)
			return association;
	return NULL;
}

uint64_t storage_min_size(const struct storage_limits *limits, json_t *volume)
{
	uint64_t size = bytes_of(volume, "LvSize");

	return size && size < limits->small_volume ? limits->small_min_size : limits->min_size;
}

static int check_one_association(json_t *volume, json_t *store, bool is_new, json_t *existing, struct err *err)
{
	const char *path = text_of(volume, "Path"), *on = text_of(existing, "OnName");

	if (is_new && existing && (flag_of(existing, "Explicit") || bytes_of(existing, "Copies") > 0))
		return err_set(err, VSS_E_OBJECT_ALREADY_EXISTS,
			       "%s has its shadow storage on %s already, and a volume has one alone: resize that, or delete it "
			       "(with its copies) first",
			       path, on);
	if (!is_new && !existing)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "%s has no shadow storage: add it", path);
	if (!is_new && strcmp(text_of(existing, "On"), text_of(store, "Id")) != 0)
		return err_set(err, bytes_of(existing, "Copies") > 0 ? VSS_E_VOLUME_IN_USE : VSS_E_OBJECT_NOT_FOUND,
			       "%s has its shadow storage on %s, not on %s: it cannot be moved while copies use it. Delete it, "
			       "then add the other",
			       path, on, text_of(store, "Name"));
	return 0;
}

int storage_check_association(const struct storage_limits *limits, json_t *volume, json_t *store, int64_t max,
			      bool is_new, json_t *facts, struct err *err)
{
	uint64_t least = storage_min_size(limits, volume);

	if (storage_check_candidate(volume, store, err) < 0 ||
	    check_one_association(volume, store, is_new, storage_association(facts, text_of(volume, "Id")), err) < 0)
		return -1;
	if (max != STORAGE_UNBOUNDED && strcmp(text_of(store, "Kind"), "vg") != 0 && strcmp(text_of(store, "Kind"), "pv") != 0)
		return err_set(err, VSS_E_NOT_SUPPORTED,
			       "Copies of %s share their blocks on %s, so that no one can say how much each takes: only UNBOUNDED "
			       "is possible",
			       text_of(volume, "Path"), text_of(store, "Name"));
	if (max != STORAGE_UNBOUNDED && (max < 0 || (uint64_t)max < least))
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "Shadow storage of %s has to be of at least %llu MiB; %lld bytes were asked for",
			       text_of(volume, "Path"), (unsigned long long)(least / MIB), (long long)max);
	return 0;
}

int storage_check_deletion(json_t *association, struct err *err)
{
	if (bytes_of(association, "Copies") == 0)
		return 0;
	return err_set(err, VSS_E_VOLUME_IN_USE,
		       "The shadow storage of %s on %s holds %llu copies: delete them first (vssctl delete shadows --for %s)",
		       text_of(association, "Volume"), text_of(association, "OnName"),
		       (unsigned long long)bytes_of(association, "Copies"), text_of(association, "Volume"));
}

/* ---- placing ---- */

static int check_count(const struct storage_limits *limits, json_t *volume, json_t *association, struct err *err)
{
	bool is_cow = strcmp(text_of(volume, "Provider"), "lvm") == 0 && !is_thin(volume);
	unsigned most = is_cow ? limits->max_cow_copies : limits->max_other_copies;
	uint64_t copies = bytes_of(association, "Copies");

	if (copies < most)
		return 0;
	return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
		       "%s has %llu copies, and %u are allowed%s: delete one (vssctl delete shadows --for %s --oldest)",
		       text_of(volume, "Path"), (unsigned long long)copies, most,
		       is_cow ? ", as each costs every write" : "", text_of(volume, "Path"));
}

static json_t *store_of(json_t *volume, json_t *association, json_t *facts)
{
	autofree char *implicit = NULL;
	const char *on = text_of(association, "On");

	if (!*on && asprintf(&implicit, is_thin(volume) ? "pool:%s" : "vg:%s",
			     text_of(volume, is_thin(volume) ? "PoolUuid" : "VgUuid")) > 0)
		on = implicit;
	return storage_candidate(facts, on);
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return unit ? (value + unit - 1) / unit * unit : value;
}

/* 15 % of the origin, at least 1 GiB, at most all of it and what the store needs to describe that. */
static uint64_t wanted_size(json_t *volume, json_t *association)
{
	uint64_t size = bytes_of(volume, "LvSize"), full = size + size / 200 + 8 * MIB, share = size / 100 * 15;

	if (flag_of(association, "Guaranteed"))
		return full;
	if (share < GIB)
		share = GIB;
	return share < full ? share : full;
}

static uint64_t free_on(json_t *pvs)
{
	uint64_t sum = 0;
	json_t *pv;
	size_t i;

	json_array_foreach(pvs, i, pv)
		sum += bytes_of(pv, "Free");
	return sum;
}

/* Takes it from the facts, so that the next member of the set does not count on it. */
static void take(json_t *pvs, uint64_t size)
{
	json_t *pv;
	size_t i;

	json_array_foreach(pvs, i, pv) {
		uint64_t free = bytes_of(pv, "Free"), taken = size < free ? size : free;
		json_object_set_new(pv, "Free", json_integer((json_int_t)(free - taken)));
		size -= taken;
	}
}

/* What MaxSize leaves for a new store; 0 when older copies would have to go even for the smallest. */
static uint64_t within_max(json_t *association, uint64_t wanted, uint64_t least, uint64_t allocated)
{
	json_t *max = json_object_get(association, "Max");
	uint64_t limit = (uint64_t)json_integer_value(max);

	if (!json_is_integer(max) || json_integer_value(max) == STORAGE_UNBOUNDED || allocated + wanted <= limit)
		return wanted;
	return allocated + least <= limit ? limit - allocated : 0;
}

/* Chooses the oldest copies that nobody uses, until there is room below MaxSize. NULL with err where that is not enough. */
static json_t *choose_evicted(json_t *volume, json_t *association, json_t *in_use, uint64_t wanted, uint64_t least,
			      uint64_t *ret_size, struct err *err)
{
	autojson json_t *evicted = json_array();
	uint64_t allocated = bytes_of(association, "Allocated");
	json_t *store;
	size_t i, used = 0;

	*ret_size = within_max(association, wanted, least, allocated);
	json_array_foreach(json_object_get(association, "Stores"), i, store) {
		if (*ret_size > 0)
			break;
		if (json_object_get(in_use, text_of(store, "Copy"))) {
			used++;
			continue;
		}
		json_array_append(evicted, json_object_get(store, "Copy"));
		allocated -= bytes_of(store, "Allocated");
		*ret_size = within_max(association, wanted, least, allocated);
	}
	if (*ret_size > 0)
		return json_incref(evicted);
	err_set(err, VSS_E_INSUFFICIENT_STORAGE,
		"The shadow storage of %s may have %llu MiB, and a copy needs %llu MiB%s: resize it (vssctl resize "
		"shadowstorage)",
		text_of(volume, "Path"), (unsigned long long)(bytes_of(association, "Max") / MIB),
		(unsigned long long)(least / MIB), used ? " beside those that are in use, or another machine's, and do not go by themselves" : "");
	return NULL;
}

static int no_room(json_t *volume, json_t *store, uint64_t least, uint64_t free, struct err *err)
{
	return err_set(err, VSS_E_INSUFFICIENT_STORAGE,
		       "There is no room for a copy of %s on %s: %llu MiB are free where it may lie, at least %llu MiB are "
		       "needed. Delete copies, or extend the volume group",
		       text_of(volume, "Path"), text_of(store, "Name"), (unsigned long long)(free / MIB),
		       (unsigned long long)(least / MIB));
}

static json_t *store_pvs(json_t *volume, json_t *store, json_t *group)
{
	json_t *pv, *one;
	size_t i;

	if (strcmp(text_of(store, "Kind"), "vg") == 0)
		return allowed_pvs(volume, group);
	one = json_array();
	json_array_foreach(json_object_get(group, "Pvs"), i, pv)
		if (strcmp(text_of(pv, "Uuid"), text_of(store, "Id") + 3) == 0)
			json_array_append(one, pv);
	return one;
}

static json_t *device_names(json_t *pvs)
{
	json_t *names = json_array(), *pv;
	size_t i;

	json_array_foreach(pvs, i, pv)
		json_array_append(names, json_object_get(pv, "Device"));
	return names;
}

static uint64_t freed_by(json_t *association, json_t *evicted)
{
	uint64_t sum = 0;
	json_t *store, *copy;
	size_t i, j;

	json_array_foreach(json_object_get(association, "Stores"), i, store)
		json_array_foreach(evicted, j, copy)
			if (json_equal(copy, json_object_get(store, "Copy")))
				sum += bytes_of(store, "Allocated");
	return sum;
}

static json_t *place_cow(const struct storage_limits *limits, json_t *volume, json_t *association, json_t *store,
			 json_t *facts, struct err *err)
{
	json_t *group = group_of(facts, text_of(volume, "VgUuid"));
	autojson json_t *pvs = store_pvs(volume, store, group);
	uint64_t wanted = wanted_size(volume, association), least = storage_min_size(limits, volume), size;
	uint64_t free = free_on(pvs);

	if (least > wanted || flag_of(association, "Guaranteed"))
		least = wanted; /* a small volume's whole content; or all was promised */
	json_t *in_use = json_object_get(facts, "InUse"), *evicted;
	evicted = choose_evicted(volume, association, in_use, wanted, least, &size, err);
	if (!evicted)
		return NULL;
	size = round_up(size, bytes_of(group, "ExtentSize"));
	free += freed_by(association, evicted);
	if (size > free)
		size = free;
	if (size < least) {
		json_decref(evicted);
		no_room(volume, store, least, free, err);
		return NULL;
	}
	json_t *place = json_pack("{sO sI so so}", "Id", json_object_get(volume, "Id"), "StoreSize", (json_int_t)size, "Pvs",
				  device_names(pvs), "Evict", evicted);
	take(pvs, size);
	return place;
}

static json_t *pool_of(json_t *facts, json_t *volume)
{
	json_t *pool;
	size_t i;

	json_array_foreach(json_object_get(facts, "Pools"), i, pool)
		if (strcmp(text_of(pool, "Uuid"), text_of(volume, "PoolUuid")) == 0)
			return pool;
	return NULL;
}

/* What is free of size, with what the volume group could add, keeps the floor. */
static int check_floor(json_t *volume, json_t *pool, uint64_t size, uint64_t free, uint64_t room, bool metadata,
		       struct err *err)
{
	unsigned floor = metadata ? STORAGE_METADATA_FLOOR : STORAGE_DATA_FLOOR;

	if (size == 0 || (free + room) / floor >= (size + room) / 100)
		return 0;
	return err_set(err, VSS_E_INSUFFICIENT_STORAGE,
		       "%s cannot be copied: %u %% of the %s of its thin pool %s are free, a pool with copies keeps %u %% free, and "
		       "its volume group has not enough to extend it. All volumes of a pool stop when it is full: delete copies "
		       "or volumes, or extend the volume group and the pool (lvextend %s%s)",
		       text_of(volume, "Path"), (unsigned)(free * 100 / size), metadata ? "metadata" : "data",
		       text_of(pool, "Name"), floor, metadata ? "--poolmetadatasize +SIZE " : "-L +SIZE ",
		       text_of(pool, "Name"));
}

static json_t *place_thin(json_t *volume, json_t *facts, struct err *err)
{
	json_t *pool = pool_of(facts, volume);
	autojson json_t *pvs = NULL;
	uint64_t room;

	pvs = storage_pool_room(pool, facts, &room);
	if (check_floor(volume, pool, bytes_of(pool, "Size"), bytes_of(pool, "Free"), room, false, err) < 0 ||
	    check_floor(volume, pool, bytes_of(pool, "MetadataSize"), bytes_of(pool, "MetadataFree"), room, true, err) < 0)
		return NULL;
	return json_pack("{sO}", "Id", json_object_get(volume, "Id"));
}

/* The provider's own rule about the whole group. */
static int check_whole_group(json_t *volume, json_t *facts, struct err *err)
{
	json_t *group = group_of(facts, text_of(volume, "VgUuid"));
	const char *error = text_of(json_object_get(facts, "Errors"), "lvm");

	if (!group)
		return err_set(err, VSS_E_PROVIDER_VETO,
			       "%s cannot be copied: LVM does not show its volume group %s on this machine: %.400s (vgs %s tells more)",
			       text_of(volume, "Path"), text_of(volume, "Vg"),
			       *error ? error : "it is clustered, or cannot be read", text_of(volume, "Vg"));
	return *text_of(group, "Why") ? err_set(err, VSS_E_PROVIDER_VETO, "%s cannot be copied: its volume group %s %s",
						text_of(volume, "Path"), text_of(group, "Name"), text_of(group, "Why")) :
					0;
}

static json_t *place_one(const struct storage_limits *limits, json_t *volume, json_t *facts, struct err *err)
{
	json_t *association = storage_association(facts, text_of(volume, "Id"));
	autojson json_t *store = store_of(volume, association, facts);

	if (check_whole_group(volume, facts, err) < 0 || check_count(limits, volume, association, err) < 0)
		return NULL;
	if (!store) {
		err_set(err, VSS_E_OBJECT_NOT_FOUND,
			"The shadow storage of %s (%s) is not there: bring it back, or delete the association",
			text_of(volume, "Path"), *text_of(association, "On") ? text_of(association, "On") : "its group");
		return NULL;
	}
	if (storage_check_candidate(volume, store, err) < 0)
		return NULL;
	return is_thin(volume) ? place_thin(volume, facts, err) :
				 place_cow(limits, volume, association, store, facts, err);
}

int storage_place(const struct storage_limits *limits, json_t *members, json_t *facts, json_t **ret, struct err *err)
{
	autojson json_t *left = json_deep_copy(facts), *places = json_array();
	json_t *volume;
	size_t i;

	json_array_foreach(members, i, volume) {
		if (strcmp(text_of(volume, "Provider"), "lvm") != 0)
			continue;
		json_t *place = place_one(limits, volume, left, err);
		if (!place)
			return -1;
		json_array_append_new(places, place);
	}
	*ret = json_incref(places);
	return 0;
}

json_t *storage_room(json_t *association, json_t *facts, uint64_t *ret_free)
{
	autojson json_t *store = store_of(association, association, facts), *pvs = NULL;
	json_t *group = group_of(facts, text_of(association, "VgUuid"));

	pvs = store && group ? store_pvs(association, store, group) : json_array();
	*ret_free = free_on(pvs);
	return device_names(pvs);
}

json_t *storage_pool_room(json_t *pool, json_t *facts, uint64_t *ret_free)
{
	json_t *group = group_of(facts, text_of(pool, "Group"));
	autojson json_t *pvs = allowed_pvs(pool, group);

	*ret_free = free_on(pvs);
	return json_array_size(pvs) < json_array_size(json_object_get(group, "Pvs")) ? device_names(pvs) : NULL;
}
