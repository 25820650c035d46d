/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "coordinator/providers/mounts.h"

static const char table[] =
    "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    "22 21 0:20 / /proc rw - proc proc rw\n"
    "23 21 0:40 /@home /home rw,relatime shared:5 - btrfs /dev/vdb ro,subvolid=257,subvol=/@home\n"
    "24 21 0:41 / /srv/nfs rw - nfs4 server:/export rw\n"
    "25 24 254:1 / /srv/nfs/local rw - xfs /dev/vdc rw\n"
    "26 21 0:42 / /auto rw - autofs systemd-1 rw\n"
    "27 26 254:2 / /auto rw - ext4 /dev/vdd rw\n"
    "28 21 254:3 / /cover/inner rw - ext4 /dev/vde rw\n"
    "29 21 0:43 / /cover rw - tmpfs one rw\n"
    "30 21 254:0 /a\\040b /with\\040blank\\011tab rw - ext4 /dev/vda rw\n"
    "31 21 0:44 / /homework rw - fuse.sshfs user@host:/ rw\n";

static int setup(void **state)
{
	static struct mounts mounts;
	char path[] = "/tmp/vssd-test-mounts.XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, table, strlen(table)) != (ssize_t)strlen(table))
		return -1;
	close(fd);
	if (mounts_load_file(&mounts, path, NULL) < 0)
		return -1;
	unlink(path);
	*state = &mounts;
	return 0;
}

static int teardown(void **state)
{
	mounts_done(*state);
	return 0;
}

static int id_at(const struct mounts *mounts, const char *path)
{
	return mounts_find(mounts, path)->id;
}

static void test_finds_by_whole_components(void **state)
{
	assert_int_equal(id_at(*state, "/"), 21);
	assert_int_equal(id_at(*state, "/etc/passwd"), 21);
	assert_int_equal(id_at(*state, "/home"), 23);
	assert_int_equal(id_at(*state, "/home/me/x"), 23);
	assert_int_equal(id_at(*state, "/homer"), 21);
	assert_int_equal(id_at(*state, "/homework/x"), 31);
}

static void test_newest_mount_covers(void **state)
{
	assert_int_equal(id_at(*state, "/auto/x"), 27);
	assert_int_equal(id_at(*state, "/srv/nfs/x"), 24);
	assert_int_equal(id_at(*state, "/srv/nfs/local/x"), 25);
}

/* Mounted at /cover afterwards, on the same parent: what lies at /cover/inner cannot be reached any more. */
static void test_covered_mount_is_hidden(void **state)
{
	assert_int_equal(id_at(*state, "/cover/inner/x"), 29);
	assert_false(mounts_is_visible(*state, mounts_by_id(*state, 28)));
	assert_false(mounts_is_visible(*state, mounts_by_id(*state, 26)));
	assert_true(mounts_is_visible(*state, mounts_by_id(*state, 27)));
}

static void test_reads_fields(void **state)
{
	const struct mount *home = mounts_by_id(*state, 23), *blank = mounts_find(*state, "/with blank\ttab/x");

	assert_string_equal(home->root, "/@home");
	assert_string_equal(home->source, "/dev/vdb");
	assert_true(home->read_only);
	assert_int_equal(home->class, MOUNT_LOCAL);
	assert_int_equal(blank->id, 30);
	assert_string_equal(blank->root, "/a b");
	assert_false(blank->read_only);
	assert_true(blank->device == makedev(254, 0));
	assert_null(mounts_by_id(*state, 99));
}

static void test_classes(void **state)
{
	assert_int_equal(mount_class_of("nfs4"), MOUNT_FOREIGN);
	assert_int_equal(mount_class_of("fuse.sshfs"), MOUNT_FOREIGN);
	assert_int_equal(mount_class_of("fuseblk"), MOUNT_FOREIGN);
	assert_int_equal(mount_class_of("autofs"), MOUNT_FOREIGN);
	assert_int_equal(mount_class_of("tmpfs"), MOUNT_KERNEL);
	assert_int_equal(mount_class_of("overlay"), MOUNT_KERNEL);
	assert_int_equal(mount_class_of("btrfs"), MOUNT_LOCAL);
	assert_int_equal(mount_class_of("fusefs-like-name"), MOUNT_LOCAL);
}

static void test_path_below(void **state)
{
	assert_string_equal(path_below("/a/b/c", "/a"), "b/c");
	assert_string_equal(path_below("/a", "/a"), "");
	assert_string_equal(path_below("/a", "/"), "a");
	assert_string_equal(path_below("/", "/"), "");
	assert_null(path_below("/ab", "/a"));
	assert_null(path_below("/a", "/a/b"));
}

static void test_unreadable_table(void **state)
{
	struct mounts mounts;
	struct err err = { 0 };

	assert_int_equal(mounts_load_file(&mounts, "/nonexistent", &err), -1);
	assert_true(err.code != VSS_OK);
	assert_int_equal(mounts_load_file(&mounts, "/dev/null", &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_by_whole_components),
		cmocka_unit_test(test_newest_mount_covers),
		cmocka_unit_test(test_covered_mount_is_hidden),
		cmocka_unit_test(test_reads_fields),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_path_below),
		cmocka_unit_test(test_unreadable_table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
