/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the application hands to libvsswriter: its table, its components; and what it can ask. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "writers/libvsswriter/covers.h"
#include "writers/libvsswriter/writer.h"

static enum vss_result nothing(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	return VSS_RESULT_OK;
}

static struct vss_writer_ops valid_ops(void)
{
	return (struct vss_writer_ops){ .size = sizeof(struct vss_writer_ops),
					.version = 1,
					.id = "b2014c9e-8711-4c5c-a5a9-3cf384484757",
					.name = "Test",
					.freeze = nothing,
					.thaw = nothing };
}

static void expect_refused(const struct vss_writer_ops *ops, const char *word)
{
	struct vss_writer *writer = NULL;
	char error[256];

	assert_int_equal(vss_writer_new(&writer, ops, NULL, error, sizeof error), -EINVAL);
	assert_non_null(strstr(error, word));
	assert_null(writer);
	assert_int_equal(vss_writer_new(&writer, ops, NULL, NULL, 0), -EINVAL);
}

static void bad_ops_are_refused_by_field(void **state)
{
	struct vss_writer_ops ops = valid_ops();

	ops.size = 8;
	expect_refused(&ops, "size");
	ops = valid_ops();
	ops.version = 2;
	expect_refused(&ops, "version");
	ops = valid_ops();
	ops.id = "B2014C9E-8711-4C5C-A5A9-3CF384484757";
	expect_refused(&ops, "id");
	ops = valid_ops();
	ops.name = "";
	expect_refused(&ops, "name");
	ops.name = "two\nlines";
	expect_refused(&ops, "name");
	ops.name = "not utf-8: \xFF";
	expect_refused(&ops, "name");
	ops = valid_ops();
	ops.instance = "1";
	expect_refused(&ops, "instance");
	ops = valid_ops();
	ops.freeze_limit_msec = 60001;
	expect_refused(&ops, "freeze_limit_msec");
	ops = valid_ops();
	ops.level = (enum vss_level)3;
	expect_refused(&ops, "level");
	ops = valid_ops();
	ops.freeze = NULL;
	expect_refused(&ops, "freeze");
	ops = valid_ops();
	ops.thaw = NULL;
	expect_refused(&ops, "thaw");
}

static void a_newer_programs_ops_are_cut(void **state)
{
	struct {
		struct vss_writer_ops ops;
		void *of_a_later_version;
	} newer = { valid_ops(), &newer };
	struct vss_writer *writer;

	newer.ops.size = sizeof newer;
	assert_int_equal(vss_writer_new(&writer, &newer.ops, NULL, NULL, 0), 0);
	assert_null(vss_writer_free(writer));
	assert_null(vss_writer_free(NULL));
}

static void instances_are_stable_and_distinct(void **state)
{
	struct vss_writer_ops ops = valid_ops();
	char first[ID_SIZE], again[ID_SIZE], named[ID_SIZE], elsewhere[ID_SIZE];

	ops_instance_id(&ops, "machine", first);
	ops_instance_id(&ops, "machine", again);
	ops_instance_id(&ops, "other machine", elsewhere);
	ops.instance_name = "second";
	ops_instance_id(&ops, "machine", named);
	assert_true(id_is_valid(first));
	assert_string_equal(first, again);
	assert_string_not_equal(first, named);
	assert_string_not_equal(first, elsewhere);
	ops.instance = "11111111-8711-4c5c-a5a9-3cf384484757";
	ops_instance_id(&ops, "machine", named);
	assert_string_equal(named, ops.instance);
}

static int add(struct vss_writer *writer, const char *name, const char *path)
{
	const struct vss_file_set files = { path, NULL, false };
	const struct vss_component component = { .size = sizeof component, .name = name, .files = &files, .n_files = 1 };

	return vss_writer_add_component(writer, &component);
}

static void components_are_checked(void **state)
{
	struct vss_writer_ops ops = valid_ops();
	struct vss_writer *writer;

	assert_int_equal(vss_writer_new(&writer, &ops, NULL, NULL, 0), 0);
	assert_int_equal(add(writer, "data", "/srv"), 0);
	assert_int_equal(add(writer, "data", "/srv"), -EEXIST);
	assert_int_equal(add(writer, "", "/srv"), -EINVAL);
	assert_int_equal(add(writer, "a/b", "/srv"), -EINVAL);
	assert_int_equal(add(writer, "relative", "srv"), -EINVAL);
	assert_int_equal(add(writer, "bytes\xFF", "/srv"), -EILSEQ);
	autojson json_t *metadata = writer_metadata(writer);
	assert_int_equal(json_array_size(json_object_get(metadata, "Components")), 1);
	vss_writer_clear_components(writer);
	assert_int_equal(json_array_size(json_object_get(metadata, "Components")), 1); /* what was given away stays */
	for (int i = 0; i < 256; i++) {
		char name[16];
		snprintf(name, sizeof name, "%d", i);
		assert_int_equal(add(writer, name, "/srv"), 0);
	}
	assert_int_equal(add(writer, "one more", "/srv"), -E2BIG);
	vss_writer_free(writer);
}

static void what_is_not_under_way_cannot_be_answered(void **state)
{
	struct vss_writer_ops ops = valid_ops();
	struct vss_writer *writer;
	const char *text;

	assert_int_equal(vss_writer_new(&writer, &ops, NULL, NULL, 0), 0);
	assert_int_equal(vss_writer_done(writer, VSS_EVENT_FREEZE, VSS_RESULT_OK, NULL), -EALREADY);
	assert_int_equal(vss_writer_done(writer, VSS_EVENT_FREEZE, VSS_RESULT_LATER, NULL), -EINVAL);
	assert_int_equal(vss_writer_keep_alive(writer), -EALREADY);
	assert_int_equal(vss_writer_set_document(writer, "{}"), -EINVAL);
	assert_int_equal(vss_writer_break_freeze(writer, NULL), -EALREADY);
	vss_writer_set_message(writer, "for nobody");
	assert_int_equal(vss_writer_status(writer, &text), VSS_WRITER_DISCONNECTED);
	assert_int_equal(vss_writer_dispatch(writer), -ENOTCONN);
	char *big = malloc(300000);
	memset(big, ' ', 299999);
	big[299999] = '\0';
	assert_int_equal(vss_writer_set_document(writer, big), -E2BIG);
	free(big);
	vss_writer_free(writer);
}

static void paths_are_compared_by_their_parts(void **state)
{
	assert_true(path_is_below("/srv/data", "/srv"));
	assert_true(path_is_below("/srv", "/srv"));
	assert_true(path_is_below("/srv/data", "/srv/"));
	assert_true(path_is_below("/srv", "/"));
	assert_false(path_is_below("/srvdata", "/srv"));
	assert_false(path_is_below("/", "/srv"));
}

static void the_longest_mount_point_counts(void **state)
{
	char table[] = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
		       "22 21 8:2 / /srv rw - ext4 /dev/sda2 rw\n"
		       "23 22 8:3 / /srv/my\\040data rw - xfs /dev/sda3 rw\n"
		       "malformed\n";
	FILE *file = fmemopen(table, strlen(table), "r");

	assert_int_equal(mount_prefix_length(file, "/srv/my data/x"), strlen("/srv/my data"));
	rewind(file);
	assert_int_equal(mount_prefix_length(file, "/srv/other"), strlen("/srv"));
	rewind(file);
	assert_int_equal(mount_prefix_length(file, "/home"), 1);
	fclose(file);
}

static void what_is_mounted_between_is_not_covered(void **state)
{
	const struct vss_volume root = { .path = "/", .copy = -1 }, proc = { .path = "/proc", .copy = -1 };
	struct vss_event_info event = { .size = sizeof event, .volumes = &root, .n_volumes = 1 };

	assert_false(vss_event_covers_path(&event, "/proc/self"));
	event.volumes = &proc;
	assert_true(vss_event_covers_path(&event, "/proc/self"));
	assert_false(vss_event_covers_path(&event, "/procedure"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_ops_are_refused_by_field),
		cmocka_unit_test(a_newer_programs_ops_are_cut),
		cmocka_unit_test(instances_are_stable_and_distinct),
		cmocka_unit_test(components_are_checked),
		cmocka_unit_test(what_is_not_under_way_cannot_be_answered),
		cmocka_unit_test(paths_are_compared_by_their_parts),
		cmocka_unit_test(the_longest_mount_point_counts),
		cmocka_unit_test(what_is_mounted_between_is_not_covered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
