/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is registered, what is refused, what is remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/registry.h"
#include "coordinator/writer-metadata.h"
#include "tests/unit/tape.h"

#define EXPECTED_ID "00000000-0000-4000-8000-0000000000ee"

struct bench {
	struct manifest manifest;
	struct manifests manifests;
	char dir[64], kind[80];
	struct state_store *store;
	struct registry *registry;
};

static void added(struct writer *w, void *data)
{
	tape_add("added %s%s", w->name, w->present ? "" : " (absent)");
}

static void removed(struct writer *w, void *data)
{
	tape_add("removed %s%s", w->name, w->present ? "" : " (absent)");
}

static void changed(struct writer *w, void *data)
{
	tape_add("changed %s", w->name);
}

static void lost(struct writer *w, void *data)
{
	tape_add("lost %s", w->name);
}

static const struct registry_listener listener = { added, removed, changed, lost, NULL };

static int setup(void **state)
{
	static struct bench b;
	struct err err = { 0 };

	b = (struct bench){ .manifest = { .id = EXPECTED_ID, .name = (char *)"Expected", .level = WRITER_LEVEL_SYSTEM,
					  .uid = 7, .unit = (char *)"expected.service" } };
	b.manifests = (struct manifests){ &b.manifest, 1 };
	snprintf(b.dir, sizeof b.dir, "/tmp/vssd-unit-XXXXXX");
	assert_non_null(mkdtemp(b.dir));
	snprintf(b.kind, sizeof b.kind, "%s/writers", b.dir);
	assert_int_equal(state_store_new(&b.store, b.dir, "writers", &err), 0);
	b.registry = registry_new(&b.manifests, b.store, 20, &listener);
	tape_clear();
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	json_decref(registry_stored(b->registry)); /* which empties the store */
	registry_free(b->registry);
	state_store_free(b->store);
	return rmdir(b->kind) || rmdir(b->dir);
}

static json_t *metadata(const char *id, const char *instance, const char *name)
{
	return json_pack("{ss ss ss}", "Id", id, "Instance", instance, "Name", name);
}

static const char *uuid(unsigned n)
{
	static char ids[8][ID_SIZE];
	static unsigned next;
	char *id = ids[next++ % 8];

	snprintf(id, ID_SIZE, "00000000-0000-4000-8000-%012x", n);
	return id;
}

static int try_register(struct bench *b, unsigned n, const char *name, const char *bus_name, uid_t uid, struct err *err)
{
	autojson json_t *m = metadata(uuid(n), uuid(n), name);

	return registry_register(b->registry, bus_name, uid, "/w", m, NULL, err);
}

static struct writer *enter(struct bench *b, const char *id, unsigned instance, const char *name, const char *bus_name)
{
	autojson json_t *m = metadata(id, uuid(instance), name);
	struct writer *w = NULL;
	struct err err = { 0 };

	if (registry_register(b->registry, bus_name, 7, "/w", m, &w, &err) < 0)
		fail_msg("%s", err.text);
	return w;
}

/* ---- metadata from strangers ---- */

static const char *const hostile[] = {
	"[]", "{\"Id\": 7}", "{\"Id\": null}", "{\"Id\": \"\"}", "{\"Id\": \"../../etc/passwd\"}",
	"{\"Id\": \"00000000-0000-4000-8000-00000000000G\"}", "{\"Id\": \"{00000000-0000-4000-8000-000000000001}\"}",
	"{\"Instance\": \"\"}", "{\"Instance\": []}", "{\"Instance\": \"00000000-0000-4000-8000-0000000000012\"}",
	"{\"Name\": \"\"}", "{\"Name\": \"a\\nb\"}", "{\"Name\": \"\\u001b[31m\"}", "{\"Name\": \"\\u007f\"}", "{\"Name\": 1}",
	"{\"InstanceName\": \"a\\tb\"}", "{\"InstanceName\": {}}", "{\"Version\": \"\\r\"}", "{\"Version\": 1.0}",
	"{\"Level\": \"middle\"}", "{\"Level\": \"\"}", "{\"Level\": 1}", "{\"Scope\": \"everything\"}", "{\"Scope\": true}",
	"{\"FreezeLimitUsec\": -1}", "{\"FreezeLimitUsec\": \"60\"}", "{\"FreezeLimitUsec\": 1.5}",
	"{\"Events\": {}}", "{\"Events\": [\"Melt\"]}", "{\"Events\": [1]}", "{\"Events\": [null]}", "{\"Events\": [\"freeze\"]}",
	"{\"Unknown\": 1}", "{\"\": 1}", "{\"id\": \"x\"}",
	"{\"Components\": {}}", "{\"Components\": [1]}", "{\"Components\": [{}]}", "{\"Components\": [{\"Name\": \"\"}]}",
	"{\"Components\": [{\"Name\": \"a\\u0001\"}]}", "{\"Components\": [{\"Name\": \"a\", \"Bogus\": 1}]}",
	"{\"Components\": [{\"Name\": \"a\"}, {\"Name\": \"a\"}]}",
	"{\"Components\": [{\"Name\": \"a\"}, {\"Name\": \"a\", \"LogicalPath\": \"\"}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Type\": \"table\"}]}", "{\"Components\": [{\"Name\": \"a\", \"Selectable\": 1}]}",
	"{\"Components\": [{\"Name\": \"a\", \"LogicalPath\": \"x\\ny\"}]}", "{\"Components\": [{\"Name\": \"a\", \"Files\": {}}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [1]}]}", "{\"Components\": [{\"Name\": \"a\", \"Files\": [{}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [{\"Path\": \"relative\"}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [{\"Path\": \"\"}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [{\"Path\": \"/x\", \"Spec\": 1}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [{\"Path\": \"/x\", \"Recursive\": \"yes\"}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Files\": [{\"Path\": \"/x\", \"More\": 1}]}]}",
	"{\"Components\": [{\"Name\": \"a\", \"Requires\": [1]}]}", "{\"Components\": [{\"Name\": \"a\", \"Requires\": [\"x\"]}]}",
};

static void hostile_metadata(void **state)
{
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		autojson json_t *change = json_loads(hostile[i], 0, NULL), *m = metadata(uuid(1), uuid(1), "Good");
		struct err err = { 0 };
		assert_non_null(change);
		if (json_is_object(change))
			json_object_update(m, change);
		if (registry_register(b->registry, ":1", 0, "/w", json_is_object(change) ? m : change, NULL, &err) == 0)
			fail_msg("%s was accepted", hostile[i]);
		assert_int_equal(err.code, VSS_E_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "metadata were refused"));
	}
	assert_int_equal(registry_present(b->registry), 0);
	assert_string_equal(tape_text(), ""); /* nothing has changed, not even for a moment */
}

static void every_member_may_be_left_out(void **state)
{
	static const char *const needed[] = { "Id", "Instance", "Name" };

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		autojson json_t *m = metadata(uuid(1), uuid(1), "Good");
		struct err err = { 0 };
		assert_int_equal(writer_metadata_check(m, &err), 0);
		json_object_del(m, needed[i]);
		assert_int_equal(writer_metadata_check(m, &err), -1);
		assert_non_null(strstr(err.text, needed[i]));
	}
}

static json_t *with_components(size_t n, size_t files, size_t path_length)
{
	json_t *m = metadata(uuid(1), uuid(1), "Big"), *components = json_array();
	autofree char *path = malloc(path_length + 1);

	memset(path, 'x', path_length);
	path[0] = '/';
	path[path_length] = '\0';
	for (size_t i = 0; i < n; i++) {
		json_t *list = json_array();
		for (size_t j = 0; j < files; j++)
			json_array_append_new(list, json_pack("{ss}", "Path", path));
		json_array_append_new(components, json_pack("{so so}", "Name", json_sprintf("c%zu", i), "Files", list));
	}
	json_object_set_new(m, "Components", components);
	return m;
}

static void limits_of_metadata(void **state)
{
	static const struct {
		size_t components, files, path;
		int result;
	} rows[] = { { 256, 1, 2, 0 }, { 257, 1, 2, -1 }, { 1, 1024, 2, 0 },   { 1, 1025, 2, -1 },
		     { 1, 1, 4095, 0 }, { 1, 1, 4096, -1 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		autojson json_t *m = with_components(rows[i].components, rows[i].files, rows[i].path);
		struct err err = { 0 };
		assert_int_equal(writer_metadata_check(m, &err), rows[i].result);
	}
	for (size_t length = 80; length <= 81; length++) {
		char name[128];
		memset(name, 'n', length);
		name[length] = '\0';
		autojson json_t *m = metadata(uuid(1), uuid(1), name);
		assert_int_equal(writer_metadata_check(m, NULL), length == 80 ? 0 : -1);
	}
}

static void what_metadata_mean(void **state)
{
	struct bench *b = *state;
	autojson json_t *m = metadata(uuid(1), uuid(1), "One"), *change = NULL;
	struct writer *w = NULL;
	struct err err = { 0 };

	json_object_set_new(m, "Events", json_pack("[s]", "PostSnapshot"));
	json_object_set_new(m, "FreezeLimitUsec", json_integer(999999999999));
	assert_int_equal(registry_register(b->registry, ":1", 0, "/w", m, &w, &err), 0);
	assert_true(w->events[WRITER_EVENT_FREEZE] && w->events[WRITER_EVENT_THAW] && w->events[WRITER_EVENT_ABORT]);
	assert_true(w->events[WRITER_EVENT_POST_SNAPSHOT]);
	assert_false(w->events[WRITER_EVENT_IDENTIFY] || w->events[WRITER_EVENT_PREPARE_BACKUP]);
	assert_int_equal(w->freeze_limit, 60 * USEC_PER_SEC); /* longer than the longest is not to be had */
	assert_int_equal(w->level, WRITER_LEVEL_FRONT_END);
	/* Identify may change all but who it is; what is wrong changes nothing. */
	change = json_pack("{ss ss sI}", "Name", "Other", "Id", uuid(9), "FreezeLimitUsec", (json_int_t)5);
	assert_int_equal(registry_update(w, change, &err), 0);
	assert_string_equal(w->name, "One");
	assert_string_equal(w->id, uuid(1));
	assert_int_equal(w->freeze_limit, 5);
	json_object_set_new(change, "Level", json_string("nowhere"));
	json_object_set_new(change, "FreezeLimitUsec", json_integer(6));
	assert_int_equal(registry_update(w, change, &err), -1);
	assert_int_equal(w->freeze_limit, 5);
}

/* ---- coming and going ---- */

static void expected_but_absent(void **state)
{
	struct bench *b = *state;
	struct writer *w = registry_first(b->registry);
	autojson json_t *row = writer_row(w), *rows = NULL;

	assert_false(w->present);
	assert_string_equal(json_string_value(json_object_get(row, "StateText")), "Unknown");
	assert_string_equal(json_string_value(json_object_get(row, "LastError")), "Not responding");
	assert_int_equal(json_integer_value(json_object_get(row, "Code")), 0x80042319);
	assert_true(json_is_true(json_object_get(row, "Expected")));
	assert_string_equal(json_string_value(json_object_get(row, "Unit")), "expected.service");
	w = enter(b, EXPECTED_ID, 1, "Expected", ":1");
	assert_int_equal(w->level, WRITER_LEVEL_SYSTEM); /* the manifest's word counts */
	assert_string_equal(tape_text(), "removed Expected (absent)\nadded Expected\n");
	tape_clear();
	registry_connection_lost(b->registry, ":1");
	assert_string_equal(tape_text(), "lost Expected\nremoved Expected (absent)\nadded Expected (absent)\n");
	rows = registry_rows(b->registry);
	assert_int_equal(json_array_size(rows), 1); /* never omitted, never twice */
}

static void two_instances_and_one_placeholder(void **state)
{
	struct bench *b = *state;

	enter(b, EXPECTED_ID, 1, "Expected", ":1");
	enter(b, EXPECTED_ID, 2, "Expected", ":2");
	registry_connection_lost(b->registry, ":1");
	autojson json_t *rows = registry_rows(b->registry);
	assert_int_equal(json_array_size(rows), 1);
	registry_connection_lost(b->registry, ":2");
	autojson json_t *last = registry_rows(b->registry);
	assert_int_equal(json_array_size(last), 1);
	assert_true(json_is_false(json_object_get(json_array_get(last, 0), "Present")));
}

static void who_may_own_it(void **state)
{
	struct bench *b = *state;
	autojson json_t *expected = metadata(EXPECTED_ID, uuid(1), "x"), *other = metadata(uuid(1), uuid(1), "x");

	assert_true(registry_manifest_allows(b->registry, expected, 7));
	assert_false(registry_manifest_allows(b->registry, expected, 0));
	assert_false(registry_manifest_allows(b->registry, other, 7));
	b->manifest.uid = (uid_t)-1; /* a user that does not exist */
	assert_false(registry_manifest_allows(b->registry, expected, (uid_t)-1));
}

static void take_over(void **state)
{
	struct bench *b = *state;
	struct err err = { 0 };
	struct writer *w = enter(b, uuid(1), 1, "One", ":1");

	writer_event_ended(w, WRITER_EVENT_FREEZE, VSS_E_WRITER_RETRYABLE, "busy", 5);
	tape_clear();
	enter(b, uuid(1), 1, "One", ":1"); /* says the same again */
	assert_int_equal(tape_count("lost"), 0);
	w = enter(b, uuid(1), 1, "One", ":2"); /* another process of the same user */
	assert_int_equal(tape_count("lost"), 1);
	assert_int_equal(registry_present(b->registry), 1);
	assert_string_equal(w->record.message, "busy"); /* a restart does not wipe the record */
	assert_int_equal(try_register(b, 1, "One", ":3", 8, &err), -1);
	assert_int_equal(err.code, VSS_E_OBJECT_ALREADY_EXISTS);
	assert_non_null(strstr(err.text, "user 7"));
	registry_connection_lost(b->registry, ":1"); /* the former one's end is no news */
	assert_int_equal(registry_present(b->registry), 1);
	assert_int_equal(registry_unregister(b->registry, ":1", uuid(1), &err), -1);
	assert_int_equal(registry_unregister(b->registry, ":2", uuid(1), &err), 0);
	assert_int_equal(registry_present(b->registry), 0);
}

static void bounds(void **state)
{
	struct bench *b = *state;
	struct err err = { 0 };

	for (unsigned i = 0; i < REGISTRY_WRITERS_PER_CONNECTION; i++)
		assert_int_equal(try_register(b, i + 1, "W", ":1", 0, &err), 0);
	assert_int_equal(try_register(b, 17, "W", ":1", 0, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(try_register(b, 17 + i, "W", ":2", 0, &err), 0);
	assert_int_equal(try_register(b, 30, "W", ":3", 0, &err), -1);
	assert_non_null(strstr(err.text, "MaxWriters"));
	/* full, but a restarted writer needs no further place */
	assert_int_equal(try_register(b, 17, "W", ":4", 0, &err), 0);
	assert_int_equal(registry_present(b->registry), 20);
	registry_connection_lost(b->registry, ":1");
	assert_int_equal(registry_present(b->registry), 4);
}

static void found_by_name_and_id(void **state)
{
	struct bench *b = *state;
	struct writer *w = enter(b, uuid(1), 2, "SQL Writer", ":1");

	assert_ptr_equal(registry_find(b->registry, "sql writer"), w);
	assert_ptr_equal(registry_find(b->registry, "{00000000-0000-4000-8000-000000000001}"), w);
	assert_ptr_equal(registry_find(b->registry, uuid(2)), w);
	assert_null(registry_find(b->registry, uuid(3)));
	assert_null(registry_find(b->registry, ""));
}

/* ---- records ---- */

static void failure_is_a_record_not_a_latch(void **state)
{
	static const enum writer_event first[] = { WRITER_EVENT_PREPARE_BACKUP, WRITER_EVENT_PREPARE_SNAPSHOT,
						   WRITER_EVENT_FREEZE };
	struct bench *b = *state;
	struct writer *w = enter(b, uuid(1), 1, "One", ":1");

	for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
		writer_event_ended(w, WRITER_EVENT_THAW, VSS_E_TIMED_OUT, "too late", 77);
		assert_int_equal(w->record.state, WRITER_STATE_FAILED_AT_THAW);
		assert_int_equal(w->record.error, VSS_E_WRITER_TIMED_OUT);
		assert_int_equal(w->record.elapsed, 77);
		/* the end of that set is no news about it */
		writer_event_ended(w, WRITER_EVENT_ABORT, VSS_OK, "", 1);
		writer_event_ended(w, WRITER_EVENT_ABORT, VSS_E_TIMED_OUT, "hangs", 1);
		writer_event_ended(w, WRITER_EVENT_BACKUP_SHUTDOWN, VSS_E_WRITER_RETRYABLE, "no", 1);
		writer_event_ended(w, WRITER_EVENT_IDENTIFY, VSS_OK, "", 1);
		assert_int_equal(w->record.state, WRITER_STATE_FAILED_AT_THAW);
		assert_string_equal(w->record.message, "too late");
		/* whatever the next set's first event is for this writer: it starts from Stable */
		writer_event_ended(w, first[i], VSS_OK, "", 1);
		assert_int_equal(w->record.error, VSS_OK);
		assert_int_equal(w->record.state, writer_state_after(first[i], WRITER_STATE_STABLE));
		assert_string_equal(w->record.message, "");
	}
	writer_event_ended(w, WRITER_EVENT_IDENTIFY, VSS_E_WRITER_NOT_RESPONDING, "gone", 1);
	writer_event_ended(w, WRITER_EVENT_IDENTIFY, VSS_OK, "", 1); /* what a probe found, a probe clears */
	assert_int_equal(w->record.error, VSS_OK);
	writer_event_ended(w, WRITER_EVENT_FREEZE, VSS_E_ACCESS_DENIED, "x", 1);
	assert_int_equal(w->record.error, VSS_E_WRITER_NON_RETRYABLE);
	writer_reset(w);
	assert_int_equal(w->record.state, WRITER_STATE_STABLE);
	assert_int_equal(w->record.failed_at, 0);
}

static void failed_strangers_are_remembered(void **state)
{
	struct bench *b = *state;
	struct writer *w = enter(b, uuid(1), 1, "Stranger", ":1");

	enter(b, uuid(2), 2, "Fine", ":1");
	writer_event_ended(w, WRITER_EVENT_FREEZE, VSS_E_WRITER_NON_RETRYABLE, "crashed", 1);
	registry_connection_lost(b->registry, ":1");
	assert_null(registry_find(b->registry, "Fine"));
	w = registry_find(b->registry, "Stranger");
	assert_non_null(w);
	assert_false(w->present);
	writer_reset(w);
	assert_null(registry_find(b->registry, "Stranger"));
}

static void restart(void **state)
{
	struct bench *b = *state;
	struct writer *w = enter(b, uuid(1), 1, "One", ":1");
	autojson json_t *stored = NULL, *row = NULL, *after = NULL;
	struct err err = { 0 };

	enter(b, uuid(2), 2, "Left", ":2");
	registry_connection_lost(b->registry, ":2"); /* gone before: not kept */
	writer_event_ended(w, WRITER_EVENT_POST_SNAPSHOT, VSS_E_WRITER_OUT_OF_RESOURCES, "disk full", 99);
	row = writer_row(w);
	registry_free(b->registry);
	b->registry = registry_new(&b->manifests, b->store, 20, &listener);
	stored = registry_stored(b->registry);
	assert_int_equal(json_array_size(stored), 1);
	json_t *one = json_array_get(stored, 0);
	assert_int_equal(json_integer_value(json_object_get(one, "Uid")), 7);
	assert_int_equal(registry_register(b->registry, json_string_value(json_object_get(one, "BusName")), 7,
					   json_string_value(json_object_get(one, "Path")),
					   json_object_get(one, "Metadata"), &w, &err),
			 0);
	registry_restore_record(w, one);
	after = writer_row(w);
	for (const char **key = (const char *[]){ "Name", "State", "Code", "Message", "Phase", "FailedAt", "ElapsedUsec",
						  "BusName", "Uid", "InstanceId", NULL };
	     *key; key++)
		assert_true(json_equal(json_object_get(row, *key), json_object_get(after, *key)));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hostile_metadata),
		TEST(every_member_may_be_left_out),
		TEST(limits_of_metadata),
		TEST(what_metadata_mean),
		TEST(expected_but_absent),
		TEST(two_instances_and_one_placeholder),
		TEST(who_may_own_it),
		TEST(take_over),
		TEST(bounds),
		TEST(found_by_name_and_id),
		TEST(failure_is_a_record_not_a_latch),
		TEST(failed_strangers_are_remembered),
		TEST(restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
