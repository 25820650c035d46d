/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the LVM provider keeps in names and tags, and how large a store is; no LVM is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/store-size.h"
#include "coordinator/providers/lvm/tags.h"

#define COPY "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define NAME "vss-0a1b2c3d4e5f"
#define SET "11111111-2222-4333-8444-555555555555"
#define HOST "0123456789abcdef0123456789abcdef"
#define TAGS "vss.copy=" COPY ",vss.set=" SET ",vss.host=" HOST ",vss.state="

/* ---- values ---- */

static void test_value_round_trip(void **state)
{
	static const char *const values[] = { "",      "/mnt/data", "a b,c=d+e%", "\"quoted\" 'x'",
					      "größe", "@tag{}[]",  "+20" };
	char text[256], value[256];

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		tag_encode(values[i], text, sizeof text);
		assert_true(!*text || lvm_is_plain(text));
		assert_null(strchr(text, ','));
		assert_true(tag_decode(text, strlen(text), value, sizeof value));
		assert_string_equal(value, values[i]);
	}
}

static void test_malformed_values_are_refused(void **state)
{
	static const char *const texts[] = { "+", "+2", "+zz", "a+4", "+0a", "+00", "+1b[0m", "a b", "a@b", "+2G" };
	char value[64];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_false(tag_decode(texts[i], strlen(texts[i]), value, sizeof value));
	assert_false(tag_decode("abcdef", 6, value, 6));
	assert_true(tag_decode("abcde", 5, value, 6));
}

static void test_encoding_stays_in_its_room(void **state)
{
	char text[8];

	tag_encode("\x80\x80\x80\x80\x80", text, sizeof text);
	assert_true(strlen(text) < sizeof text);
}

/* ---- whose copy it is ---- */

static void test_copy_is_known_by_tags_and_name(void **state)
{
	struct copy_tags tags;
	char name[COPY_NAME_SIZE];

	copy_name(COPY, name);
	assert_string_equal(name, NAME);
	assert_true(copy_tags_read(TAGS "preparing", NAME, &tags));
	assert_string_equal(tags.copy, COPY);
	assert_string_equal(tags.set, SET);
	assert_string_equal(tags.host, HOST);
	assert_int_equal(tags.state, COPY_PREPARING);
	assert_true(copy_tags_read("other," TAGS "committed,vss.path=/x", NAME, &tags));
	assert_int_equal(tags.state, COPY_COMMITTED);
}

static void test_others_tags_are_no_copy(void **state)
{
	static const struct {
		const char *tags, *name;
	} cases[] = {
		{ "", NAME },
		{ TAGS "preparing", "data" },
		{ TAGS "preparing", "vss-0a1b2c3d4e50" },
		{ TAGS "done", NAME },
		{ TAGS, NAME },
		{ "vss.copy=" COPY ",vss.set=" SET ",vss.state=committed", NAME },
		{ "vss.copy=" COPY ",vss.set=../x,vss.host=" HOST ",vss.state=committed", NAME },
		{ "vss.copy=" COPY ",vss.set=" SET ",vss.host=a+2fb,vss.state=committed", NAME },
		{ "vss.copy=0A1B2C3D-4E5F-4A6B-8C7D-9E0F1A2B3C4D,vss.set=" SET ",vss.host=" HOST ",vss.state=committed",
		  NAME },
		{ "xvss.copy=" COPY ",vss.set=" SET ",vss.host=" HOST ",vss.state=committed", NAME },
		{ "vss.copyx=" COPY ",vss.set=" SET ",vss.host=" HOST ",vss.state=committed", NAME },
	};
	struct copy_tags tags;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_false(copy_tags_read(cases[i].tags, cases[i].name, &tags));
}

/* ---- the record ---- */

/* The options of a command as the tags that LVM would list. */
static void as_tags(const char *line, char *tags, size_t size)
{
	const char *p = line;

	while ((p = strstr(p, " --addtag="))) {
		p += strlen(" --addtag=");
		size_t n = strcspn(p, " ");
		assert_true(n <= 1024);
		snprintf(tags + strlen(tags), size - strlen(tags), "%s%.*s", *tags ? "," : "", (int)n, p);
	}
}

static void test_record_survives_the_tags(void **state)
{
	autojson json_t *record =
	    json_pack("{ss si sI ss ss sb ss ss ss ss ss ss s{ss ss ss ss ss}}", "Set", SET, "SetCount", 3, "Created",
		      (json_int_t)1700000000, "Host", HOST, "HostName", "a host", "Persistent", 1, "Context",
		      "app-rollback", "Session", SET, "Consistency", "application", "ConsistencyReason",
		      "all, of them: yes", "Instant", "set", "InstantReason", "", "Volume", "Path", "/mnt/with blank",
		      "Id", "lvm:a:b", "Device", "/dev/mapper/vg-a", "FsUuid", "u", "Type", "ext4");
	char line[TAG_LINE_SIZE], tags[2 * TAG_LINE_SIZE] = "";
	const char *key;
	json_t *value;

	assert_true(copy_tags_first(line, COPY, SET, HOST, json_object_get(record, "Volume")));
	as_tags(line, tags, sizeof tags);
	assert_non_null(strstr(tags, "vss.state=preparing"));
	assert_true(copy_tags_commit(line, record));
	assert_non_null(strstr(line, " --deltag=vss.state=preparing"));
	as_tags(line, tags, sizeof tags);

	autojson json_t *got = copy_tags_record(tags);
	json_object_foreach (record, key, value)
		if (strcmp(key, "InstantReason") != 0)
			assert_true(json_equal(value, json_object_get(got, key)));
}

static void test_long_texts_are_cut_on_a_character(void **state)
{
	char path[4096] = "/";
	char line[TAG_LINE_SIZE], tags[TAG_LINE_SIZE] = "";

	for (size_t i = 1; i + 3 < sizeof path; i += 2)
		memcpy(path + i, "\xc3\xa4", 3);
	autojson json_t *volume = json_pack("{ss}", "Path", path);
	assert_true(copy_tags_first(line, COPY, SET, HOST, volume));
	as_tags(line, tags, sizeof tags);
	autojson json_t *got = copy_tags_record(tags);
	const char *kept = json_string_value(json_object_get(json_object_get(got, "Volume"), "Path"));
	assert_non_null(kept);
	assert_memory_equal(kept, path, strlen(kept));
	assert_true(strlen(kept) > 100);
}

static void test_hostile_record_is_left_out(void **state)
{
	autojson json_t *got =
	    copy_tags_record("vss.count=-3,vss.created=now,vss.session=/etc/passwd,vss.path=+1b[2J,vss.instant=+ff+fe");
	json_t *volume = json_object_get(got, "Volume");

	assert_null(json_object_get(got, "SetCount"));
	assert_null(json_object_get(got, "Created"));
	assert_null(json_object_get(got, "Session"));
	assert_null(json_object_get(volume, "Path"));
	assert_string_equal(json_string_value(json_object_get(got, "Instant")), "");
}

static void test_host_must_be_plain(void **state)
{
	char line[TAG_LINE_SIZE];
	autojson json_t *volume = json_object();

	assert_false(copy_tags_first(line, COPY, SET, "x --yes", volume));
	assert_false(copy_tags_first(line, COPY, SET, "", volume));
}

/* ---- commands, names ---- */

static void test_plain_words(void **state)
{
	assert_true(lvm_is_plain("vg_0.a+b-c"));
	assert_true(lvm_is_plain("/dev/disk/by-id/x:1"));
	for (const char *const *word =
		 (const char *const[]){ "", "-y", "a b", "a'b", "a\"b", "a\\b", "a\nb", "@tag", NULL };
	     *word; word++)
		assert_false(lvm_is_plain(*word));
}

static void test_device_names(void **state)
{
	char name[DM_DEVICE_NAME_SIZE], long_name[200];

	assert_true(dm_name_of("my-vg", "a-b-", name));
	assert_string_equal(name, "my--vg-a--b--");
	memset(long_name, '-', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	assert_false(dm_name_of("vg", long_name, name));
}

/* ---- sizes ---- */

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define EXTENT (4 * MIB)

static void test_store_sizes(void **state)
{
	struct store_size size = store_size(100 * GIB, EXTENT, 0);
	assert_true(size.wanted * EXTENT >= 15 * GIB && size.wanted * EXTENT < 15 * GIB + 2 * EXTENT);
	assert_int_equal(size.wanted, size.least);

	size = store_size(4 * GIB, EXTENT, 0); /* 15 % are less than 1 GiB */
	assert_int_equal(size.wanted * EXTENT, GIB);
	assert_true(size.least * EXTENT >= 614 * MIB && size.least * EXTENT < 624 * MIB);

	size = store_size(100 * MIB, EXTENT, 0); /* never more than can be needed */
	assert_int_equal(size.wanted, store_size_full(100 * MIB, EXTENT));
	assert_true(size.wanted * EXTENT > 100 * MIB && size.wanted * EXTENT < 112 * MIB);

	size = store_size(100 * GIB, EXTENT, 3 * MIB);
	assert_int_equal(size.wanted, 1);
	size = store_size(100 * MIB, EXTENT, 50 * GIB);
	assert_int_equal(size.wanted, store_size_full(100 * MIB, EXTENT));
}

/* Every chunk, and what is kept of each, has its place. */
static void test_full_store_holds_everything(void **state)
{
	for (uint64_t volume = EXTENT; volume < 64 * GIB; volume *= 3) {
		uint64_t chunks = volume / STORE_CHUNK + (volume % STORE_CHUNK != 0), areas = (chunks + 255) / 256;
		assert_true(store_size_full(volume, EXTENT) * EXTENT >= (1 + chunks + areas) * STORE_CHUNK);
	}
}

static void expect_rule(const char *row_json, const char *system_id, const char *words)
{
	autojson json_t *row = json_loads(row_json, 0, NULL);
	const char *rule = group_rule(row, system_id);

	if (!words)
		assert_null(rule);
	else if (!rule || !strstr(rule, words))
		fail_msg("%s: '%s' does not say '%s'", row_json, rule ? rule : "no rule", words);
}

static void test_groups_that_may_not_be_touched(void **state)
{
	expect_rule("{\"vg_name\": \"vg\", \"vg_permissions\": \"writeable\", \"vg_exported\": \"\"}", NULL, NULL);
	expect_rule("{\"vg_exported\": \"exported\"}", "", "vgimport");
	expect_rule("{\"vg_partial\": \"partial\"}", "", "vgextend --restoremissing");
	expect_rule("{\"vg_permissions\": \"read-only\"}", "", "vgchange --permission rw");
	expect_rule("{\"vg_shared\": \"shared\"}", "", "lvmlockd");
	expect_rule("{\"vg_clustered\": \"clustered\"}", "", "clustered");
	expect_rule("{\"vg_systemid\": \"elsewhere\"}", "here", "another machine");
	expect_rule("{\"vg_systemid\": \"elsewhere\"}", "", "another machine");
	expect_rule("{\"vg_systemid\": \"here\"}", "here", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_value_round_trip),
		cmocka_unit_test(test_malformed_values_are_refused),
		cmocka_unit_test(test_encoding_stays_in_its_room),
		cmocka_unit_test(test_copy_is_known_by_tags_and_name),
		cmocka_unit_test(test_others_tags_are_no_copy),
		cmocka_unit_test(test_record_survives_the_tags),
		cmocka_unit_test(test_long_texts_are_cut_on_a_character),
		cmocka_unit_test(test_hostile_record_is_left_out),
		cmocka_unit_test(test_host_must_be_plain),
		cmocka_unit_test(test_plain_words),
		cmocka_unit_test(test_device_names),
		cmocka_unit_test(test_store_sizes),
		cmocka_unit_test(test_full_store_holds_everything),
		cmocka_unit_test(test_groups_that_may_not_be_touched),
	};

	return cmocka_run_group_tests_name("lvm", tests, NULL, NULL);
}
