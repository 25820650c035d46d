/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvsswriter on a real bus: registration, events in and out of order, embedding. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "writer-fixture.h"

#include "common/cleanup.h"
#include "common/clock.h"

/* ---- registration ---- */

static void registers_with_its_metadata(void **state)
{
	struct fixture *f = *state;
	json_t *m = stage_metadata(f->stage);
	json_t *component = json_array_get(json_object_get(m, "Components"), 0);
	json_t *files = json_array_get(json_object_get(component, "Files"), 0);

	assert_string_equal(json_string_value(json_object_get(m, "Name")), "Test Writer");
	assert_string_equal(json_string_value(json_object_get(m, "Level")), "back-end");
	assert_true(id_is_valid(json_string_value(json_object_get(m, "Instance"))));
	assert_int_equal(json_array_size(json_object_get(m, "Events")), 8);
	assert_int_equal(json_integer_value(json_object_get(m, "FreezeLimitUsec")), 400000);
	assert_string_equal(json_string_value(json_object_get(component, "Type")), "database");
	assert_string_equal(json_string_value(json_object_get(files, "Path")), "/srv/data");
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
}

static void registers_again_when_vssd_restarts(void **state)
{
	struct fixture *f = *state;
	struct err err;
	const char *text;

	stage_vanish(f->stage);
	stage_wait(f->stage, 100);
	assert_int_equal(vss_writer_status(f->writer, &text), VSS_WRITER_UNREGISTERED);
	assert_string_equal(text, "vssd has gone");
	assert_int_equal(stage_appear(f->stage, &err), 0);
	assert_true(stage_wait_registrations(f->stage, 2, 5000));
	stage_wait(f->stage, 50);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
	assert_int_equal(stage_registrations(f->stage), 2);
}

static void a_refusal_shows_and_is_tried_again(void **state)
{
	struct fixture *f = *state;
	struct err err;
	const char *text;

	stage_refuse_registrations(f->stage, true);
	stage_vanish(f->stage);
	assert_int_equal(stage_appear(f->stage, &err), 0);
	stage_wait(f->stage, 200);
	assert_int_equal(vss_writer_status(f->writer, &text), VSS_WRITER_UNREGISTERED);
	assert_non_null(strstr(text, "refused for this test"));
	stage_refuse_registrations(f->stage, false);
	assert_true(stage_wait_registrations(f->stage, 2, 5000));
}

static void outlives_the_bus(void **state)
{
	struct fixture *f = *state;
	struct err err;

	freeze(f);
	stage_vanish(f->stage);
	f->bus = bus_harness_stop(f->bus);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 2000));
	stage_wait(f->stage, 300);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_DISCONNECTED);
	f->bus = bus_harness_start(); /* the variable that names it is read anew at each attempt */
	stage_set_companion(f->stage, -1, NULL, NULL);
	stage_close(f->stage);
	assert_int_equal(stage_open(&f->stage, bus_harness_address(f->bus), &err), 0);
	stage_set_companion(f->stage, vss_writer_fd(f->writer), dispatch_writer, f->writer);
	assert_true(stage_wait_registrations(f->stage, 1, 10000));
	id_new(f->set);
	expect_thaw(f, freeze(f), true);
}

/* ---- events ---- */

static void goes_through_a_whole_session(void **state)
{
	struct fixture *f = *state;
	static const enum vss_event order[] = { VSS_EVENT_IDENTIFY,        VSS_EVENT_PREPARE_BACKUP,
						VSS_EVENT_PREPARE_SNAPSHOT, VSS_EVENT_FREEZE,
						VSS_EVENT_THAW,             VSS_EVENT_POST_SNAPSHOT,
						VSS_EVENT_BACKUP_COMPLETE,  VSS_EVENT_BACKUP_SHUTDOWN,
						VSS_EVENT_PRE_RESTORE,      VSS_EVENT_POST_RESTORE };
	struct stage_answer answer;

	stage_call(f->stage, "Identify", "a{sv}", json_pack("[{}]"), &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_string_equal(json_string_value(json_object_get(answer.body, "Version")), "1.2");
	stage_answer_clear(&answer);
	assert_int_equal(send_event(f, "PrepareBackup"), VSS_OK);
	json_int_t sequence = freeze(f);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_FROZEN);
	expect_thaw(f, sequence, true);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
	assert_int_equal(send_event(f, "PostSnapshot"), VSS_OK);
	assert_int_equal(send_event(f, "BackupComplete"), VSS_OK);
	assert_int_equal(send_event(f, "BackupShutdown"), VSS_OK);
	assert_int_equal(send_event(f, "PreRestore"), VSS_OK);
	assert_int_equal(send_event(f, "PostRestore"), VSS_OK);
	assert_int_equal(f->n_seen, ARRAY_SIZE(order));
	assert_memory_equal(f->seen, order, sizeof order);
}

static void see_details(struct fixture *f, const struct vss_event_info *event)
{
	if (event->event != VSS_EVENT_POST_SNAPSHOT)
		return;
	assert_int_equal(event->n_volumes, 2);
	assert_int_equal(event->n_components, 1);
	assert_string_equal(event->components[0], "data");
	assert_string_equal(event->backup_type, "full");
	assert_true(event->persistent);
	assert_string_equal(event->session, f->session);
	assert_true(vss_event_covers_path(event, "/nowhere/else/file"));
	assert_false(vss_event_covers_path(event, "/nowhere-else"));
	for (size_t i = 0; i < event->n_volumes; i++)
		if (event->volumes[i].copy >= 0)
			assert_int_equal(fcntl(event->volumes[i].copy, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	vss_writer_set_message(f->writer, "repaired %s", "one");
	assert_int_equal(vss_writer_set_document(f->writer, "{\"lsn\": 7}"), 0);
	assert_int_equal(vss_writer_set_document(f->writer, "{"), -EINVAL);
}

static json_t *volume_details(const char *path, bool more)
{
	return json_pack("{ss sb sb s[{ss ss si s{si}}] s[s]}", "BackupType", "full", "Persistent", 1, "More", more,
			 "Volumes", "Path", path, "Id", path, "InstantGroup", 1, "Copy", "$fd", 0, "Components",
			 "data");
}

static void gathers_copies_of_several_messages(void **state)
{
	struct fixture *f = *state;
	autoclose int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autojson json_t *first = volume_details("/nowhere", true), *second = volume_details("/elsewhere", false);
	struct stage_event event = { "PostSnapshot", f->session, f->set, .details = first, .fds = &fd, .n_fds = 1 };
	struct stage_answer answer;

	f->inside = see_details;
	expect_thaw(f, freeze(f), true);
	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
	assert_false(wait_seen(f, VSS_EVENT_POST_SNAPSHOT, 20));
	event.details = second;
	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_string_equal(json_string_value(json_object_get(answer.body, "Message")), "repaired one");
	assert_string_equal(json_string_value(json_object_get(answer.body, "Document")), "{\"lsn\": 7}");
	stage_answer_clear(&answer);
	assert_true(wait_seen(f, VSS_EVENT_POST_SNAPSHOT, 20));
}

/* ---- doubts and checks ---- */

static int doubt_result, check_result;

static void say_more(struct fixture *f, const struct vss_event_info *event)
{
	doubt_result = vss_writer_add_doubt(f->writer, "guest web: no agent");
	check_result = vss_writer_add_check(f->writer, "web", "agent", VSS_VERDICT_BAD, "does not answer");
	assert_int_equal(vss_writer_add_doubt(f->writer, "\xFF"), -EINVAL);
	assert_int_equal(vss_writer_add_check(f->writer, "\xFF", "agent", VSS_VERDICT_OK, NULL), -EINVAL);
	assert_int_equal(vss_writer_add_check(f->writer, "web", "agent", (enum vss_verdict)3, NULL), -EINVAL);
}

static void say_more_in(struct fixture *f, const char *name, json_t *details, struct stage_answer *answer)
{
	const struct stage_event event = { .name = name, .session = f->session, .set = f->set, .details = details };

	f->inside = say_more;
	stage_send(f->stage, &event, answer);
	assert_int_equal(answer->error, VSS_OK);
	f->inside = NULL;
}

static void doubts_go_with_the_answer(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	say_more_in(f, "PrepareSnapshot", NULL, &answer);
	assert_int_equal(doubt_result, 0);
	assert_string_equal(json_string_value(json_array_get(json_object_get(answer.body, "Doubts"), 0)),
			    "guest web: no agent");
	assert_int_equal(check_result, -EINVAL);
	stage_answer_clear(&answer);
	say_more_in(f, "Abort", NULL, &answer);
	assert_int_equal(doubt_result, -EINVAL); /* there is no copy any more */
	assert_null(json_object_get(answer.body, "Doubts"));
	stage_answer_clear(&answer);
}

static void checks_go_with_a_rehearsal(void **state)
{
	struct fixture *f = *state;
	autojson json_t *plain = json_pack("{ss}", "BackupType", "copy"),
			*verify = json_pack("{ss sb}", "BackupType", "copy", "Verify", 1);
	struct stage_answer answer;

	say_more_in(f, "PrepareBackup", plain, &answer);
	assert_int_equal(check_result, -EINVAL);
	assert_null(json_object_get(answer.body, "Checks"));
	stage_answer_clear(&answer);
	say_more_in(f, "PrepareBackup", verify, &answer);
	assert_int_equal(check_result, 0);
	json_t *row = json_array_get(json_object_get(answer.body, "Checks"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "Verdict")), "bad");
	assert_string_equal(json_string_value(json_object_get(row, "Object")), "web");
	assert_string_equal(json_string_value(json_object_get(row, "Check")), "agent");
	assert_string_equal(json_string_value(json_object_get(row, "Text")), "does not answer");
	stage_answer_clear(&answer);
}

static void speak(struct fixture *f, const struct vss_event_info *event)
{
	vss_writer_set_message(f->writer, "no room \xFF in /srv");
}

static void tells_each_failure_by_its_name(void **state)
{
	struct fixture *f = *state;
	static const struct {
		enum vss_result result;
		enum vss_error error;
	} rows[] = {
		{ VSS_RESULT_INCONSISTENT_SNAPSHOT, VSS_E_WRITER_INCONSISTENT_SNAPSHOT },
		{ VSS_RESULT_OUT_OF_RESOURCES, VSS_E_WRITER_OUT_OF_RESOURCES },
		{ VSS_RESULT_TIMED_OUT, VSS_E_WRITER_TIMED_OUT },
		{ VSS_RESULT_RETRYABLE, VSS_E_WRITER_RETRYABLE },
		{ VSS_RESULT_NON_RETRYABLE, VSS_E_WRITER_NON_RETRYABLE },
		{ (enum vss_result)-77, VSS_E_WRITER_NON_RETRYABLE },
	};
	struct stage_answer answer;

	f->inside = speak;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		f->results[VSS_EVENT_PREPARE_BACKUP] = rows[i].result;
		assert_int_equal(send_full(f, "PrepareBackup", f->session, f->set, &answer), rows[i].error);
		assert_non_null(strstr(answer.message, "no room ? in /srv"));
		stage_answer_clear(&answer);
	}
}

static void refuses_what_is_out_of_order(void **state)
{
	struct fixture *f = *state;
	char other[ID_SIZE];
	struct stage_answer answer;

	id_new(other);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_BAD_STATE);
	assert_int_equal(send_event(f, "Thaw"), VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(send_event(f, "PostSnapshot"), VSS_E_OBJECT_NOT_FOUND);
	json_int_t sequence = freeze(f);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_BAD_STATE);
	assert_int_equal(send_full(f, "Thaw", f->session, other, &answer), VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(send_full(f, "Thaw", other, f->set, &answer), VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(send_full(f, "PrepareSnapshot", other, other, &answer), VSS_E_SNAPSHOT_SET_IN_PROGRESS);
	assert_int_equal(send_full(f, "Freeze", other, other, &answer), VSS_E_SNAPSHOT_SET_IN_PROGRESS);
	assert_int_equal(send_full(f, "Thaw", "no id", f->set, &answer), VSS_E_INVALID_ARGUMENT);
	assert_int_equal(send_event(f, "PostSnapshot"), VSS_E_BAD_STATE);
	assert_int_equal(send_event(f, "BackupComplete"), VSS_E_BAD_STATE);
	expect_thaw(f, sequence, true);
	assert_int_equal(send_event(f, "Thaw"), VSS_E_BAD_STATE);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_BAD_STATE);
	assert_int_equal(f->n_seen, 3); /* PrepareSnapshot, Freeze, Thaw */
}

static void refuses_a_deadline_that_is_over(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "PrepareBackup", f->session, f->set, .deadline = clock_now() - 5000 };
	struct stage_answer answer;

	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	assert_int_equal(f->n_seen, 0);
	stage_answer_clear(&answer);
}

static void abort_comes_at_any_time_and_twice(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_int_equal(send_event(f, "PrepareBackup"), VSS_OK);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	freeze(f);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
	assert_int_equal(send_event(f, "Thaw"), VSS_E_OBJECT_NOT_FOUND);
	id_new(f->set);
	expect_thaw(f, freeze(f), true);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
}

static void sequence_numbers_are_never_used_twice(void **state)
{
	struct fixture *f = *state;
	json_int_t last = 0;

	for (int i = 0; i < 5; i++) {
		id_new(f->set);
		json_int_t sequence = freeze(f);
		assert_true(sequence > last);
		last = sequence;
		expect_thaw(f, sequence, true);
	}
}

static void unknown_events_are_unknown_methods(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	send_full(f, "NoSuchEvent", f->session, f->set, &answer);
	assert_string_equal(answer.error_name, "org.freedesktop.DBus.Error.UnknownMethod");
}

static void other_sessions_wait_for_the_thaw(void **state)
{
	struct fixture *f = *state;
	char other[ID_SIZE];
	struct stage_event event = { "BackupComplete", other, "" };
	struct stage_answer answer;
	bool done;

	id_new(other);
	json_int_t sequence = freeze(f);
	stage_begin(f->stage, &event, &answer, &done);
	assert_false(stage_settle(f->stage, &done, 50));
	expect_thaw(f, sequence, true);
	assert_true(stage_settle(f->stage, &done, 1000));
	assert_int_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
}

/* ---- embedding ---- */

static void runs_on_a_thread_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct vss_writer_ops ops = all_ops();

	start_writer(f, &ops, VSS_WRITER_THREAD);
	expect_thaw(f, freeze(f), true);
	freeze(f);
	f->writer = vss_writer_free(f->writer);
	assert_int_equal(f->seen[f->n_seen - 1], VSS_EVENT_ABORT);
}

static void takes_ops_of_an_older_version(void **state)
{
	struct fixture *f = *state;
	struct vss_writer_ops ops = all_ops();

	/* Everything behind thaw is from later headers: such a program's memory ends there. */
	ops.size = offsetof(struct vss_writer_ops, thaw) + sizeof ops.thaw;
	struct vss_writer_ops *old = malloc(ops.size);
	memcpy(old, &ops, ops.size);
	start_writer(f, old, 0);
	free(old);
	assert_int_equal(json_array_size(json_object_get(stage_metadata(f->stage), "Events")), 1); /* Identify */
	assert_int_equal(send_event(f, "Freeze"), VSS_OK);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_int_equal(f->seen[f->n_seen - 1], VSS_EVENT_ABORT); /* delivered to thaw */
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void leaks_no_descriptors(void **state)
{
	struct fixture *f = *state;
	struct vss_writer_ops ops = all_ops();
	unsigned before = count_fds();

	for (int i = 0; i < 3; i++) {
		start_writer(f, &ops, 0);
		id_new(f->set);
		expect_thaw(f, freeze(f), true);
		stage_set_companion(f->stage, -1, NULL, NULL);
		f->writer = vss_writer_free(f->writer);
		stage_wait(f->stage, 50);
	}
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WRITER(registers_with_its_metadata),
		WITH_WRITER(registers_again_when_vssd_restarts),
		WITH_WRITER(a_refusal_shows_and_is_tried_again),
		WITH_WRITER(outlives_the_bus),
		WITH_WRITER(goes_through_a_whole_session),
		WITH_WRITER(gathers_copies_of_several_messages),
		WITH_WRITER(doubts_go_with_the_answer),
		WITH_WRITER(checks_go_with_a_rehearsal),
		WITH_WRITER(tells_each_failure_by_its_name),
		WITH_WRITER(refuses_what_is_out_of_order),
		WITH_WRITER(refuses_a_deadline_that_is_over),
		WITH_WRITER(abort_comes_at_any_time_and_twice),
		WITH_WRITER(sequence_numbers_are_never_used_twice),
		WITH_WRITER(unknown_events_are_unknown_methods),
		WITH_WRITER(other_sessions_wait_for_the_thaw),
		WITH_STAGE(runs_on_a_thread_of_its_own),
		WITH_STAGE(takes_ops_of_an_older_version),
		WITH_STAGE(leaks_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
