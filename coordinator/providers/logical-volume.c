/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/logical-volume.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"

#define LVM_PREFIX "LVM-"
#define LVM_BARE_UUID 32u /* without dashes */
#define CRYPT_PREFIX "CRYPT-"
#define DEPTH_MAX 16

/* ---- names ---- */

/* 6-4-4-4-4-4-6, as LVM prints them. */
static void format_uuid(const char *bare, char uuid[LVM_UUID_SIZE])
{
	static const int groups[] = { 6, 4, 4, 4, 4, 4, 6 };
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(groups); bare += groups[i++])
		used += (size_t)snprintf(uuid + used, LVM_UUID_SIZE - used, "%s%.*s", i ? "-" : "", groups[i], bare);
}

static bool is_lvm_uuid(const char *dm_uuid)
{
	return strncmp(dm_uuid, LVM_PREFIX, strlen(LVM_PREFIX)) == 0 &&
	       strlen(dm_uuid) >= strlen(LVM_PREFIX) + 2 * (size_t)LVM_BARE_UUID;
}

/* One name, with doubled dashes made single, up to the next single one. */
static const char *take_name(const char *text, char name[LVM_NAME_SIZE])
{
	size_t n = 0;

	for (; *text && n < LVM_NAME_SIZE - 1; text++) {
		if (*text == '-' && *++text != '-')
			break;
		name[n++] = *text;
	}
	name[n] = '\0';
	return text;
}

bool logical_volume_split_name(const char *dm_name, char vg[LVM_NAME_SIZE], char lv[LVM_NAME_SIZE])
{
	take_name(take_name(dm_name, vg), lv);
	return *vg && *lv;
}

/* Names that LVM gives to what it makes itself, and to nothing else. */
static bool is_reserved(const char *lv)
{
	static const char *const marks[] = { "_rimage_", "_rmeta_", "_mimage_", "_mlog", "_tdata", "_tmeta", "_cdata",
					     "_cmeta",	 "_corig",  "_cvol",	"_wcorig", "_vdata", "_pmspare", "_imeta",
					     "_iorig",	 "_vorigin" };

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (strstr(lv, marks[i]))
			return true;
	return strncmp(lv, "pvmove", 6) == 0 || strncmp(lv, "snapshot", 8) == 0;
}

/* ---- the stack ---- */

static const struct {
	const char *type;
	const char *rule; /* NULL: copies of it were made and found right */
} target_rules[] = {
	{ "linear", NULL },
	{ "striped", NULL },
	{ "mirror", NULL },
	{ "raid", NULL },
	{ "writecache", NULL },
	{ "snapshot-origin", NULL },
	{ "thin", NULL },
	{ "thin-pool", NULL },
	{ "snapshot", "is itself a snapshot, and no snapshot of a snapshot can be made: copy its origin" },
	{ "snapshot-merge", "is being reverted to an earlier copy: wait until that has ended (lvs shows it)" },
	{ "cache", "is cached by dm-cache, with which copies of one instant were never proven: take the cache off "
		   "(lvconvert --splitcache), or use writecache" },
	{ "vdo", "is deduplicated by VDO, with which copies of one instant were never proven: keep the data on a plain "
		 "logical volume, or VDO beneath the physical volume" },
	{ "integrity", "has checksums of dm-integrity inside, with which copies of one instant were never proven: use "
		       "integrity beneath the physical volume (integritysetup), or take it off (lvconvert "
		       "--raidintegrity n)" },
	{ "error", "has parts that are missing (a physical volume is absent): bring it back before copying" },
	{ "zero", "has parts that hold nothing (a physical volume is absent): bring it back before copying" },
};

struct walk {
	struct logical_volume *lv;
	int depth;
	bool is_moved;
};

static void refuse(struct logical_volume *lv, const char *rule)
{
	if (!*lv->why)
		snprintf(lv->why, sizeof lv->why, "The logical volume %.100s/%.100s %.280s", lv->vg, lv->lv, rule);
}

/* "raid1 3 0 region_size 1024 ...": the level leads. */
static void check_raid(struct logical_volume *lv, const struct dm_table *table)
{
	char rule[160];
	int length = (int)strcspn(table->params, " ");

	if (strncmp(table->params, "raid1 ", 6) == 0)
		return;
	snprintf(rule, sizeof rule,
		 "is of %.*s, with which copies of one instant were never proven: of RAID levels, raid1 is supported",
		 length > 16 ? 16 : length, table->params);
	refuse(lv, rule);
}

static void check_target(struct logical_volume *lv, const char *type)
{
	char rule[128];

	for (size_t i = 0; i < ARRAY_SIZE(target_rules); i++) {
		if (strcmp(type, target_rules[i].type) != 0)
			continue;
		if (target_rules[i].rule)
			refuse(lv, target_rules[i].rule);
		return;
	}
	snprintf(rule, sizeof rule, "is made of dm-%s, which vssd does not know: move its data to a plain logical volume",
		 type);
	refuse(lv, rule);
}

static void check_table(struct logical_volume *lv, dev_t number, const char *name, struct dm_table *table)
{
	if (!block_view.read_table(number, table)) {
		char rule[200];
		snprintf(rule, sizeof rule,
			 "cannot be looked into: device-mapper does not tell the table of %s (is vssd run in a container "
			 "without /dev/mapper/control?)",
			 name);
		refuse(lv, rule);
	}
	for (size_t i = 0; i < table->n_types; i++) {
		check_target(lv, table->types[i]);
		if (strcmp(table->types[i], "raid") == 0)
			check_raid(lv, table);
	}
}

static void add_pv(struct logical_volume *lv, dev_t number)
{
	for (size_t i = 0; i < lv->n_pvs; i++)
		if (lv->pvs[i] == number)
			return;
	if (lv->n_pvs < ARRAY_SIZE(lv->pvs))
		lv->pvs[lv->n_pvs++] = number;
	else
		refuse(lv, "lies on more physical volumes than vssd looks at");
}

static bool read_lvm_uuid(int device, char uuid[DM_UUID_SIZE])
{
	return device >= 0 && sysfs_read(device, "dm/uuid", uuid, DM_UUID_SIZE) && is_lvm_uuid(uuid);
}

static void walk_part(struct walk *walk, dev_t number, int device);

/* A device of another group, or of none, is what this group calls a physical volume. */
static void walk_slave(dev_t number, void *data)
{
	struct walk *walk = data;
	char uuid[DM_UUID_SIZE];
	autoclose int device = sysfs_open(number, NULL, 0);

	if (!read_lvm_uuid(device, uuid) ||
	    strncmp(uuid, walk->lv->dm_uuid, strlen(LVM_PREFIX) + LVM_BARE_UUID) != 0) {
		add_pv(walk->lv, number);
		return;
	}
	if (++walk->depth <= DEPTH_MAX)
		walk_part(walk, number, device);
	walk->depth--;
}

static void walk_part(struct walk *walk, dev_t number, int device)
{
	struct logical_volume *lv = walk->lv;
	char name[DM_NAME_SIZE] = "", vg[LVM_NAME_SIZE], part[LVM_NAME_SIZE], uuid[DM_UUID_SIZE] = "";
	struct dm_table table;

	sysfs_read(device, "dm/name", name, sizeof name);
	sysfs_read(device, "dm/uuid", uuid, sizeof uuid);
	check_table(lv, number, name, &table);
	if (logical_volume_split_name(name, vg, part) && strncmp(part, "pvmove", 6) == 0 &&
	    strspn(part + 6, "0123456789") == strlen(part + 6))
		refuse(lv, "is being moved by pvmove and lies on both physical volumes: wait until the move has ended, or "
			   "end it (pvmove --abort)");
	if (strcmp(table.types[0], "thin-pool") == 0 && is_lvm_uuid(uuid))
		format_uuid(uuid + strlen(LVM_PREFIX) + LVM_BARE_UUID, lv->pool_uuid);
	sysfs_for_each(device, "slaves", walk_slave, walk);
}

static void check_part(struct logical_volume *lv, const struct dm_table *table)
{
	const char *suffix = lv->dm_uuid + strlen(LVM_PREFIX) + 2 * (size_t)LVM_BARE_UUID;

	lv->is_snapshot = strcmp(table->types[0], "snapshot") == 0;
	lv->is_part = *suffix || is_reserved(lv->lv) || strcmp(table->types[0], "thin-pool") == 0;
	if (lv->is_part)
		refuse(lv, "is a part of another one, or a pool: name the logical volume that is mounted or used");
}

bool logical_volume_read(dev_t number, struct logical_volume *ret)
{
	struct walk walk = { .lv = ret };
	struct dm_table table;
	autoclose int device = sysfs_open(number, NULL, 0);

	*ret = (struct logical_volume){ .number = number };
	if (!read_lvm_uuid(device, ret->dm_uuid) || !sysfs_read(device, "dm/name", ret->dm_name, sizeof ret->dm_name) ||
	    !logical_volume_split_name(ret->dm_name, ret->vg, ret->lv))
		return false;
	format_uuid(ret->dm_uuid + strlen(LVM_PREFIX), ret->vg_uuid);
	format_uuid(ret->dm_uuid + strlen(LVM_PREFIX) + LVM_BARE_UUID, ret->lv_uuid);
	if (block_view.read_table(number, &table)) {
		ret->open_count = table.open_count;
		check_part(ret, &table);
	}
	walk_part(&walk, number, device);
	return true;
}

/* ---- what lies between a filesystem and its logical volume ---- */

struct only {
	dev_t number;
	size_t n;
};

static void count_slave(dev_t number, void *data)
{
	struct only *only = data;

	only->number = number;
	only->n++;
}

bool logical_volume_beneath(dev_t top, dev_t *ret)
{
	char uuid[DM_UUID_SIZE];
	struct dm_table table;

	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		struct only only = { .n = 0 };
		autoclose int device = sysfs_open(top, NULL, 0);
		if (read_lvm_uuid(device, uuid)) {
			*ret = top;
			return true;
		}
		if (device < 0 || !sysfs_read(device, "dm/uuid", uuid, sizeof uuid) ||
		    strncmp(uuid, CRYPT_PREFIX, strlen(CRYPT_PREFIX)) != 0 || !block_view.read_table(top, &table) ||
		    table.n_types != 1 || strcmp(table.types[0], "crypt") != 0)
			return false;
		sysfs_for_each(device, "slaves", count_slave, &only);
		if (only.n != 1)
			return false;
		top = only.number;
	}
	return false;
}
