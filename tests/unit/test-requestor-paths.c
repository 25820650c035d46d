/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Path mapping, and the arguments and order of vssctl backup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "common/cleanup.h"
#include "requestor/vssctl/command.h"
#include "requestor/vssrequestor.h"

static json_t *result(void)
{
	return json_pack("{s[{ssss}{ssss}{ssss}]s[s]}", "Shadows", "Volume", "/srv", "Exposed", "/mnt/srv", "Volume",
			 "/srv/data/deep", "Exposed", "", "Volume", "/home", "Exposed", "/mnt/home/", "NotIncluded",
			 "/srv/left-out");
}

static void maps(const char *root, const char *live, const char *expected)
{
	autojson json_t *set = result();
	autofree char *path = NULL;
	struct vss_failure failure = { 0 };

	if (vss_map_path(set, root, live, &path, &failure) < 0)
		fail_msg("%s", failure.text);
	assert_string_equal(path, expected);
}

static void fails(const char *root, const char *live, const char *name)
{
	autojson json_t *set = result();
	char *path = NULL;
	struct vss_failure failure = { 0 };

	assert_int_equal(vss_map_path(set, root, live, &path, &failure), -1);
	assert_string_equal(failure.name, name);
}

static void under_a_root(void **state)
{
	maps("/r", "/srv", "/r/srv");
	maps("/r/", "/srv/a//b/./c/", "/r/srv/a/b/c");
	maps("/r", "/srv/data/deep/x", "/r/srv/data/deep/x");
	maps("/", "/srv/x", "/srv/x");
	fails("/r", "/", "ObjectNotFound");
	fails("/r", "/srvx", "ObjectNotFound");
	fails("/r", "/srv/left-out", "ObjectNotFound");
	fails("/r", "/srv/left-out/x", "ObjectNotFound");
	maps("/r", "/srv/left-out-not", "/r/srv/left-out-not");
	fails("/r", "srv/x", "InvalidArgument");
	fails("/r", "/srv/../etc", "InvalidArgument");
	fails("/r", "", "InvalidArgument");
}

static void where_exposed(void **state)
{
	maps("", "/srv/a", "/mnt/srv/a");
	maps(NULL, "/srv", "/mnt/srv");
	maps("", "/home/u", "/mnt/home/u");
	fails("", "/srv/data/deep/x", "BadState");
}

static void whole_root(void **state)
{
	autojson json_t *set = json_pack("{s[{ss}]}", "Shadows", "Volume", "/");
	char *path = NULL;

	assert_int_equal(vss_map_path(set, "/r", "/", &path, NULL), 0);
	assert_string_equal(path, "/r");
	free(path);
	assert_int_equal(vss_map_path(set, "/r", "/etc/x", &path, NULL), 0);
	assert_string_equal(path, "/r/etc/x");
	free(path);
}

static void braces(void **state)
{
	const char *const argv[] = { "tar", "{}", "--x={}/y{}", "{", NULL };
	char **expanded = command_expand(argv, "/r");

	assert_string_equal(expanded[0], "tar");
	assert_string_equal(expanded[1], "/r");
	assert_string_equal(expanded[2], "--x=/r/y/r");
	assert_string_equal(expanded[3], "{");
	assert_null(expanded[4]);
	command_free(expanded);
}

static void parents_come_first(void **state)
{
	struct copy_mount copies[] = { { "/srv/a/b", 1 }, { "/srv", 2 }, { "/", 3 }, { "/srv/a", 4 } };

	copies_sort(copies, 4);
	assert_int_equal(copies[0].fd, 3);
	assert_int_equal(copies[1].fd, 2);
	assert_int_equal(copies[2].fd, 4);
	assert_int_equal(copies[3].fd, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(under_a_root), cmocka_unit_test(where_exposed),      cmocka_unit_test(whole_root),
		cmocka_unit_test(braces),	cmocka_unit_test(parents_come_first),
	};

	return cmocka_run_group_tests_name("requestor-paths", tests, NULL, NULL);
}
