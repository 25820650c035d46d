/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bundled writers share: their configuration, and where files lie in a set. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
/* cmocka.h needs the above. */
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/bundled/bundled.h"
#include "writers/bundled/settings.h"

static const struct bundled_key keys[] = {
	{ "Directory", BUNDLED_PATHS, "/a;/b", false },
	{ "Wait", BUNDLED_SPAN, "5s", true },
	{ "Careful", BUNDLED_BOOL, "no", true },
	{ "Policy", BUNDLED_CHOICE, "fail", true, "fail|degrade" },
	{ "Port", BUNDLED_NUMBER, NULL, true },
	{ 0 },
};

static const struct bundled_kind kind = {
	.program = "vss-test",
	.config_file = "/nonexistent/test.conf",
	.section = "Test",
	.instance_section = "Server",
	.keys = keys,
};

static char directory[] = "/tmp/test-bundled.XXXXXX";

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", directory);
	return system(command);
}

static json_t *read_text(const char *text, struct err *err)
{
	char path[64];

	snprintf(path, sizeof path, "%s/test.conf", directory);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, 0644), 0);
	return settings_read(&kind, path, err);
}

static void test_fallbacks(void **state)
{
	struct err err = { 0 };
	autojson json_t *settings = settings_read(&kind, NULL, &err);

	assert_non_null(settings);
	assert_int_equal(json_array_size(bundled_setting(settings, NULL, "Directory")), 2);
	assert_int_equal(bundled_setting_span(settings, "x", "Wait"), 5 * USEC_PER_SEC);
	assert_int_equal(bundled_setting_span(settings, NULL, "PrepareLimit"), 600 * USEC_PER_SEC);
	assert_true(json_is_false(bundled_setting(settings, NULL, "Careful")));
	assert_string_equal(bundled_setting_text(settings, NULL, "Policy"), "fail");
	assert_string_equal(bundled_setting_text(settings, NULL, "Port"), "");
	assert_null(bundled_setting(settings, NULL, "Port"));
}

static void test_an_instance_has_its_own(void **state)
{
	struct err err = { 0 };
	autojson json_t *settings = read_text("[Test]\nDirectory=/c\nDirectory=/d;/e\nWait=200ms\n"
					      "[Server one/two]\nWait=2min\nPolicy=degrade\nCareful=yes\nPort=17\n",
					      &err);

	assert_string_equal(err.text, "");
	assert_non_null(settings);
	assert_int_equal(json_array_size(bundled_setting(settings, NULL, "Directory")), 3);
	assert_int_equal(bundled_setting_span(settings, "one/two", "Wait"), 120 * USEC_PER_SEC);
	assert_int_equal(bundled_setting_span(settings, "other", "Wait"), 200 * USEC_PER_MSEC);
	assert_string_equal(bundled_setting_text(settings, "one/two", "Policy"), "degrade");
	assert_string_equal(bundled_setting_text(settings, "other", "Policy"), "fail");
	assert_true(json_is_true(bundled_setting(settings, "one/two", "Careful")));
	assert_int_equal(json_integer_value(bundled_setting(settings, "one/two", "Port")), 17);
	assert_non_null(json_object_get(bundled_setting_instances(settings), "one/two"));
}

static void test_errors_name_line_and_rule(void **state)
{
	static const struct {
		const char *text, *said;
	} wrong[] = {
		{ "[Test]\nWait=soon\n", ":2: Wait: \"soon\" is not a time" },
		{ "[Test]\nDirectory=a\n", "Directory: \"a\" is not a list of absolute paths" },
		{ "[Test]\nPolicy=perhaps\n", "Policy: \"perhaps\" is none of fail|degrade" },
		{ "[Test]\nCareful=1\n", "neither yes nor no" },
		{ "[Test]\nPort=x\n", "\"x\" is not a number" },
		{ "[Test]\nNothing=x\n", "no such key (see vss-test(8))" },
		{ "[Else]\nWait=1s\n", "there is no section [Else] here, only [Test] and [Server NAME]" },
		{ "[Server a]\nDirectory=/a\n", "only for all, in [Test]" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct err err = { 0 };
		assert_null(read_text(wrong[i].text, &err));
		if (!strstr(err.text, wrong[i].said))
			fail_msg("\"%s\" does not say \"%s\"", err.text, wrong[i].said);
	}
}

static void test_a_file_that_others_may_write_is_refused(void **state)
{
	struct err err = { 0 };
	char path[64];

	json_decref(read_text("[Test]\nWait=1s\n", &err));
	snprintf(path, sizeof path, "%s/test.conf", directory);
	assert_int_equal(chmod(path, 0666), 0);
	assert_null(settings_read(&kind, path, &err));
	assert_int_equal(err.code, VSS_E_ACCESS_DENIED);
}

static const struct vss_volume volumes[] = {
	{ .path = "/", .id = "r", .instant_group = 1, .copy = -1 },
	{ .path = "/srv/data", .id = "d", .instant_group = 2, .copy = -1 },
	{ .path = "/srv/wal/", .id = "w", .instant_group = 2, .copy = -1 },
};

static const char *placed(const struct bundled_task *task, const char *path, const char *id)
{
	const char *rest = "nowhere";
	const struct vss_volume *volume = bundled_place(task, path, &rest);

	if (id)
		assert_string_equal(volume->id, id);
	else
		assert_null(volume);
	return rest;
}

static void test_the_longest_volume_has_the_path(void **state)
{
	const struct bundled_task task = { .volumes = volumes, .n_volumes = 3 };
	const struct bundled_task two = { .volumes = volumes + 1, .n_volumes = 2 };

	assert_string_equal(placed(&task, "/srv/data/pg/base", "d"), "pg/base");
	assert_string_equal(placed(&task, "/srv/data", "d"), ".");
	assert_string_equal(placed(&task, "/srv/database", "r"), "srv/database");
	assert_string_equal(placed(&task, "/", "r"), ".");
	assert_string_equal(placed(&two, "/srv/wal/x", "w"), "x");
	placed(&two, "/srv/database", NULL);
}

static bool one_instant(const struct bundled_task *task, const char *a, const char *b)
{
	autojson json_t *paths = json_pack("[ss]", a, b);

	return bundled_is_one_instant(task, paths);
}

static void test_one_instant_needs_one_group(void **state)
{
	const struct bundled_task task = { .volumes = volumes, .n_volumes = 3 };
	const struct bundled_task two = { .volumes = volumes + 1, .n_volumes = 2 };

	assert_true(one_instant(&task, "/srv/data/a", "/srv/wal/b"));
	assert_false(one_instant(&task, "/srv/data/a", "/srv/b"));
	/* What is in no volume of the set is copied at no instant at all. */
	assert_false(one_instant(&two, "/srv/data/a", "/srv/b"));
	assert_false(one_instant(&two, "/b", "/srv/data/a"));
}

static void test_no_link_leads_out_of_a_copy(void **state)
{
	struct vss_volume volume = { .path = "/live", .id = "l", .copy = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	const struct bundled_task task = { .volumes = &volume, .n_volumes = 1 };
	struct err err = { 0 };

	assert_int_equal(symlinkat("/etc", volume.copy, "wal"), 0);
	assert_int_equal(mkdirat(volume.copy, "pg", 0700), 0);
	autoclose int made = bundled_open_copy(&task, "/live/pg/label", O_WRONLY | O_CREAT, 0600, &err);
	assert_true(made >= 0);
	assert_int_equal(bundled_open_copy(&task, "/live/wal/passwd", O_RDONLY, 0, &err), -1);
	assert_int_equal(bundled_open_copy(&task, "/live/../x", O_RDONLY, 0, &err), -1);
	assert_int_equal(bundled_open_copy(&task, "/elsewhere", O_RDONLY, 0, &err), -1);
	assert_non_null(strstr(err.text, "/elsewhere is in none of the set's copies"));
	close(volume.copy);
}

static void test_waiting_ends(void **state)
{
	int ends[2];
	const uint64_t now = clock_now();
	struct bundled_task task = { .deadline = now + USEC_PER_SEC / 20, .cancel = -1 };

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(bundled_wait(&task, ends[0], 1, USEC_INFINITY), -ETIMEDOUT);
	assert_true(clock_now() >= task.deadline);
	task.deadline = clock_now() + 60 * USEC_PER_SEC;
	assert_int_equal(bundled_wait(&task, -1, 0, clock_now() + 1000), -ETIMEDOUT);
	task.cancel = ends[0];
	close(ends[1]);
	assert_int_equal(bundled_wait(&task, -1, 0, USEC_INFINITY), -ECANCELED);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fallbacks),
		cmocka_unit_test(test_an_instance_has_its_own),
		cmocka_unit_test(test_errors_name_line_and_rule),
		cmocka_unit_test(test_a_file_that_others_may_write_is_refused),
		cmocka_unit_test(test_the_longest_volume_has_the_path),
		cmocka_unit_test(test_one_instant_needs_one_group),
		cmocka_unit_test(test_no_link_leads_out_of_a_copy),
		cmocka_unit_test(test_waiting_ends),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
