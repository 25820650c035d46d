/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set that goes well: who hears what, in which order, and what comes of it. */
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

static void three_levels(struct world *w)
{
	world_writer(w, "b", "back-end", "/data/b", NULL, NULL);
	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "s", "system", "/data/s", NULL, NULL);
}

static void whole_life(void **state)
{
	static const char expected[] = "Identify :b\nIdentify :f\nIdentify :s\njob resolve\n"
				       "PrepareBackup :b\nPrepareBackup :f\nPrepareBackup :s\njob prepare\n"
				       "PrepareSnapshot :b\nPrepareSnapshot :f\nPrepareSnapshot :s\njob flush\n"
				       "Freeze :f\nFreeze :b\nFreeze :s\njob cut\nThaw :s\nThaw :b\nThaw :f\njob open\n"
				       "PostSnapshot :b\nPostSnapshot :f\nPostSnapshot :s\njob seal\n"
				       "finished DoSnapshotSet ok\n"
				       "BackupComplete :b\nBackupComplete :f\nBackupComplete :s\nfinished BackupComplete ok\n"
				       "BackupShutdown :b\nBackupShutdown :f\nBackupShutdown :s\njob remove\nclosed\n";
	struct world *w = *state;
	struct session *s;
	struct err err = { 0 };

	three_levels(w);
	s = world_set(w);
	assert_state(s, "Created");
	assert_string_equal(world_result_text(w, "Consistency"), "application");
	assert_string_equal(world_result_text(w, "ConsistencyReason"), "");
	assert_string_equal(world_result_text(w, "Instant"), "set");
	assert_int_equal(json_array_size(json_object_get(w->result, "Shadows")), 1);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 1);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	assert_int_equal(session_complete(s, &err), 0);
	world_turns(w);
	assert_state(s, "Completed");
	session_close(s, false);
	world_turns(w);
	assert_string_equal(tape_text(), expected);
	assert_int_equal(w->context.n_sessions, 0);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
}

static void timeline_has_every_step(void **state)
{
	static const char *const phases[] = { "Waiting",	 "Identifying",	   "PreparingBackup", "Prepared",
					      "Preparing",	 "Flushing",	   "FreezingFrontEnd", "FreezingBackEnd",
					      "FreezingSystem",	 "Cutting",	   "ThawingSystem",	"ThawingBackEnd",
					      "ThawingFrontEnd", "Opening",	   "PostSnapshot",	"Sealing" };
	struct world *w = *state;
	struct session *s;

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	s = world_set(w);
	for (size_t i = 2; i < ARRAY_SIZE(phases); i++)
		if (!world_timeline_has(s, phases[i], "", "done") && !world_timeline_has(s, phases[i], "", "snapshot"))
			fail_msg("no row of %s", phases[i]);
	for (size_t e = WRITER_EVENT_PREPARE_BACKUP; e <= WRITER_EVENT_POST_SNAPSHOT; e++)
		assert_true(world_timeline_has(s, writer_event_name((enum writer_event)e), "one", "ok"));
	for (const char **op = (const char *[]){ "prepare", "flush", "cut", "open", "seal", NULL }; *op; op++)
		assert_true(world_timeline_has(s, *op, "", "ok"));
}

static bool prepare_is_to_flush(const struct world *w)
{
	json_t *members = json_object_get(fake_workers_request(w->workers, "prepare"), "Members");

	return json_is_true(json_object_get(json_array_get(members, 0), "Flush"));
}

static void no_writers(void **state)
{
	struct world *w = *state;
	struct session *s = world_set(w);

	assert_state(s, "Created");
	/* Nothing has worked since prepare flushed, and nobody repairs anything. */
	assert_true(prepare_is_to_flush(w));
	assert_string_equal(tape_text(), "job prepare\njob cut\njob seal\nfinished DoSnapshotSet ok\n");
	assert_string_equal(world_result_text(w, "Consistency"), "filesystem");
	assert_string_equal(world_result_text(w, "ConsistencyReason"), "No writer has data on these volumes");
}

static void no_volumes(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_int_equal(w->finished, 1);
	assert_state(s, "Created");
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	assert_int_equal(tape_count("Freeze"), 0);
}

/* The one order that matters among many: PrepareSnapshot to all before any Freeze; level by level; back in reverse. */
static void many_writers(void **state)
{
	struct world *w = *state;
	static const char *const levels[] = { "system", "front-end", "back-end" };
	int last_prepare = 0, n = 0;

	for (int i = 0; i < 60; i++) {
		char name[16];
		snprintf(name, sizeof name, "%s%02d", (const char *[]){ "s", "f", "b" }[i % 3], i);
		world_writer(w, name, levels[i % 3], "/data", NULL, NULL);
	}
	assert_state(world_set(w), "Created");
	assert_int_equal(tape_count("Freeze"), 60);
	assert_int_equal(tape_count("Thaw"), 60);
	for (const char *line = tape_text(); *line; line = strchr(line, '\n') + 1, n++)
		if (strncmp(line, "PrepareSnapshot", 15) == 0)
			last_prepare = n;
	assert_true(last_prepare < tape_find("Freeze"));
	n = 0;
	for (const char *line = strstr(tape_text(), "Freeze :"); strncmp(line, "Freeze :", 8) == 0;
	     line = strchr(line, '\n') + 1, n++)
		assert_int_equal(line[8], "fbs"[n / 20]);
	n = 0;
	for (const char *line = strstr(tape_text(), "Thaw :"); strncmp(line, "Thaw :", 6) == 0;
	     line = strchr(line, '\n') + 1, n++)
		assert_int_equal(line[6], "sbf"[n / 20]);
	assert_int_equal(n, 60);
}

/* A level begins only when every answer of the one before is there. */
static void levels_wait_for_each_other(void **state)
{
	struct world *w = *state;
	struct session *s;

	three_levels(w);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "Freeze", .mode = FAKE_HOLD });
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "Thaw", .mode = FAKE_HOLD });
	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	assert_state(s, "FreezingFrontEnd");
	assert_int_equal(tape_count("Freeze"), 1);
	fake_fanout_answer(w->fanout, "Freeze", ":f", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "FreezingBackEnd");
	fake_fanout_answer(w->fanout, "Freeze", ":b", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "FreezingSystem");
	assert_int_equal(tape_count("job cut"), 0);
	fake_fanout_answer(w->fanout, "Freeze", ":s", VSS_OK, NULL);
	world_turns(w);
	assert_state(s, "Cutting");
	assert_int_equal(tape_count("Thaw"), 0);
	fake_workers_answer(w->workers, "cut", VSS_OK);
	world_turns(w);
	for (const char **name = (const char *[]){ ":s", ":b", ":f", NULL }; *name; name++) {
		assert_non_null(fake_fanout_last(w->fanout, "Thaw", *name));
		fake_fanout_answer(w->fanout, "Thaw", *name, VSS_OK, NULL);
		world_turns(w);
	}
	assert_state(s, "Created");
	assert_true(json_integer_value(json_object_get(w->result, "HoldUsec")) > 0);
}

/* Only what is in the mask, and always Freeze, Thaw and Abort. */
static void mask_of_events(void **state)
{
	struct world *w = *state;

	world_writer(w, "bare", "front-end", "/data", "[]", NULL);
	world_writer(w, "some", "front-end", "/data", "[\"PrepareSnapshot\"]", NULL);
	assert_state(world_set(w), "Created");
	assert_false(prepare_is_to_flush(w)); /* flush comes when they have worked */
	assert_string_equal(tape_text(), "job resolve\njob prepare\nPrepareSnapshot :some\njob flush\n"
					 "Freeze :bare\nFreeze :some\njob cut\nThaw :bare\nThaw :some\njob seal\n"
					 "finished DoSnapshotSet ok\n");
}

static void what_events_carry(void **state)
{
	struct world *w = *state;
	struct session_options options = world_options();
	struct session *s;
	const struct fake_call *call;
	json_t *event, *volume;

	options.persistent = true;
	snprintf(options.backup_type, sizeof options.backup_type, "full");
	world_writer(w, "one", "front-end", "/data/one", NULL, NULL);
	s = world_set_with(w, &options);
	call = fake_fanout_last(w->fanout, "Freeze", ":one");
	assert_string_equal(json_string_value(json_array_get(call->args, 0)), s->id);
	assert_string_equal(json_string_value(json_array_get(call->args, 1)), s->set);
	assert_int_equal(json_integer_value(json_array_get(call->args, 2)), call->deadline);
	event = json_array_get(call->args, 3);
	assert_string_equal(json_string_value(json_object_get(event, "BackupType")), "full");
	assert_true(json_is_true(json_object_get(event, "Persistent")));
	assert_string_equal(json_string_value(json_array_get(json_object_get(event, "Components"), 0)), "/data/one");
	volume = json_array_get(json_object_get(event, "Volumes"), 0);
	assert_string_equal(json_string_value(json_object_get(volume, "Path")), "/data");
	assert_int_equal(json_integer_value(json_object_get(volume, "InstantGroup")), 1);
	assert_null(json_object_get(volume, "Copy"));
	call = fake_fanout_last(w->fanout, "PostSnapshot", ":one");
	volume = json_array_get(json_object_get(json_array_get(call->args, 3), "Volumes"), 0);
	assert_int_equal(call->n_fds, 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(volume, "Copy"), "$fd")), 0);
	assert_true(json_is_false(json_object_get(json_array_get(call->args, 3), "More")));
}

/* 40 volumes: 16 directories a message, More on all but the last, each volume once. */
static void many_copies_in_messages(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };
	char paths[1024] = "";
	size_t used = 0;

	for (int i = 0; i < 40; i++) {
		char id[16], path[16];
		snprintf(id, sizeof id, "v%d", i);
		snprintf(path, sizeof path, "/v%d", i);
		fake_workers_volume(w->workers, path, id, NULL);
		used += (size_t)snprintf(paths + used, sizeof paths - used, "%s%s", i ? ":" : "", path);
		world_add(w, s, id);
	}
	world_writer(w, "wide", "front-end", paths, NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "PostSnapshot", .mode = FAKE_HOLD });
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	for (int message = 0; message < 3; message++) {
		const struct fake_call *call = fake_fanout_last(w->fanout, "PostSnapshot", ":wide");
		json_t *more = json_object_get(json_array_get(call->args, 3), "More");
		assert_true(call->open);
		assert_int_equal(call->n_fds, message < 2 ? 16 : 8);
		assert_int_equal(json_is_true(more), message < 2);
		fake_fanout_answer(w->fanout, "PostSnapshot", ":wide", VSS_OK, NULL);
		world_turns(w);
	}
	assert_int_equal(tape_count("PostSnapshot"), 3);
	assert_state(s, "Created");
	assert_string_equal(world_result_text(w, "Instant"), "volume");
}

static void documents_are_kept(void **state)
{
	struct world *w = *state;
	struct session *s;
	json_t *request, *record, *writer;

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	world_writer(w, "other", "front-end", "/logs", NULL, NULL);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "PrepareBackup",
								.answer = "{\"Document\": \"{}\", \"Message\": \"hello\"}" });
	s = world_set(w);
	request = fake_workers_request(w->workers, "seal");
	record = json_object_get(json_array_get(json_object_get(request, "Members"), 0), "Record");
	assert_string_equal(json_string_value(json_object_get(record, "Set")), s->set);
	assert_string_equal(json_string_value(json_object_get(record, "Consistency")), "application");
	assert_string_equal(json_string_value(json_object_get(record, "Host")), WORLD_MACHINE);
	assert_int_equal(json_array_size(json_object_get(record, "Writers")), 2);
	writer = json_array_get(json_object_get(record, "Writers"), 0);
	assert_string_equal(json_string_value(json_object_get(writer, "Message")), "hello");
	assert_non_null(json_object_get(json_object_get(writer, "Documents"), "PrepareBackup"));
	assert_non_null(json_object_get(writer, "Metadata"));
	writer = json_array_get(json_object_get(record, "Writers"), 1);
	assert_true(json_is_false(json_object_get(writer, "Took")));
	assert_string_equal(json_string_value(json_object_get(writer, "Why")), "no component of it on these volumes");
}

/* Prepare and snapshot as two calls; what is not possible now is refused and changes nothing. */
static void steps_and_refusals(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	world_add(w, s, "data");
	assert_int_equal(session_complete(s, &err), -1);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	assert_int_equal(session_set_succeeded(s, true, NULL, NULL, &err), -1);
	assert_int_equal(session_gather(s, &err), 0);
	world_turns(w);
	assert_string_equal(w->operation, "GatherWriterMetadata");
	assert_state(s, "Idle");
	assert_int_equal(session_prepare(s, &err), 0);
	assert_int_equal(session_prepare(s, &err), -1);
	assert_int_equal(session_snapshot(s, &err), -1);
	assert_false(s->want_snapshot);
	world_turns(w);
	assert_string_equal(w->operation, "PrepareForBackup");
	assert_state(s, "Prepared");
	assert_int_equal(session_add_volume(s, fake_workers_volume_row(w->workers, "logs"), &err), -1);
	assert_int_equal(session_gather(s, &err), -1);
	assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	assert_state(s, "Created");
	assert_true(world_succeeded(w));
	assert_int_equal(session_snapshot(s, &err), -1);
	assert_int_equal(session_set_succeeded(s, false, "one", "/data", &err), 0);
	assert_int_equal(session_set_succeeded(s, false, NULL, NULL, &err), 0);
	assert_int_equal(session_complete(s, &err), 0);
	world_turns(w);
	json_t *event = json_array_get(fake_fanout_last(w->fanout, "BackupComplete", ":one")->args, 3);
	assert_true(json_is_false(json_object_get(event, "Succeeded")));
	assert_string_equal(json_string_value(json_array_get(json_object_get(event, "FailedComponents"), 0)), "one//data");
}

static void refused_volumes_and_bounds(void **state)
{
	struct world *w = *state;
	struct session *s = world_session(w);
	struct err err = { 0 };
	autojson json_t *unknown = json_pack("{ss ss ss}", "Path", "/mnt", "Id", "x", "Why", "nfs is not copied");

	assert_int_equal(session_add_volume(s, unknown, &err), -1);
	assert_int_equal(err.code, VSS_E_VOLUME_NOT_SUPPORTED);
	assert_non_null(strstr(err.text, "nfs is not copied"));
	world_add(w, s, "data");
	world_add(w, s, "data"); /* twice is once */
	assert_int_equal(s->n_members, 1);
	w->config.max_volumes = 1;
	assert_int_equal(session_add_volume(s, fake_workers_volume_row(w->workers, "logs"), &err), -1);
	assert_int_equal(err.code, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED);
	w->config.max_sessions = 1;
	struct session *second;
	struct session_options options = world_options();
	assert_int_equal(session_new(&second, &w->context, &options, ":r", 0, 1, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
}

/* volatile: gone at the end; persistent: stays; abort: gone even so. */
static void fate_of_copies(void **state)
{
	struct world *w = *state;
	static const struct {
		bool persistent, discard;
		size_t left;
	} rows[] = { { false, false, 0 }, { false, true, 0 }, { true, true, 0 }, { true, false, 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct session_options options = world_options();
		options.persistent = rows[i].persistent;
		struct session *s = world_set_with(w, &options);
		assert_state(s, "Created");
		session_close(s, rows[i].discard);
		world_turns(w);
		assert_int_equal(w->closed, i + 1);
		assert_int_equal(json_object_size(fake_workers_copies(w->workers)), rows[i].left);
		assert_int_equal(catalogue_count(w->catalogue), rows[i].left);
	}
}

static void failure_at_backup_complete_leaves_the_copy(void **state)
{
	struct world *w = *state;
	struct session *s;
	struct err err = { 0 };

	world_writer(w, "one", "front-end", "/data", NULL, NULL);
	s = world_set(w);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "BackupComplete",
								.mode = FAKE_ERROR,
								.error = VSS_E_WRITER_NON_RETRYABLE,
								.message = "log not truncated" });
	assert_int_equal(session_complete(s, &err), 0);
	world_turns(w);
	assert_state(s, "Completed");
	assert_false(world_succeeded(w));
	assert_non_null(strstr(world_result_text(w, "Message"), "log not truncated"));
	assert_int_equal(world_participant(s, "one")->writer->record.state, WRITER_STATE_FAILED_AT_BACKUP_COMPLETE);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 1);
	session_close(s, false);
	world_turns(w);
	world_assert_next_set_works(w);
}

static void repair_only_where_wanted(void **state)
{
	struct world *w = *state;

	world_writer(w, "one", "front-end", "/data", "[\"PrepareBackup\"]", NULL);
	assert_state(world_set(w), "Created");
	assert_int_equal(tape_count("job open"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_life, setup, teardown),
		cmocka_unit_test_setup_teardown(timeline_has_every_step, setup, teardown),
		cmocka_unit_test_setup_teardown(no_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(no_volumes, setup, teardown),
		cmocka_unit_test_setup_teardown(many_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(levels_wait_for_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(mask_of_events, setup, teardown),
		cmocka_unit_test_setup_teardown(what_events_carry, setup, teardown),
		cmocka_unit_test_setup_teardown(many_copies_in_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(documents_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(steps_and_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_volumes_and_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(fate_of_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(failure_at_backup_complete_leaves_the_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(repair_only_where_wanted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
