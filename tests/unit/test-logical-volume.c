/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stacks are made up: a tree as sysfs shows it, and tables as device-mapper would tell them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/providers/logical-volume.h"

#define VG "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define OTHER_VG "OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO"
#define LV "abcdefBBBBCCCCDDDDEEEEFFFFuvwxyz"
#define POOL "poolppBBBBCCCCDDDDEEEEFFFFpppppp"
#define DM 253

struct device {
	const char *kernel_name;
	unsigned major, minor;
	const char *dm_name, *dm_uuid;
	const char *types[3], *params;
	const char *slaves[4];
};

static const struct device *machine; /* ends with a NULL name */
static char root[] = "/tmp/vssd-test-lv.XXXXXX";

static bool read_table(dev_t number, struct dm_table *ret)
{
	*ret = (struct dm_table){ .open_count = 1 };
	for (const struct device *d = machine; d->kernel_name; d++) {
		if (makedev(d->major, d->minor) != number || !d->types[0])
			continue;
		for (; ret->n_types < 3 && d->types[ret->n_types]; ret->n_types++)
			snprintf(ret->types[ret->n_types], DM_TYPE_SIZE, "%s", d->types[ret->n_types]);
		snprintf(ret->params, sizeof ret->params, "%s", d->params ? d->params : "");
		return true;
	}
	return false;
}

__attribute__((format(printf, 2, 3))) static void put(const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof path, format, args);
	va_end(args);
	for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(path, 0755);
		*at = '/';
	}
	if (!text) {
		mkdir(path, 0755);
		return;
	}
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "%s\n", text);
	fclose(file);
}

static void put_link(const char *kind, const char *where, const char *name, const char *target)
{
	char path[PATH_MAX], relative[PATH_MAX];

	put(NULL, "%s/%s/%s", root, where, kind);
	text_format(path, sizeof path, "%s/%s/%s/%s", root, where, kind, name);
	text_format(relative, sizeof relative, "%s%s", strncmp(where, "block/", 6) == 0 ? "../../../" : "../../", target);
	assert_int_equal(symlink(relative, path), 0);
}

static void build(const struct device *devices)
{
	char where[PATH_MAX], target[PATH_MAX], number[32];

	machine = devices;
	for (const struct device *d = devices; d->kernel_name; d++) {
		snprintf(number, sizeof number, "%u:%u", d->major, d->minor);
		snprintf(target, sizeof target, "block/%s", d->kernel_name);
		put(number, "%s/block/%s/dev", root, d->kernel_name);
		if (d->dm_name)
			put(d->dm_name, "%s/block/%s/dm/name", root, d->kernel_name);
		if (d->dm_uuid)
			put(d->dm_uuid, "%s/block/%s/dm/uuid", root, d->kernel_name);
		put_link("block", "dev", number, target);
		snprintf(where, sizeof where, "block/%s", d->kernel_name);
		for (size_t i = 0; i < ARRAY_SIZE(d->slaves) && d->slaves[i]; i++) {
			snprintf(target, sizeof target, "block/%s", d->slaves[i]);
			put_link("slaves", where, d->slaves[i], target);
		}
	}
}

static int setup(void **state)
{
	memcpy(root + strlen(root) - 6, "XXXXXX", 6);
	block_view = (struct block_view){ root, read_table };
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[PATH_MAX];

	snprintf(command, sizeof command, "rm -r -- %s", root);
	return system(command);
}

static struct logical_volume read_minor(unsigned minor)
{
	struct logical_volume lv;

	assert_true(logical_volume_read(makedev(DM, minor), &lv));
	return lv;
}

#define PLAIN(minor, name, uuid, type, ...) \
	{ "dm-" #minor, DM, minor, name, "LVM-" uuid, { type }, NULL, { __VA_ARGS__ } }
#define DISK(name, minor) { name, 8, minor }

static void test_names(void **state)
{
	char vg[LVM_NAME_SIZE], lv[LVM_NAME_SIZE];

	assert_true(logical_volume_split_name("vg-lv", vg, lv));
	assert_string_equal(vg, "vg");
	assert_string_equal(lv, "lv");
	assert_true(logical_volume_split_name("my--vg-a--b--", vg, lv));
	assert_string_equal(vg, "my-vg");
	assert_string_equal(lv, "a-b-");
	assert_true(logical_volume_split_name("vg-lv-real", vg, lv));
	assert_string_equal(lv, "lv");
	assert_false(logical_volume_split_name("luks--disk", vg, lv));
	assert_false(logical_volume_split_name("", vg, lv));
}

static void test_linear_on_two_physical_volumes(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "my--vg-data", VG LV, "linear", "sda", "sdb"), DISK("sda", 0), DISK("sdb", 16), { NULL }
	};
	build(devices);
	struct logical_volume lv = read_minor(0);

	assert_string_equal(lv.why, "");
	assert_string_equal(lv.vg, "my-vg");
	assert_string_equal(lv.vg_uuid, "AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA");
	assert_string_equal(lv.lv_uuid, "abcdef-BBBB-CCCC-DDDD-EEEE-FFFF-uvwxyz");
	assert_int_equal(lv.n_pvs, 2);
	assert_string_equal(lv.pool_uuid, "");
	assert_false(lv.is_part || lv.is_snapshot);
}

static void test_origin_is_judged_by_what_lies_beneath(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-data", VG LV, "snapshot-origin", "dm-1"),
		{ "dm-1", DM, 1, "vg-data-real", "LVM-" VG LV "-real", { "raid" }, "raid1 3 0 region_size 1024",
		  { "dm-2", "dm-3" } },
		PLAIN(2, "vg-data_rimage_0", VG POOL, "linear", "sda"),
		PLAIN(3, "vg-data_rimage_1", VG POOL, "linear", "sdb"),
		DISK("sda", 0), DISK("sdb", 16), { NULL }
	};
	build(devices);

	assert_string_equal(read_minor(0).why, "");
	assert_int_equal(read_minor(0).n_pvs, 2);
	assert_true(read_minor(1).is_part);
	assert_non_null(strstr(read_minor(2).why, "part of another one"));
}

static void test_thin_knows_its_pool(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-thin", VG LV, "thin", "dm-1"),
		PLAIN(1, "vg-pool-tpool", VG POOL "-tpool", "thin-pool", "dm-2", "dm-3"),
		PLAIN(2, "vg-pool_tmeta", VG LV "-tmeta", "linear", "sda"),
		PLAIN(3, "vg-pool_tdata", VG LV "-tdata", "linear", "sda"),
		DISK("sda", 0), { NULL }
	};
	build(devices);
	struct logical_volume lv = read_minor(0);

	assert_string_equal(lv.why, "");
	assert_string_equal(lv.pool_uuid, "poolpp-BBBB-CCCC-DDDD-EEEE-FFFF-pppppp");
	assert_int_equal(lv.n_pvs, 1);
	assert_true(read_minor(1).is_part);
}

static void test_refusals_say_the_rule(void **state)
{
	static const struct {
		const char *type, *params, *says;
	} cases[] = {
		{ "cache", "", "dm-cache" },
		{ "vdo", "", "VDO" },
		{ "snapshot", "", "is itself a snapshot" },
		{ "snapshot-merge", "", "being reverted" },
		{ "integrity", "", "dm-integrity" },
		{ "error", "", "missing" },
		{ "raid", "raid5_ls 3 128", "raid5_ls" },
		{ "flakey", "", "dm-flakey" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct device devices[] = {
			{ "dm-0", DM, 0, "vg-data", "LVM-" VG LV, { cases[i].type }, cases[i].params, { "sda" } },
			DISK("sda", 0), { NULL }
		};
		build(devices);
		struct logical_volume lv = read_minor(0);
		assert_non_null(strstr(lv.why, "vg/data"));
		assert_non_null(strstr(lv.why, cases[i].says));
		teardown(state);
		setup(state);
	}
}

static void test_unreadable_table_is_refused(void **state)
{
	static const struct device devices[] = { PLAIN(0, "vg-data", VG LV, NULL, "sda"), DISK("sda", 0), { NULL } };

	build(devices);
	assert_non_null(strstr(read_minor(0).why, "cannot be looked into"));
}

static void test_half_moved_is_refused(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-data", VG LV, "linear", "dm-1"), PLAIN(1, "vg-pvmove0", VG POOL, "mirror", "sda", "sdb"),
		DISK("sda", 0), DISK("sdb", 16), { NULL }
	};
	build(devices);
	struct logical_volume lv = read_minor(0);

	assert_non_null(strstr(lv.why, "pvmove"));
	assert_int_equal(lv.n_pvs, 2);
}

/* What another group, or dm-crypt, is made of is no concern of this one: to it that is a disk. */
static void test_walk_ends_at_the_group(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-data", VG LV, "linear", "dm-1", "dm-3"),
		{ "dm-1", DM, 1, "luks-x", "CRYPT-LUKS2-0123-luks-x", { "crypt" }, NULL, { "sda" } },
		PLAIN(3, "outer-lv", OTHER_VG LV, "cache", "sdb"), DISK("sda", 0), DISK("sdb", 16), { NULL }
	};
	build(devices);
	struct logical_volume lv = read_minor(0);

	assert_string_equal(lv.why, "");
	assert_int_equal(lv.n_pvs, 2);
	assert_true(lv.pvs[0] == makedev(DM, 1) || lv.pvs[1] == makedev(DM, 1));
}

static void test_beneath_goes_through_encryption_alone(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-data", VG LV, "linear", "sda"),
		{ "dm-1", DM, 1, "luks-x", "CRYPT-LUKS2-0123-luks-x", { "crypt" }, NULL, { "dm-0" } },
		{ "dm-2", DM, 2, "two", "CRYPT-PLAIN-two", { "linear" }, NULL, { "dm-0" } },
		{ "dm-3", DM, 3, "part", "part1-LVM-" VG LV, { "linear" }, NULL, { "dm-0" } },
		DISK("sda", 0), { NULL }
	};
	dev_t number;

	build(devices);
	assert_true(logical_volume_beneath(makedev(DM, 0), &number));
	assert_true(logical_volume_beneath(makedev(DM, 1), &number));
	assert_int_equal(number, makedev(DM, 0));
	assert_false(logical_volume_beneath(makedev(DM, 2), &number));
	assert_false(logical_volume_beneath(makedev(DM, 3), &number));
	assert_false(logical_volume_beneath(makedev(8, 0), &number));
	assert_false(logical_volume_beneath(makedev(0, 45), &number));
}

static void test_layers_end_at_disks(void **state)
{
	static const struct device devices[] = {
		PLAIN(0, "vg-data", VG LV, "linear", "loop0", "nbd3", "sda"),
		{ "loop0", 7, 0 }, { "nbd3", 43, 3 }, DISK("sda", 0), { NULL }
	};
	struct layers layers = { .n = 0 };
	size_t virtual = 0, leaves = 0;

	build(devices);
	put("/images/disk.img", "%s/block/loop0/loop/backing_file", root);
	layers_add(&layers, makedev(DM, 0));
	for (size_t i = 0; i < layers.n; i++) {
		leaves += layers.list[i].is_leaf;
		virtual += layers.list[i].is_leaf && layer_is_virtual(&layers.list[i]);
	}
	assert_int_equal(layers.n, 4);
	assert_int_equal(leaves, 3);
	assert_int_equal(virtual, 2);
	layers_done(&layers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test_setup_teardown(test_linear_on_two_physical_volumes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_origin_is_judged_by_what_lies_beneath, setup, teardown),
		cmocka_unit_test_setup_teardown(test_thin_knows_its_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals_say_the_rule, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreadable_table_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_moved_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk_ends_at_the_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beneath_goes_through_encryption_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_layers_end_at_disks, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
