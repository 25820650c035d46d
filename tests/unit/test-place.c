/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names are looked up in a made-up table of mounts: what it calls a network filesystem does not exist at all here, so
 * that whoever touched it would report something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/providers/place.h"

struct fixture {
	char path[40], table[60];
	struct mounts mounts;
};

static void path_in(const struct fixture *fixture, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", fixture->path, name);
}

static int setup(void **state)
{
	static struct fixture fixture;
	char link[PATH_MAX], target[PATH_MAX];

	memcpy(fixture.path, "/tmp/vssd-test-place.XXXXXX", 28);
	if (!mkdtemp(fixture.path))
		return -1;
	snprintf(fixture.table, sizeof fixture.table, "%s/table", fixture.path);
	FILE *table = fopen(fixture.table, "we");
	fprintf(table, "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / %s/nfs rw - nfs4 server:/ rw\n", fixture.path);
	fclose(table);
	path_in(&fixture, "link", link);
	path_in(&fixture, "nfs", target);
	if (symlink(target, link) < 0)
		return -1;
	path_in(&fixture, "relative", link);
	if (symlink("./../../tmp/..//tmp/./no-such-name", link) < 0)
		return -1;
	*state = &fixture;
	return mounts_load_file(&fixture.mounts, fixture.table, NULL);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX];

	mounts_done(&fixture->mounts);
	unlink(fixture->table);
	path_in(fixture, "link", path);
	unlink(path);
	path_in(fixture, "relative", path);
	unlink(path);
	return rmdir(fixture->path);
}

static enum vss_error find(const struct fixture *fixture, const char *path, bool allow_missing)
{
	struct place place = { .fd = -1 };
	struct err err = { 0 };
	int r = place_find(&fixture->mounts, path, allow_missing, &place, &err);

	place_done(&place);
	assert_true((r < 0) == (err.code != VSS_OK));
	return err.code;
}

static void test_foreign_mounts_are_refused_untouched(void **state)
{
	static const char *const names[] = { "nfs",	      "nfs/x/y",    "link",   "link/x",
					     "link/../nfs/x", "nfs/../nfs", "./link/" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		path_in(*state, names[i], path);
		assert_int_equal(find(*state, path, false), VSS_E_VOLUME_NOT_SUPPORTED);
		assert_int_equal(find(*state, path, true), VSS_E_VOLUME_NOT_SUPPORTED);
	}
}

static void test_missing_paths(void **state)
{
	char path[PATH_MAX];

	path_in(*state, "no/such", path);
	assert_int_equal(find(*state, path, false), VSS_E_OBJECT_NOT_FOUND);
	path_in(*state, "relative/x", path);
	assert_int_equal(find(*state, path, false), VSS_E_OBJECT_NOT_FOUND);
}

static void test_malformed_paths(void **state)
{
	char path[PATH_MAX + 2];

	memset(path, 'a', sizeof path - 1);
	path[0] = '/';
	path[sizeof path - 1] = '\0';
	assert_int_equal(find(*state, path, true), VSS_E_INVALID_ARGUMENT);
	for (size_t i = 0; i < sizeof path - 1; i += 2)
		memcpy(path + i, "/.", 2);
	path[PATH_MAX - 1] = '\0';
	find(*state, path, true);
	assert_int_equal(find(*state, "", true), VSS_E_INVALID_ARGUMENT);
	assert_int_equal(find(*state, "relative", true), VSS_E_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foreign_mounts_are_refused_untouched),
		cmocka_unit_test(test_missing_paths),
		cmocka_unit_test(test_malformed_paths),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
