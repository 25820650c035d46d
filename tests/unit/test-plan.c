/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who takes part and why, what a set may call itself, and what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/unit/session-world.h"

static int setup(void **state)
{
	*state = world_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

#define BOTH "{\"Components\": [{\"Name\": \"db\", \"Files\": [{\"Path\": \"/data/db\"}], \"Requires\": [\"/logs/db\"]}]}"

static void assert_label(struct world *w, const char *label, const char *reason)
{
	if (strcmp(world_result_text(w, "Consistency"), label) != 0)
		fail_msg("%s (%s), not %s: %s", world_result_text(w, "Consistency"),
			 world_result_text(w, "ConsistencyReason"), label, world_result_text(w, "Message"));
	if (!strstr(world_result_text(w, "ConsistencyReason"), reason))
		fail_msg("\"%s\" is not in \"%s\"", reason, world_result_text(w, "ConsistencyReason"));
	assert_int_equal(strcmp(label, "application") == 0, !*world_result_text(w, "ConsistencyReason"));
}

static void assert_part(const struct session *s, const char *name, bool takes_part, const char *why)
{
	const struct participant *p = world_participant(s, name);

	assert_int_equal(p->takes_part, takes_part);
	assert_string_equal(p->why, why);
}

static void assert_created_and_end(struct world *w, struct session *s)
{
	assert_state(s, "Created");
	session_close(s, false);
	world_turns(w);
}

/* ---- present writers ---- */

static void by_volume(void **state)
{
	struct world *w = *state;
	struct session *s;

	fake_workers_volume(w->workers, "/data/inner", "inner", NULL);
	world_writer(w, "on", "front-end", "/data/x", NULL, NULL);
	world_writer(w, "off", "front-end", "/logs/x", NULL, NULL);
	world_writer(w, "below", "front-end", "/data/inner/x", NULL, NULL); /* a volume of its own, not in the set */
	world_writer(w, "beside", "front-end", "/database", NULL, NULL);
	world_writer(w, "empty", "front-end", NULL, NULL, NULL);
	s = world_set(w);
	assert_part(s, "on", true, "has data on these volumes");
	for (const char **name = (const char *[]){ "off", "below", "beside", "empty", NULL }; *name; name++)
		assert_part(s, *name, false, "no component of it on these volumes");
	assert_label(w, "application", "");
}

static void all_volumes_and_named_ones(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();
	struct session *s;

	world_writer(w, "wide", "front-end", NULL, NULL, "{\"Scope\": \"all-volumes\"}");
	world_writer(w, "named", "front-end", "/logs", NULL, NULL);
	options.include = json_pack("[s]", "NAMED"); /* names are written as people like */
	s = world_set_with(w, &options);
	assert_part(s, "wide", true, "wants every set");
	assert_part(s, "named", true, "named by the requestor");
	assert_int_equal(world_participant(s, "wide")->members, 1);
	assert_int_equal(tape_count("Freeze"), 2);
	assert_label(w, "application", "");
}

static void excluded(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	world_writer(w, "two", "front-end", "/data", NULL, NULL);
	world_writer(w, "far", "front-end", "/logs", NULL, NULL);
	options.exclude = json_pack("[ss]", "one", "far");
	assert_part(world_set_with(w, &options), "one", false, "excluded by the requestor");
	assert_label(w, "filesystem", "'one' was excluded");
	assert_null(strstr(world_result_text(w, "ConsistencyReason"), "far")); /* it has nothing here */
	assert_int_equal(tape_count("Freeze :one"), 0);
	/* just misses it: excluded, but without data here */
	options = world_options();
	options.exclude = json_pack("[s]", "far");
	world_set_with(w, &options);
	assert_label(w, "application", "");
}

static void required(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	world_writer(w, "far", "front-end", "/logs", NULL, NULL);
	options.require = json_pack("[s]", "one");
	assert_created_and_end(w, world_set_with(w, &options));
	options = world_options();
	options.require = json_pack("[s]", "far");
	world_assert_failed(w, world_set_with(w, &options), VSS_E_OBJECT_NOT_FOUND);
	assert_non_null(strstr(world_result_text(w, "Message"), "no component of it"));
}

static void required_but_unknown(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	options.require = json_pack("[s]", "nobody");
	world_assert_failed(w, world_set_with(w, &options), VSS_E_OBJECT_NOT_FOUND);
	assert_non_null(strstr(world_result_text(w, "Message"), "'nobody'"));
}

static void selected_components(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };

	world_writer(w, "one", "front-end", "/data/a:/data/b:/logs/c", NULL, NULL);
	world_add(w, s, "data");
	assert_int_equal(session_select(s, "nobody", "/data/a", &err), -1);
	assert_int_equal(err.code, VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(session_select(s, "one", "/data/b", &err), 0);
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_int_equal(json_array_size(world_participant(s, "one")->components), 1);
	assert_string_equal(json_string_value(json_array_get(world_participant(s, "one")->components, 0)), "/data/b");
	assert_int_equal(session_select(s, "one", "/data/a", &err), -1);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
}

static void nothing_selected_of_a_writer_with_data(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };

	world_writer(w, "one", "front-end", "/data/a", NULL, NULL);
	world_writer(w, "two", "front-end", "/data/b", NULL, NULL);
	world_add(w, s, "data");
	assert_int_equal(session_select(s, "one", "/data/a", &err), 0);
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_part(s, "two", false, "none of its components was selected");
	assert_label(w, "filesystem", "'two' has data on these volumes");
}

/* ---- volumes outside ---- */

static void volumes_outside_are_refused(void **state)
{
	struct world *w = *state;
	struct session *s;

	world_writer(w, "both", "front-end", NULL, NULL, BOTH);
	s = world_set(w);
	world_assert_failed(w, s, VSS_E_WRITER_INCONSISTENT_SNAPSHOT);
	assert_non_null(strstr(world_result_text(w, "Message"), "/logs"));
	assert_non_null(strstr(world_result_text(w, "Message"), "'both'"));
	assert_int_equal(registry_find(w->registry, "both")->record.error, VSS_E_WRITER_INCONSISTENT_SNAPSHOT);
	assert_int_equal(tape_count("PrepareBackup"), 0);
	/* just misses it: both volumes are there */
	s = world_session(w);
	world_add(w, s, "data");
	world_add(w, s, "logs");
	assert_int_equal(session_snapshot(s, &(struct err){ 0 }), 0);
	world_turns(w);
	assert_state(s, "Created");
	assert_label(w, "application", "");
}

/* A component that has nothing in the set needs nothing of it. */
static void components_elsewhere_need_nothing(void **state)
{
	struct world *w = *state;

	world_writer(w, "two", "front-end", "/data/a:/logs/b", NULL, NULL);
	assert_state(world_set(w), "Created");
	assert_label(w, "application", "");
}

static void missing_volumes_are_added(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();
	struct session *s;

	world_writer(w, "both", "front-end", NULL, NULL, BOTH);
	/* A second one that lies where the first one leads: it takes part because of that. */
	world_writer(w, "second", "front-end", "/logs/second", NULL, NULL);
	options.add_missing_volumes = true;
	s = world_set_with(w, &options);
	assert_state(s, "Created");
	assert_int_equal(s->n_members, 2);
	assert_part(s, "second", true, "has data on these volumes");
	assert_int_equal(json_array_size(json_object_get(w->result, "Shadows")), 2);
	assert_string_equal(world_result_text(w, "Instant"), "volume");
	assert_non_null(strstr(world_result_text(w, "InstantReason"), "2 btrfs subvolumes"));
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
}

static void missing_volumes_that_cannot_be_added(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	w->config.max_volumes = 1;
	world_writer(w, "both", "front-end", NULL, NULL, BOTH);
	options.add_missing_volumes = true;
	world_assert_failed(w, world_set_with(w, &options), VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED);
}

static void outside_but_lenient(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	world_writer(w, "both", "front-end", NULL, NULL, BOTH);
	options.on_writer_failure = WRITER_FAILURE_DEGRADES;
	assert_created_and_end(w, world_set_with(w, &options));
	assert_label(w, "filesystem", "volumes that are not in the set: /logs");
	options = world_options();
	options.on_writer_failure = WRITER_FAILURE_DEGRADES;
	options.require = json_pack("[s]", "both");
	world_assert_failed(w, world_set_with(w, &options), VSS_E_WRITER_INCONSISTENT_SNAPSHOT);
}

/* ---- degrade ---- */

static void failures_lower_the_label_if_wanted(void **state)
{
	static const char *const events[] = { "PrepareBackup", "PrepareSnapshot", "Freeze", "Thaw", "PostSnapshot" };

	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		struct world *w = world_new(NULL);
		struct session_options options = world_options();
		world_writer(w, "bad", "front-end", "/data", NULL, NULL);
		world_writer(w, "good", "front-end", "/data", NULL, NULL);
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":bad", .event = events[i],
									.mode = FAKE_ERROR,
									.error = VSS_E_WRITER_NON_RETRYABLE });
		options.on_writer_failure = WRITER_FAILURE_DEGRADES;
		assert_state(world_set_with(w, &options), "Created");
		assert_label(w, "filesystem", "'bad' failed at");
		/* It must not stay quiesced: it hears Abort, the others do not. */
		assert_int_equal(tape_count("Abort :bad"), 1);
		assert_int_equal(tape_count("Abort :good"), 0);
		assert_int_equal(tape_count("Thaw :good"), 1);
		assert_int_equal(fake_fanout_holds(w->fanout), 0);
		/* unless it is one that is required */
		options = world_options();
		options.on_writer_failure = WRITER_FAILURE_DEGRADES;
		options.require = json_pack("[s]", "bad");
		struct session *s = world_set_with(w, &options);
		assert_state(s, "Failed");
		world_free(w);
	}
}

/* ---- what else the label depends on ---- */

static void unclean_filesystem(void **state)
{
	struct world *w = *state;
	struct session *s;
	char answer[256];

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "Freeze", .mode = FAKE_HOLD });
	s = world_set(w);
	snprintf(answer, sizeof answer, "{\"Members\": [{\"Copy\": \"%s\", \"Clean\": false}]}", s->members[0].copy);
	fake_workers_rule(w->workers, "cut", FAKE_OK, VSS_OK, answer);
	fake_fanout_answer(w->fanout, "Freeze", ":one", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "Created");
	assert_label(w, "crash", "/data is not clean");
	fake_workers_obey(w->workers);
	fake_fanout_obey(w->fanout);
	world_set(w); /* the next one is not tainted by it */
	assert_label(w, "application", "");
}

static void silent_at_identify(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":one", .event = "Identify", .mode = FAKE_ERROR,
								.error = VSS_E_WRITER_NON_RETRYABLE });
	world_assert_failed(w, world_set(w), VSS_E_WRITER_NON_RETRYABLE);
	options.on_writer_failure = WRITER_FAILURE_DEGRADES;
	assert_state(world_set_with(w, &options), "Created");
	assert_label(w, "filesystem", "'one' failed at Identify");
	world_assert_next_set_works(w);
}

static struct manifest expected_at(const char *path)
{
	return (struct manifest){ .id = "00000000-0000-4000-8000-0000000000ee", .name = (char *)"expected", .level = -1,
				  .paths = { (char *)path }, .n_paths = path != NULL };
}

/* Registered without components, as one that is still looking for them, and then silent: what its manifest says counts. */
static void silent_from_the_beginning(void **state)
{
	static const struct {
		const char *path, *label, *reason;
		enum vss_error error;
	} rows[] = {
		{ "/data/x", "filesystem", "'expected' failed at Identify", VSS_E_WRITER_NON_RETRYABLE },
		{ "/logs/x", "application", "", VSS_OK },
		{ NULL, "filesystem", "'expected' does not answer and nothing says where its data lie", VSS_OK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct manifest manifest = expected_at(rows[i].path);
		struct world *w = world_new(&(struct manifests){ &manifest, 1 });
		struct session_options options = world_options();
		world_writer(w, "one", "front-end", "/data", NULL, NULL);
		world_writer(w, "expected", "front-end", NULL, NULL, "{\"Id\": \"00000000-0000-4000-8000-0000000000ee\"}");
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":expected", .event = "Identify",
									.mode = FAKE_ERROR,
									.error = VSS_E_WRITER_NON_RETRYABLE });
		if (rows[i].error)
			world_assert_failed(w, world_set(w), rows[i].error);
		options.on_writer_failure = WRITER_FAILURE_DEGRADES;
		assert_state(world_set_with(w, &options), "Created");
		assert_label(w, rows[i].label, rows[i].reason);
		world_free(w);
	}
}

/* What it said when it registered is old: what it says now counts. */
static void what_identify_says_counts(void **state)
{
	struct world *w = *state;

	world_writer(w, "one", "front-end", "/logs", NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){
					    .event = "Identify",
					    .answer = "{\"Components\": [{\"Name\": \"new\", \"Files\": [{\"Path\": \"/data/n\"}]}]}" });
	assert_part(world_set(w), "one", true, "has data on these volumes");
	assert_label(w, "application", "");
}

/* A path that lies on no volume here (a network mount) can be copied by nobody. */
static void unknown_places(void **state)
{
	struct world *w = *state;

	world_writer(w, "remote", "front-end", "/nfs/x", NULL, NULL);
	assert_part(world_set(w), "remote", false, "no component of it on these volumes");
}

/* ---- expected, but not there ---- */

static void absent_writers(void **state)
{
	static const struct {
		const char *path, *label, *reason, *why;
	} rows[] = {
		{ "/data/x", "filesystem", "'expected' has data on these volumes and is not running",
		  "expected, but not running" },
		{ "/logs/x", "application", "", "not running; its data lie elsewhere" },
		{ "/data/absent", "application", "", "not running; its data lie elsewhere" },
		{ NULL, "filesystem", "nothing says where its data lie", "not running; nothing says where its data lie" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct manifest manifest = expected_at(rows[i].path);
		struct world *w = world_new(&(struct manifests){ &manifest, 1 });
		struct session_options options = world_options();
		world_writer(w, "one", "front-end", "/data", NULL, NULL);
		struct session *s = world_set(w);
		assert_part(s, "expected", false, rows[i].why);
		assert_created_and_end(w, s);
		assert_label(w, rows[i].label, rows[i].reason);
		options.require = json_pack("[s]", "expected");
		world_assert_failed(w, world_set_with(w, &options), VSS_E_OBJECT_NOT_FOUND);
		world_free(w);
	}
}

/* It was there, said where its data lie, and went: that is still known. */
static void gone_writers(void **state)
{
	struct manifest manifest = expected_at(NULL);
	struct world *w = world_new(&(struct manifests){ &manifest, 1 });

	world_writer(w, "expected", "front-end", "/data/x", NULL,
		     "{\"Id\": \"00000000-0000-4000-8000-0000000000ee\"}");
	world_set(w);
	assert_label(w, "application", "");
	world_writer_dies(w, "expected");
	world_set(w);
	assert_label(w, "filesystem", "'expected' has data on these volumes and is not running");
	world_free(w);
}

/* A record of one that nobody expects is no reason to doubt every set from then on. */
static void gone_and_not_expected(void **state)
{
	struct world *w = *state;

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	world_writer(w, "guest", "front-end", "/data", NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":guest", .event = "Freeze", .mode = FAKE_ERROR,
								.error = VSS_E_WRITER_NON_RETRYABLE });
	assert_state(world_set(w), "Failed");
	world_writer_dies(w, "guest");
	assert_non_null(registry_find(w->registry, "guest"));
	world_assert_next_set_works(w);
	assert_label(w, "application", "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(by_volume),
		TEST(all_volumes_and_named_ones),
		TEST(excluded),
		TEST(required),
		TEST(required_but_unknown),
		TEST(selected_components),
		TEST(nothing_selected_of_a_writer_with_data),
		TEST(volumes_outside_are_refused),
		TEST(components_elsewhere_need_nothing),
		TEST(missing_volumes_are_added),
		TEST(missing_volumes_that_cannot_be_added),
		TEST(outside_but_lenient),
		cmocka_unit_test(failures_lower_the_label_if_wanted),
		TEST(unclean_filesystem),
		TEST(silent_at_identify),
		TEST(silent_from_the_beginning),
		TEST(what_identify_says_counts),
		TEST(unknown_places),
		cmocka_unit_test(absent_writers),
		cmocka_unit_test(gone_writers),
		TEST(gone_and_not_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
