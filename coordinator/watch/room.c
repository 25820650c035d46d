/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/watch/room.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/size.h"
#include "common/text.h"
#include "coordinator/storage-rules.h"
#include "coordinator/watch/devices.h"

#define MIB (UINT64_C(1) << 20)

static const char *text_of(json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

static uint64_t bytes_of(json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

void room_choice_done(struct room_choice *choice)
{
	json_decref(choice->request);
	choice->request = NULL;
}

/* ---- letting copies go ---- */

/* Mounted or read, in a session that lives, or another machine's. */
static bool is_in_use(json_t *store, const struct room_owner *owner)
{
	const char *session = text_of(store, "Session");
	struct device_status status;
	char path[PATH_MAX];

	if (strcmp(text_of(store, "Host"), owner->machine_id) != 0)
		return true;
	if (device_status(text_of(store, "Device"), &status) && status.open_count > 0)
		return true;
	if (json_integer_value(json_object_get(store, "Open")) > 0)
		return true;
	snprintf(path, sizeof path, "%s/%s", owner->sessions_dir, session);
	return *session && access(path, F_OK) == 0;
}

static void evict(struct room_choice *ret, json_t *association, json_t *store)
{
	ret->kind = ROOM_EVICT;
	ret->request = json_pack("{sO sO sO}", "Copy", json_object_get(store, "Copy"), "Filesystem",
				 json_object_get(association, "VgUuid"), "Host", json_object_get(store, "Host"));
	text_format(ret->what, sizeof ret->what, "deletion of the oldest copy of %.100s, {%.40s}, to make room",
		    text_of(association, "Volume"), text_of(store, "Copy"));
}

/* The oldest of this volume's copies that nobody uses: the one that needs the room, too, since a younger one is worth more.
 * When it is the youngest itself, there is nobody for whom it would have to go: it is good until it is full. */
static bool evict_oldest(struct room_choice *ret, json_t *association, const char *needy, const struct room_owner *owner)
{
	json_t *stores = json_object_get(association, "Stores"), *store;
	size_t i;

	json_array_foreach(stores, i, store) {
		bool youngest = i + 1 == json_array_size(stores);
		if (is_in_use(store, owner) || (youngest && strcmp(text_of(store, "Device"), needy) == 0))
			continue;
		evict(ret, association, store);
		return true;
	}
	return false;
}

/* ---- stores ---- */

static json_t *find_store(json_t *facts, const char *device, json_t **ret_association)
{
	json_t *association, *store;
	size_t i, j;

	json_array_foreach(json_object_get(facts, "Associations"), i, association) {
		json_array_foreach(json_object_get(association, "Stores"), j, store) {
			if (strcmp(text_of(store, "Device"), device) != 0)
				continue;
			*ret_association = association;
			return store;
		}
	}
	return NULL;
}

static json_t *find(json_t *facts, const char *list, const char *key, const char *value)
{
	json_t *object;
	size_t i;

	json_array_foreach(json_object_get(facts, list), i, object)
		if (strcmp(text_of(object, key), value) == 0)
			return object;
	return NULL;
}

static uint64_t below_max(json_t *association)
{
	json_t *max = json_object_get(association, "Max");
	uint64_t allocated = bytes_of(association, "Allocated");

	if (!json_is_integer(max) || json_integer_value(max) == STORAGE_UNBOUNDED)
		return UINT64_MAX;
	return bytes_of(association, "Max") > allocated ? bytes_of(association, "Max") - allocated : 0;
}

static void extend(struct room_choice *ret, const char *vg, const char *lv, uint64_t growth, json_t *pvs, bool metadata)
{
	char size[SIZE_TEXT];

	size_format(growth, size);
	ret->kind = ROOM_EXTEND;
	ret->request = json_pack("{ss ss sI sO* sb}", "Vg", vg, "Lv", lv, "Size", (json_int_t)growth, "Pvs", pvs,
				 "Metadata", metadata);
	text_format(ret->what, sizeof ret->what, "extension by %s%s", size, metadata ? " (metadata)" : "");
}

static void no_room(struct room_choice *ret, json_t *association, bool max_reached, const struct fill *fill)
{
	char used[SIZE_TEXT], size[SIZE_TEXT];

	size_format(fill->used, used);
	size_format(fill->size, size);
	ret->kind = ROOM_NONE;
	text_format(ret->why, sizeof ret->why,
		    "%s of %s are used and there is no more room: %s, and no older copy of %.100s may go. The copy is lost when "
		    "it is full: %s",
		    used, size, max_reached ? "its MaxSize is reached" : "the volume group is full",
		    text_of(association, "Volume"),
		    max_reached ? "resize its storage (vssctl resize shadowstorage)" : "extend the volume group");
}

void room_for_store(struct room_choice *ret, json_t *facts, const char *device, const struct fill *fill,
		    const struct room_owner *owner)
{
	json_t *association = NULL, *store = find_store(facts, device, &association);
	json_t *group = find(facts, "Groups", "Uuid", text_of(association, "VgUuid"));
	uint64_t extent = bytes_of(group, "ExtentSize"), free, growth, least, left = below_max(association);

	ret->kind = ROOM_UNKNOWN;
	if (!store || !group)
		return;
	autojson json_t *pvs = storage_room(association, facts, &free);
	growth = fill_growth(fill, bytes_of(store, "Full"), extent);
	ret->kind = ROOM_ENOUGH;
	if (growth == 0)
		return;
	least = extent + (uint64_t)fill->rate;
	if (least > growth)
		least = growth;
	if (growth > free)
		growth = free;
	if (growth > left)
		growth = left;
	growth -= extent ? growth % extent : 0;
	if (growth >= least)
		extend(ret, text_of(association, "Vg"), text_of(store, "Lv"), growth, pvs, false);
	else if (!fill_is_urgent(fill))
		ret->kind = ROOM_QUIET;
	else if (evict_oldest(ret, association, device, owner))
		return;
	else if (growth > 0)
		extend(ret, text_of(association, "Vg"), text_of(store, "Lv"), growth, pvs, false);
	else
		no_room(ret, association, left < least, fill);
}

/* ---- pools ---- */

static bool is_in_pool(json_t *association, json_t *pool)
{
	return *text_of(pool, "Uuid") && strcmp(text_of(association, "PoolUuid"), text_of(pool, "Uuid")) == 0;
}

size_t room_count_copies(json_t *facts, const char *device)
{
	json_t *pool = find(facts, "Pools", "Device", device), *association;
	size_t n = 0, i;

	json_array_foreach(json_object_get(facts, "Associations"), i, association)
		if (is_in_pool(association, pool))
			n += bytes_of(association, "Copies");
	return n;
}

/* The oldest of all copies in the pool that may go. */
static bool evict_from_pool(struct room_choice *ret, json_t *facts, json_t *pool, const struct room_owner *owner)
{
	json_t *association, *store, *chosen = NULL, *of = NULL;
	size_t i, j;

	json_array_foreach(json_object_get(facts, "Associations"), i, association) {
		if (!is_in_pool(association, pool))
			continue;
		json_array_foreach(json_object_get(association, "Stores"), j, store) {
			if (is_in_use(store, owner) ||
			    (chosen && bytes_of(store, "Created") >= bytes_of(chosen, "Created")))
				continue;
			chosen = store;
			of = association;
		}
	}
	if (chosen)
		evict(ret, of, chosen);
	return chosen != NULL;
}

void room_for_pool(struct room_choice *ret, json_t *facts, const char *device, const struct fill *fill, bool metadata,
		   bool read_only, const struct room_owner *owner)
{
	json_t *pool = find(facts, "Pools", "Device", device);
	json_t *group = find(facts, "Groups", "Uuid", text_of(pool, "Group"));
	uint64_t extent = bytes_of(group, "ExtentSize"), growth = fill->size / (metadata ? 2 : 5), coming, free;

	ret->kind = ROOM_UNKNOWN;
	if (!pool || !group)
		return;
	coming = (uint64_t)(fill->rate * 10);
	growth = growth > coming ? growth : coming;
	growth = extent ? (growth + extent - 1) / extent * extent : growth;
	autojson json_t *pvs = storage_pool_room(pool, facts, &free);
	if (growth <= free && growth > 0) {
		extend(ret, text_of(pool, "Vg"), text_of(pool, "Lv"), growth, pvs, metadata);
	} else if (free >= extent && free > 0 && extent) {
		extend(ret, text_of(pool, "Vg"), text_of(pool, "Lv"), free - free % extent, pvs, metadata);
	} else if (read_only) {
		ret->kind = ROOM_NONE;
		text_format(ret->why, sizeof ret->why, "%s", ROOM_READ_ONLY);
	} else if (!evict_from_pool(ret, facts, pool, owner)) {
		ret->kind = ROOM_NONE;
		text_format(ret->why, sizeof ret->why,
			    "%u %% of the pool's %s are used, its volume group is full, and no copy in it may go: extend the volume "
			    "group, or delete volumes. All volumes of the pool stop when it is full",
			    fill->size ? (unsigned)(fill->used * 100 / fill->size) : 100, metadata ? "metadata" : "data");
	}
}
