/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rule by rule: each is broken once, and says which volumes broke it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/storage-rules.h"

#define MIB 1048576ll
#define GIB (1024 * MIB)
#define REAL(name) "{\"Device\": \"" name "\", \"Virtual\": false}"
#define LOOP(name, images) "{\"Device\": \"" name "\", \"Virtual\": true, \"Images\": [" images "]}"
#define IMAGE(path, id, uuid) "{\"Path\": \"" path "\", \"Volume\": \"" id "\", \"FsUuid\": \"" uuid "\"}"
#define NBD(name) "{\"Device\": \"" name "\", \"Virtual\": true, \"Images\": [], \"Unknown\": true}"

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, 0, &error);

	if (!value)
		fail_msg("%s: %s", error.text, text);
	return value;
}

/* A logical volume of the group G, named after its id. */
static json_t *lv(const char *name, const char *disks, json_int_t size)
{
	json_t *volume = json_pack("{so so ss ss ss ss ss sI}", "Id", json_sprintf("lvm:G:%s", name), "Path",
				   json_sprintf("/%s", name), "FsUuid", "", "Provider", "lvm", "Kind", "cow", "VgUuid",
				   "G", "Vg", "group", "LvSize", size);
	autofree char *text = NULL;

	assert_true(asprintf(&text, "[%s]", disks) > 0);
	json_object_set_new(volume, "Disks", parse(text));
	return volume;
}

static json_t *thin(const char *name, const char *disks)
{
	json_t *volume = lv(name, disks, 10 * GIB);

	json_object_update_new(volume, json_pack("{ss ss}", "Kind", "thin", "PoolUuid", "P"));
	return volume;
}

static json_t *btrfs(const char *name, const char *uuid, const char *disks)
{
	json_t *volume = lv(name, disks, 0);

	json_object_update_new(volume, json_pack("{so ss ss}", "Id", json_sprintf("btrfs:%s:5", uuid), "FsUuid", uuid,
						 "Provider", "btrfs"));
	json_object_del(volume, "Kind");
	json_object_del(volume, "VgUuid");
	return volume;
}

static json_t *facts(void)
{
	return parse(
	    "{\"Groups\": [{\"Uuid\": \"G\", \"Name\": \"group\", \"Size\": 107374182400, \"Free\": 32212254720,"
	    "   \"ExtentSize\": 4194304, \"Pvs\": ["
	    "   {\"Uuid\": \"A\", \"Device\": \"/dev/sda\", \"Size\": 1, \"Free\": 21474836480, \"Disks\": [" REAL("sda") "]},"
	    "   {\"Uuid\": \"L\", \"Device\": \"/dev/loop0\", \"Size\": 1, \"Free\": 10737418240, \"Disks\": [" LOOP("loop0", "") "]}]},"
	    "  {\"Uuid\": \"H\", \"Name\": \"other\", \"Size\": 1, \"Free\": 1, \"ExtentSize\": 4194304, \"Pvs\": []}],"
	    " \"Pools\": [{\"Uuid\": \"P\", \"Group\": \"G\", \"Name\": \"group/pool\", \"Size\": 1, \"Free\": 1, \"Disks\": [" REAL("sda") "]}],"
	    " \"Filesystems\": [{\"Uuid\": \"F\", \"Path\": \"/data\", \"Size\": 1, \"Free\": 1}],"
	    " \"Associations\": []}");
}

static bool own(json_t *volume, json_t *all, const char *id)
{
	autojson json_t *owned = volume, *store = storage_candidate(all, id);

	return storage_is_own(owned, store);
}

static void copies_stay_with_their_volume_or_do_not(void **state)
{
	autojson json_t *all = facts();

	assert_true(own(btrfs("b", "F", REAL("sdb")), all, "fs:F"));
	assert_true(own(thin("t", REAL("sda")), all, "pool:P"));
	assert_true(own(lv("a", REAL("sda"), GIB), all, "vg:G"));
	assert_true(own(lv("a", REAL("sda"), GIB), all, "pv:A"));
	assert_true(own(lv("a", REAL("sda") "," REAL("sdb"), GIB), all, "pv:A"));
	assert_false(own(lv("a", REAL("sdb"), GIB), all, "pv:A"));
	assert_false(own(lv("a", "", GIB), all, "pv:A"));
	assert_false(own(lv("a", REAL("sda"), GIB), all, "pv:gone"));
}

static void associate(json_t *all, const char *json)
{
	json_array_append_new(json_object_get(all, "Associations"), parse(json));
}

static void expect(const struct err *err, enum vss_error code, const char *first, const char *second)
{
	if (err->code != code)
		fail_msg("%s instead of %s: %s", error_name(err->code), error_name(code), err->text);
	if (!strstr(err->text, first) || !strstr(err->text, second))
		fail_msg("names neither '%s' nor '%s': %s", first, second, err->text);
}

/* ---- sets ---- */

static enum vss_error check_set(struct err *err, json_t *a, json_t *b)
{
	const struct storage_limits limits = storage_default_limits();
	autojson json_t *members = json_pack("[oo*]", a, b);

	*err = (struct err){ 0 };
	int r = storage_check_set(&limits, members, err);
	assert_int_equal(r < 0, err->code != VSS_OK);
	return err->code;
}

static void sets_of_real_disks_are_free(void **state)
{
	struct err err;

	assert_int_equal(check_set(&err, lv("a", REAL("sda") "," REAL("sdb"), GIB), lv("b", REAL("sda"), GIB)), VSS_OK);
	assert_int_equal(check_set(&err, lv("a", LOOP("loop0", ""), GIB), lv("b", REAL("sda"), GIB)), VSS_OK);
}

static void too_many_volumes(void **state)
{
	const struct storage_limits limits = storage_default_limits();
	autojson json_t *members = json_array();
	struct err err = { 0 };
	char name[8];

	for (int i = 0; i < 65; i++) {
		snprintf(name, sizeof name, "v%d", i);
		json_array_append_new(members, lv(name, REAL("sda"), GIB));
		assert_int_equal(storage_check_set(&limits, members, &err), i < 64 ? 0 : -1);
	}
	expect(&err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "65", "64");
}

static void disk_in_a_disk(void **state)
{
	autojson json_t *nested = lv("inner", LOOP("loop1", ""), GIB);
	struct err err;

	json_object_set_new(json_array_get(json_object_get(nested, "Disks"), 0), "Nested", json_true());
	check_set(&err, json_incref(nested), NULL);
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/inner", "disk in a disk");
}

static void with_what_holds_the_image(void **state)
{
	struct err err;

	check_set(&err, lv("inner", LOOP("loop0", IMAGE("/outer/d.img", "lvm:G:outer", "U")), GIB),
		  lv("outer", REAL("sda"), GIB));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/inner", "/outer");
	check_set(&err, lv("outer", REAL("sda"), GIB),
		  lv("inner", LOOP("loop0", IMAGE("/outer/d.img", "lvm:G:outer", "U")), GIB));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/inner", "/outer");
	/* Another subvolume of the filesystem that holds it. */
	check_set(&err, lv("inner", LOOP("loop0", IMAGE("/data/x/d.img", "btrfs:F:300", "F")), GIB),
		  btrfs("data", "F", REAL("sda")));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/inner", "/data");
}

static void unknown_server(void **state)
{
	struct err err;

	check_set(&err, lv("n", NBD("nbd0"), GIB), lv("b", REAL("sda"), GIB));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/n", "/b");
	check_set(&err, lv("n", NBD("nbd0"), GIB), lv("m", NBD("nbd1"), GIB));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "nbd0", "/m");
	assert_int_equal(check_set(&err, lv("n", NBD("nbd0"), GIB), lv("m", NBD("nbd0"), GIB)), VSS_OK);
	assert_int_equal(check_set(&err, lv("n", NBD("nbd0"), GIB), NULL), VSS_OK);
}

/* A btrfs of several disks, one of them the very nbd: the image may lie on the others. */
static void unknown_server_of_a_part(void **state)
{
	struct err err;

	check_set(&err, lv("n", NBD("nbd0"), GIB), btrfs("b", "F", NBD("nbd0") "," REAL("sda")));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/n", "/b");
}

static enum vss_error check_held(struct err *err, json_t *a, json_t *b)
{
	autojson json_t *members = json_pack("[oo]", a, b);

	*err = (struct err){ 0 };
	storage_check_held(members, err);
	return err->code;
}

/* Who holds without copying may have both: what lies further up is held first, if it is known. */
static void held_together(void **state)
{
	struct err err;

	assert_int_equal(check_held(&err, lv("inner", LOOP("loop0", IMAGE("/outer/d.img", "lvm:G:outer", "U")), GIB),
				    lv("outer", REAL("sda"), GIB)),
			 VSS_OK);
	check_held(&err, lv("n", NBD("nbd0"), GIB), lv("b", REAL("sda"), GIB));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/n", "/b");
}

static void spread_over_virtual_and_real(void **state)
{
	struct err err;

	check_set(&err, lv("half", LOOP("loop0", "") "," REAL("sda"), GIB), NULL);
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/half", "pvmove");
	check_set(&err, lv("half", LOOP("loop0", "") "," LOOP("loop1", ""), GIB), NULL);
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "loop0", "loop1");
	assert_int_equal(check_set(&err, btrfs("b", "F", LOOP("loop0", "") "," LOOP("loop1", "")), NULL), VSS_OK);
}

/* ---- candidates ---- */

static enum vss_error candidate(struct err *err, json_t *volume, const char *store_id)
{
	autojson json_t *all = facts(), *store = storage_candidate(all, store_id), *owned = volume;

	assert_non_null(store);
	*err = (struct err){ 0 };
	storage_check_candidate(owned, store, err);
	return err->code;
}

static void candidates_of_a_logical_volume(void **state)
{
	struct err err;

	assert_int_equal(candidate(&err, lv("a", REAL("sda"), GIB), "vg:G"), VSS_OK);
	assert_int_equal(candidate(&err, lv("a", REAL("sda"), GIB), "pv:A"), VSS_OK);
	candidate(&err, lv("a", REAL("sda"), GIB), "vg:H");
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/a", "own volume group");
	candidate(&err, lv("a", REAL("sda"), GIB), "pool:P");
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/a", "group/pool");
	candidate(&err, lv("a", REAL("sda"), GIB), "fs:F");
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/a", "/data");
}

static void virtual_keeps_its_own_and_no_others(void **state)
{
	struct err err;

	candidate(&err, lv("real", REAL("sda"), GIB), "pv:L");
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/real", "/dev/loop0");
	candidate(&err, lv("virtual", LOOP("loop0", ""), GIB), "pv:A");
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/virtual", "/dev/sda");
	assert_int_equal(candidate(&err, lv("virtual", LOOP("loop0", ""), GIB), "pv:L"), VSS_OK);
	assert_int_equal(candidate(&err, lv("virtual", LOOP("loop0", ""), GIB), "vg:G"), VSS_OK);
	candidate(&err, lv("virtual", LOOP("loop7", ""), GIB), "vg:G");
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/virtual", "group");
}

/* Facts of which the virtual disk in the group is another one. */
static enum vss_error candidate_beside(struct err *err, json_t *volume, const char *store_id, const char *disk)
{
	autojson json_t *all = facts(), *owned = volume, *store = NULL;
	json_t *pvs = json_object_get(json_array_get(json_object_get(all, "Groups"), 0), "Pvs");
	autofree char *disks = NULL;

	assert_true(asprintf(&disks, "[%s]", disk) > 0);
	json_object_set_new(json_array_get(pvs, 1), "Disks", parse(disks));
	store = storage_candidate(all, store_id);
	*err = (struct err){ 0 };
	storage_check_candidate(owned, store, err);
	return err->code;
}

/* LVM writes to all of a group while it suspends one of its volumes. */
static void image_in_the_own_group(void **state)
{
	const char *disk = LOOP("loop0", IMAGE("/a/d.img", "lvm:G:a", "U"));
	static const char *const stores[] = { "vg:G", "pv:A" };
	struct err err;

	for (size_t i = 0; i < 2; i++) {
		candidate_beside(&err, lv("a", REAL("sda"), GIB), stores[i], disk);
		expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/a holds the image", "vgsplit");
	}
	candidate_beside(&err, thin("a", REAL("sda")), "pool:P", disk);
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/a holds the image", "/dev/loop0");
	assert_int_equal(candidate_beside(&err, lv("b", REAL("sda"), GIB), "vg:G", disk), VSS_OK);
	assert_int_equal(candidate_beside(&err, lv("v", disk, GIB), "vg:G", disk), VSS_OK);
	candidate_beside(&err, lv("b", REAL("sda"), GIB), "vg:G", NBD("nbd0"));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/b", "nbd0");
	assert_int_equal(candidate_beside(&err, lv("n", NBD("nbd0"), GIB), "vg:G", NBD("nbd0")), VSS_OK);
}

static void candidates_of_the_others(void **state)
{
	struct err err;

	assert_int_equal(candidate(&err, thin("t", REAL("sda")), "pool:P"), VSS_OK);
	candidate(&err, thin("t", REAL("sda")), "vg:G");
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/t", "own pool");
	assert_int_equal(candidate(&err, btrfs("b", "F", REAL("sda")), "fs:F"), VSS_OK);
	candidate(&err, btrfs("b", "X", REAL("sda")), "fs:F");
	expect(&err, VSS_E_VOLUME_NOT_SUPPORTED, "/b", "own filesystem");
}

/* ---- associations ---- */

static enum vss_error association(struct err *err, json_t *all, json_t *volume, const char *on, int64_t max, bool is_new)
{
	const struct storage_limits limits = storage_default_limits();
	autojson json_t *store = storage_candidate(all, on), *owned = volume;

	*err = (struct err){ 0 };
	storage_check_association(&limits, owned, store, max, is_new, all, err);
	return err->code;
}

static void sizes(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	assert_int_equal(association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", 320 * MIB, true), VSS_OK);
	association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", 320 * MIB - 1, true);
	expect(&err, VSS_E_INVALID_ARGUMENT, "/a", "320 MiB");
	assert_int_equal(association(&err, all, lv("a", REAL("sda"), 499 * MIB), "vg:G", 32 * MIB, true), VSS_OK);
	association(&err, all, lv("a", REAL("sda"), 499 * MIB), "vg:G", 32 * MIB - 1, true);
	expect(&err, VSS_E_INVALID_ARGUMENT, "/a", "32 MiB");
	association(&err, all, lv("a", REAL("sda"), 500 * MIB), "vg:G", 32 * MIB, true);
	expect(&err, VSS_E_INVALID_ARGUMENT, "/a", "320 MiB");
	assert_int_equal(association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", STORAGE_UNBOUNDED, true), VSS_OK);
}

static void one_a_volume(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", STORAGE_UNBOUNDED, false);
	expect(&err, VSS_E_OBJECT_NOT_FOUND, "/a", "no shadow storage");
	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"vg:G\", \"OnName\": \"group\", \"Max\": -1, "
		       "\"Explicit\": true, \"Copies\": 0}");
	association(&err, all, lv("a", REAL("sda"), GIB), "pv:A", STORAGE_UNBOUNDED, true);
	expect(&err, VSS_E_OBJECT_ALREADY_EXISTS, "/a", "group");
	association(&err, all, lv("a", REAL("sda"), GIB), "pv:A", STORAGE_UNBOUNDED, false);
	expect(&err, VSS_E_OBJECT_NOT_FOUND, "/a", "/dev/sda");
	assert_int_equal(association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", GIB, false), VSS_OK);
}

static void not_moved_or_deleted_in_use(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"vg:G\", \"OnName\": \"group\", \"Max\": -1, "
		       "\"Explicit\": false, \"Copies\": 3}");
	association(&err, all, lv("a", REAL("sda"), GIB), "vg:G", STORAGE_UNBOUNDED, true);
	expect(&err, VSS_E_OBJECT_ALREADY_EXISTS, "/a", "group");
	association(&err, all, lv("a", REAL("sda"), GIB), "pv:A", STORAGE_UNBOUNDED, false);
	expect(&err, VSS_E_VOLUME_IN_USE, "/a", "cannot be moved");
	err = (struct err){ 0 };
	assert_int_equal(storage_check_deletion(storage_association(all, "lvm:G:a"), &err), -1);
	expect(&err, VSS_E_VOLUME_IN_USE, "/a", "3 copies");
}

/* ---- placing ---- */

static json_t *place(struct err *err, json_t *all, json_t *a, json_t *b)
{
	const struct storage_limits limits = storage_default_limits();
	autojson json_t *members = json_pack("[oo*]", a, b);
	json_t *places = NULL;

	*err = (struct err){ 0 };
	int r = storage_place(&limits, members, all, &places, err);
	assert_int_equal(r < 0, places == NULL);
	return places;
}

static json_int_t placed_size(json_t *places, size_t i)
{
	return json_integer_value(json_object_get(json_array_get(places, i), "StoreSize"));
}

static const char *placed_pv(json_t *places, size_t i)
{
	return json_string_value(json_array_get(json_object_get(json_array_get(places, i), "Pvs"), 0));
}

static void implicit_size(void **state)
{
	autojson json_t *all = facts();
	struct err err;
	autojson json_t *large = place(&err, all, lv("a", REAL("sda"), 20 * GIB), NULL);
	autojson json_t *medium = place(&err, all, lv("a", REAL("sda"), 5 * GIB), NULL);
	autojson json_t *small = place(&err, all, lv("a", REAL("sda"), 100 * MIB), NULL);
	autojson json_t *none = place(&err, all, thin("t", REAL("sda")), btrfs("b", "F", REAL("sda")));

	assert_in_range(placed_size(large, 0), 20 * GIB / 100 * 15, 20 * GIB / 100 * 15 + 4 * MIB);
	assert_int_equal(placed_size(medium, 0), GIB);
	assert_in_range(placed_size(small, 0), 100 * MIB, 116 * MIB);
	assert_int_equal(json_array_size(none), 1);
	assert_null(json_object_get(json_array_get(none, 0), "StoreSize"));
}

/* A pool of 10 GiB, its metadata of 100 MiB; what is free of them, and in the group. */
static enum vss_error place_in_pool(struct err *err, json_int_t data, json_int_t metadata, json_int_t group)
{
	autojson json_t *all = facts(), *places = NULL;

	json_object_update_new(json_array_get(json_object_get(all, "Pools"), 0),
			       json_pack("{sI sI sI sI}", "Size", 10 * GIB, "Free", data, "MetadataSize", 100 * MIB,
					 "MetadataFree", metadata));
	json_t *pvs = json_object_get(json_array_get(json_object_get(all, "Groups"), 0), "Pvs"); /* the virtual one has room */
	json_object_set_new(json_array_get(pvs, 0), "Free", json_integer(group));
	places = place(err, all, thin("t", REAL("sda")), NULL);
	return err->code;
}

static void pool_keeps_its_floor(void **state)
{
	struct err err;

	assert_int_equal(place_in_pool(&err, GIB, 25 * MIB, 0), VSS_OK);
	place_in_pool(&err, GIB - MIB, 25 * MIB, 0);
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/t", "9 % of the data of its thin pool group/pool");
	place_in_pool(&err, GIB, 24 * MIB, 0);
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/t", "24 % of the metadata of its thin pool group/pool");
	assert_int_equal(place_in_pool(&err, 0, 25 * MIB, 2 * GIB), VSS_OK); /* it is extended */
	assert_int_equal(place_in_pool(&err, GIB, 0, 2 * GIB), VSS_OK);
	place_in_pool(&err, 0, 25 * MIB, GIB);
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/t", "0 % of the data");
}

static void placed_where_it_may_lie(void **state)
{
	autojson json_t *all = facts();
	struct err err;
	autojson json_t *both = place(&err, all, lv("real", REAL("sda"), 5 * GIB), lv("virtual", LOOP("loop0", ""), 5 * GIB));

	assert_string_equal(placed_pv(both, 0), "/dev/sda");
	assert_string_equal(placed_pv(both, 1), "/dev/loop0");
	assert_int_equal(json_array_size(json_object_get(json_array_get(both, 0), "Pvs")), 1);
	assert_int_equal(json_array_size(json_object_get(json_array_get(both, 1), "Pvs")), 1);
	assert_null(place(&err, all, lv("virtual", LOOP("loop7", ""), GIB), NULL));
	expect(&err, VSS_E_NESTED_VOLUME_LIMIT, "/virtual", "group");
}

static void room_is_given_once(void **state)
{
	autojson json_t *all = facts();
	struct err err;
	/* 15 % of 120 GiB is 18 of the 20 that are free. */
	autojson json_t *places = place(&err, all, lv("a", REAL("sda"), 120 * GIB), lv("b", REAL("sda"), 120 * GIB));

	assert_in_range(placed_size(places, 0), 18 * GIB - 8 * MIB, 18 * GIB + 4 * MIB);
	assert_in_range(placed_size(places, 1), 2 * GIB - 8 * MIB, 2 * GIB + 8 * MIB);
	assert_null(place(&err, all, lv("a", REAL("sda"), 140 * GIB), lv("b", REAL("sda"), GIB)));
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/b", "group");
}

static json_t *evicted(json_t *places, size_t i)
{
	return json_object_get(json_array_get(places, i), "Evict");
}

static void max_size(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"pv:A\", \"OnName\": \"/dev/sda\", \"Max\": 1610612736, "
		       "\"Explicit\": true, \"Allocated\": 1073741824, \"Copies\": 1}");
	autojson json_t *less = place(&err, all, lv("a", REAL("sda"), 5 * GIB), NULL);
	assert_int_equal(placed_size(less, 0), 512 * MIB); /* what MaxSize leaves */
	assert_int_equal(json_array_size(evicted(less, 0)), 0);
}

static void oldest_go_first_and_none_in_use(void **state)
{
	autojson json_t *all = facts(), *used = parse("{\"c1\": 1}"), *all_used = parse("{\"c1\": 1, \"c2\": 1, \"c3\": 1}");
	struct err err;

	associate(all, "{\"For\": \"lvm:G:b\", \"Volume\": \"/b\", \"On\": \"pv:A\", \"OnName\": \"/dev/sda\", \"Max\": 3221225472, "
		       "\"Explicit\": true, \"Allocated\": 3221225472, \"Copies\": 3, \"Stores\": ["
		       "{\"Copy\": \"c1\", \"Allocated\": 1073741824}, {\"Copy\": \"c2\", \"Allocated\": 1073741824}, "
		       "{\"Copy\": \"c3\", \"Allocated\": 1073741824}]}");
	autojson json_t *one = place(&err, all, lv("b", REAL("sda"), 5 * GIB), NULL);
	assert_int_equal(json_array_size(evicted(one, 0)), 1);
	assert_string_equal(json_string_value(json_array_get(evicted(one, 0), 0)), "c1");
	json_object_set(all, "InUse", used);
	autojson json_t *other = place(&err, all, lv("b", REAL("sda"), 5 * GIB), NULL);
	assert_int_equal(json_array_size(evicted(other, 0)), 1);
	assert_string_equal(json_string_value(json_array_get(evicted(other, 0), 0)), "c2");
	json_object_set(all, "InUse", all_used);
	assert_null(place(&err, all, lv("b", REAL("sda"), 5 * GIB), NULL));
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/b", "in use");
}

static void what_shares_blocks_has_no_size(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	association(&err, all, thin("t", REAL("sda")), "pool:P", 10 * GIB, true);
	expect(&err, VSS_E_NOT_SUPPORTED, "/t", "UNBOUNDED");
	association(&err, all, btrfs("b", "F", REAL("sda")), "fs:F", 10 * GIB, true);
	expect(&err, VSS_E_NOT_SUPPORTED, "/b", "UNBOUNDED");
	assert_int_equal(association(&err, all, thin("t", REAL("sda")), "pool:P", STORAGE_UNBOUNDED, true), VSS_OK);
}

static void guaranteed(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"vg:G\", \"OnName\": \"group\", \"Max\": -1, "
		       "\"Explicit\": true, \"Guaranteed\": true, \"Copies\": 0}");
	autojson json_t *full = place(&err, all, lv("a", REAL("sda"), 10 * GIB), NULL);
	assert_true(placed_size(full, 0) >= 10 * GIB);
	assert_null(place(&err, all, lv("a", REAL("sda"), 30 * GIB), NULL));
	expect(&err, VSS_E_INSUFFICIENT_STORAGE, "/a", "group");
}

static void too_many_copies(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"vg:G\", \"OnName\": \"group\", \"Max\": -1, "
		       "\"Copies\": 8}");
	assert_null(place(&err, all, lv("a", REAL("sda"), GIB), NULL));
	expect(&err, VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED, "/a", "8");
}

static void store_that_is_gone(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"pv:Z\", \"OnName\": \"/dev/sdz\", \"Max\": -1, "
		       "\"Copies\": 0}");
	assert_null(place(&err, all, lv("a", REAL("sda"), GIB), NULL));
	expect(&err, VSS_E_OBJECT_NOT_FOUND, "/a", "pv:Z");
}

/* What is wrong with the whole group is said before what it would lack. */
static void group_that_may_not_be_touched(void **state)
{
	autojson json_t *all = facts();
	struct err err;

	json_object_set_new(json_array_get(json_object_get(all, "Groups"), 0), "Why", json_string("is exported: import it"));
	associate(all, "{\"For\": \"lvm:G:a\", \"Volume\": \"/a\", \"On\": \"pv:Z\", \"OnName\": \"/dev/sdz\", \"Max\": -1, "
		       "\"Copies\": 0}");
	assert_null(place(&err, all, lv("a", REAL("sda"), GIB), NULL));
	expect(&err, VSS_E_PROVIDER_VETO, "/a", "group is exported: import it");
	json_array_remove(json_object_get(all, "Groups"), 0);
	assert_null(place(&err, all, lv("a", REAL("sda"), GIB), NULL));
	expect(&err, VSS_E_PROVIDER_VETO, "/a", "LVM does not show its volume group group");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_stay_with_their_volume_or_do_not),
		cmocka_unit_test(group_that_may_not_be_touched),
		cmocka_unit_test(sets_of_real_disks_are_free),	   cmocka_unit_test(too_many_volumes),
		cmocka_unit_test(disk_in_a_disk),		   cmocka_unit_test(with_what_holds_the_image),
		cmocka_unit_test(unknown_server),		   cmocka_unit_test(unknown_server_of_a_part),
		cmocka_unit_test(held_together),		   cmocka_unit_test(image_in_the_own_group),
		cmocka_unit_test(spread_over_virtual_and_real),
		cmocka_unit_test(candidates_of_a_logical_volume),  cmocka_unit_test(virtual_keeps_its_own_and_no_others),
		cmocka_unit_test(candidates_of_the_others),	   cmocka_unit_test(sizes),
		cmocka_unit_test(one_a_volume),			   cmocka_unit_test(not_moved_or_deleted_in_use),
		cmocka_unit_test(implicit_size),		   cmocka_unit_test(placed_where_it_may_lie),
		cmocka_unit_test(room_is_given_once),		   cmocka_unit_test(max_size),
		cmocka_unit_test(guaranteed),			   cmocka_unit_test(too_many_copies),
		cmocka_unit_test(pool_keeps_its_floor),
		cmocka_unit_test(store_that_is_gone),		   cmocka_unit_test(oldest_go_first_and_none_in_use),
		cmocka_unit_test(what_shares_blocks_has_no_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
