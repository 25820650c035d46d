/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvsswriter against a real bus: the library runs in the test's own thread, a stage plays vssd. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <vsswriter.h>

#include "bus-harness.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "stage.h"

#define EVENTS_MAX 64

struct fixture {
	struct bus_harness *bus;
	struct stage *stage;
	struct vss_writer *writer;
	char session[ID_SIZE], set[ID_SIZE];

	enum vss_event seen[EVENTS_MAX]; /* callbacks, in their order */
	unsigned n_seen;
	enum vss_result results[16]; /* what each event's callback returns */
	void (*inside)(struct fixture *f, const struct vss_event_info *event);
	pthread_t thread;
	int thread_results[3];
};

static enum vss_result on_event(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct fixture *f = data;

	if (f->n_seen < EVENTS_MAX)
		f->seen[f->n_seen++] = event->event;
	if (f->inside)
		f->inside(f, event);
	return f->results[event->event];
}

static struct vss_writer_ops all_ops(void)
{
	return (struct vss_writer_ops){
		.size = sizeof(struct vss_writer_ops),
		.version = VSS_WRITER_API_VERSION,
		.id = "b2014c9e-8711-4c5c-a5a9-3cf384484757",
		.name = "Test Writer",
		.app_version = "1.2",
		.level = VSS_LEVEL_BACK_END,
		.freeze_limit_msec = 400,
		.freeze = on_event,
		.thaw = on_event,
		.abort = on_event,
		.identify = on_event,
		.prepare_backup = on_event,
		.prepare_snapshot = on_event,
		.post_snapshot = on_event,
		.backup_complete = on_event,
		.backup_shutdown = on_event,
		.pre_restore = on_event,
		.post_restore = on_event,
	};
}

static int dispatch_writer(void *data)
{
	return vss_writer_dispatch(data);
}

static void start_writer(struct fixture *f, const struct vss_writer_ops *ops, unsigned flags)
{
	char error[256];

	if (vss_writer_new(&f->writer, ops, f, error, sizeof error) < 0)
		fail_msg("vss_writer_new: %s", error);
	const struct vss_component component = {
		.size = sizeof component,
		.name = "data",
		.database = true,
		.files = (struct vss_file_set[]){ { "/srv/data", "*", true } },
		.n_files = 1,
	};
	assert_int_equal(vss_writer_add_component(f->writer, &component), 0);
	assert_int_equal(vss_writer_start(f->writer, flags, NULL), 0);
	if (!(flags & VSS_WRITER_THREAD))
		stage_set_companion(f->stage, vss_writer_fd(f->writer), dispatch_writer, f->writer);
	assert_true(stage_wait_registrations(f->stage, 1, 10000));
	stage_wait(f->stage, 20); /* its answer arrives */
}

static int set_up_stage(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct err err;

	f->bus = bus_harness_start();
	assert_non_null(f->bus);
	if (stage_open(&f->stage, bus_harness_address(f->bus), &err) < 0)
		fail_msg("%s", err.text);
	id_new(f->session);
	id_new(f->set);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	struct vss_writer_ops ops = all_ops();

	set_up_stage(state);
	start_writer(*state, &ops, 0);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	stage_set_companion(f->stage, -1, NULL, NULL);
	vss_writer_free(f->writer);
	stage_close(f->stage);
	bus_harness_stop(f->bus);
	free(f);
	return 0;
}

static enum vss_error send_full(struct fixture *f, const char *name, const char *session, const char *set,
				struct stage_answer *answer)
{
	struct stage_event event = { .name = name, .session = session, .set = set };

	stage_send(f->stage, &event, answer);
	return answer->error;
}

static enum vss_error send_event(struct fixture *f, const char *name)
{
	struct stage_answer answer;
	enum vss_error error = send_full(f, name, f->session, f->set, &answer);

	stage_answer_clear(&answer);
	return error;
}

static json_int_t freeze(struct fixture *f)
{
	struct stage_answer answer;

	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	assert_int_equal(send_full(f, "Freeze", f->session, f->set, &answer), VSS_OK);
	json_int_t sequence = json_integer_value(json_object_get(answer.body, "Sequence"));
	assert_true(sequence > 0);
	stage_answer_clear(&answer);
	return sequence;
}

static void expect_thaw(struct fixture *f, json_int_t sequence, bool unbroken)
{
	struct stage_answer answer;

	assert_int_equal(send_full(f, "Thaw", f->session, f->set, &answer), VSS_OK);
	assert_int_equal(json_integer_value(json_object_get(answer.body, "Sequence")), sequence);
	assert_int_equal(json_is_true(json_object_get(answer.body, "Unbroken")), unbroken);
	stage_answer_clear(&answer);
}

static bool wait_seen(struct fixture *f, enum vss_event event, unsigned milliseconds)
{
	for (unsigned waited = 0; waited <= milliseconds; waited += 10) {
		for (unsigned i = 0; i < f->n_seen; i++)
			if (f->seen[i] == event)
				return true;
		stage_wait(f->stage, 10);
	}
	return false;
}

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

/* ---- later answers ---- */

static void *answer_from_another_thread(void *data)
{
	struct fixture *f = data;

	usleep(30000);
	f->thread_results[0] = vss_writer_keep_alive(f->writer);
	usleep(30000);
	f->thread_results[1] = vss_writer_done(f->writer, VSS_EVENT_FREEZE, VSS_RESULT_OK, NULL);
	f->thread_results[2] = vss_writer_done(f->writer, VSS_EVENT_PREPARE_SNAPSHOT, VSS_RESULT_OK, "took a while");
	return NULL;
}

static void start_answering_thread(struct fixture *f, const struct vss_event_info *event)
{
	if (event->event == VSS_EVENT_PREPARE_SNAPSHOT)
		pthread_create(&f->thread, NULL, answer_from_another_thread, f);
}

static void answers_later_from_another_thread(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	f->inside = start_answering_thread;
	f->results[VSS_EVENT_PREPARE_SNAPSHOT] = VSS_RESULT_LATER;
	assert_int_equal(send_full(f, "PrepareSnapshot", f->session, f->set, &answer), VSS_OK);
	assert_string_equal(json_string_value(json_object_get(answer.body, "Message")), "took a while");
	assert_true(answer.elapsed >= 50000);
	stage_answer_clear(&answer);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->thread_results[0], 0);
	assert_int_equal(f->thread_results[1], -EALREADY);
	assert_int_equal(f->thread_results[2], 0);
	assert_int_equal(stage_keep_alives(f->stage), 1);
	assert_int_equal(vss_writer_done(f->writer, VSS_EVENT_PREPARE_SNAPSHOT, VSS_RESULT_OK, NULL), -EALREADY);
}

static void done_at_once(struct fixture *f, const struct vss_event_info *event)
{
	if (event->event == VSS_EVENT_PREPARE_BACKUP)
		assert_int_equal(vss_writer_done(f->writer, event->event, VSS_RESULT_RETRYABLE, "quick"), 0);
}

static void done_may_come_before_the_callback_ends(void **state)
{
	struct fixture *f = *state;

	f->inside = done_at_once;
	f->results[VSS_EVENT_PREPARE_BACKUP] = VSS_RESULT_LATER;
	assert_int_equal(send_event(f, "PrepareBackup"), VSS_E_WRITER_RETRYABLE);
}

static void a_late_answer_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "PrepareBackup", f->session, f->set, .deadline = clock_now() + 100000 };
	struct stage_answer answer;

	f->results[VSS_EVENT_PREPARE_BACKUP] = VSS_RESULT_LATER;
	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	stage_answer_clear(&answer);
	assert_int_equal(vss_writer_done(f->writer, VSS_EVENT_PREPARE_BACKUP, VSS_RESULT_OK, NULL), -EALREADY);
}

static void abort_cuts_a_pending_event_short(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "PrepareSnapshot", f->session, f->set };
	struct stage_answer answer;
	bool done;

	f->results[VSS_EVENT_PREPARE_SNAPSHOT] = VSS_RESULT_LATER;
	stage_begin(f->stage, &event, &answer, &done);
	assert_true(wait_seen(f, VSS_EVENT_PREPARE_SNAPSHOT, 1000));
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_true(stage_settle(f->stage, &done, 1000));
	assert_int_equal(answer.error, VSS_E_CANCELLED);
	stage_answer_clear(&answer);
	assert_int_equal(vss_writer_done(f->writer, VSS_EVENT_PREPARE_SNAPSHOT, VSS_RESULT_OK, NULL), -EALREADY);
}

static void identify_is_answered_while_busy(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "PrepareBackup", f->session, f->set };
	struct stage_answer pending, answer;
	bool done;

	f->results[VSS_EVENT_PREPARE_BACKUP] = VSS_RESULT_LATER;
	stage_begin(f->stage, &event, &pending, &done);
	assert_true(wait_seen(f, VSS_EVENT_PREPARE_BACKUP, 1000));
	stage_call(f->stage, "Identify", "a{sv}", json_pack("[{}]"), &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_string_equal(json_string_value(json_object_get(answer.body, "Name")), "Test Writer");
	stage_answer_clear(&answer);
	assert_int_equal(vss_writer_done(f->writer, VSS_EVENT_PREPARE_BACKUP, VSS_RESULT_OK, NULL), 0);
	assert_true(stage_settle(f->stage, &done, 1000));
	stage_answer_clear(&pending);
}

static void a_thaw_that_overtakes_freeze_is_broken(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "Freeze", f->session, f->set };
	struct stage_answer frozen, thawed;
	bool done;

	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	f->results[VSS_EVENT_FREEZE] = VSS_RESULT_LATER;
	stage_begin(f->stage, &event, &frozen, &done);
	assert_true(wait_seen(f, VSS_EVENT_FREEZE, 1000));
	assert_int_equal(send_full(f, "Thaw", f->session, f->set, &thawed), VSS_OK);
	assert_true(json_is_false(json_object_get(thawed.body, "Unbroken")));
	stage_answer_clear(&thawed);
	assert_true(stage_settle(f->stage, &done, 1000));
	assert_int_equal(frozen.error, VSS_E_CANCELLED);
	stage_answer_clear(&frozen);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 0));
}

/* ---- the dead-man ---- */

static void dead_man_at_the_freeze_limit(void **state)
{
	struct fixture *f = *state;
	json_int_t sequence = freeze(f);
	uint64_t begin = clock_now();

	assert_true(wait_seen(f, VSS_EVENT_ABORT, 2000));
	assert_in_range(clock_now() - begin, 350000, 900000);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
	expect_thaw(f, sequence, false);
	assert_int_equal(f->n_seen, 3); /* thaw is not called any more */
	id_new(f->set);
	expect_thaw(f, freeze(f), true);
}

static void dead_man_when_a_freeze_is_never_answered(void **state)
{
	struct fixture *f = *state;
	struct stage_event event = { "Freeze", f->session, f->set };
	struct stage_answer answer;

	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	f->results[VSS_EVENT_FREEZE] = VSS_RESULT_LATER;
	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_E_WRITER_TIMED_OUT);
	stage_answer_clear(&answer);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 100));
}

static void too_slow(struct fixture *f, const struct vss_event_info *event)
{
	if (event->event == VSS_EVENT_FREEZE)
		usleep(450000);
}

static void dead_man_when_freeze_itself_takes_too_long(void **state)
{
	struct fixture *f = *state;

	f->inside = too_slow;
	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_WRITER_TIMED_OUT);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 100));
}

static void dead_man_when_vssd_goes(void **state)
{
	struct fixture *f = *state;
	struct err err;
	json_int_t sequence = freeze(f);
	uint64_t begin = clock_now();

	stage_vanish(f->stage);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 1000));
	assert_true(clock_now() - begin < 300000);
	assert_int_equal(stage_appear(f->stage, &err), 0);
	assert_true(stage_wait_registrations(f->stage, 2, 5000));
	expect_thaw(f, sequence, false);
}

static void dead_man_when_the_freezing_connection_goes(void **state)
{
	struct fixture *f = *state;
	struct err err;
	json_int_t sequence = freeze(f);

	assert_int_equal(stage_new_sender(f->stage, &err), 0);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 300));
	expect_thaw(f, sequence, false);
}

static void prepared_sessions_hear_abort_when_vssd_goes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send_event(f, "PrepareBackup"), VSS_OK);
	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	stage_vanish(f->stage);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 1000));
}

static void the_application_may_break_its_freeze(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	assert_int_equal(vss_writer_break_freeze(f->writer, NULL), -EALREADY);
	freeze(f);
	assert_int_equal(vss_writer_break_freeze(f->writer, "the operator unlocked it"), 0);
	assert_int_equal(send_full(f, "Thaw", f->session, f->set, &answer), VSS_OK);
	assert_true(json_is_false(json_object_get(answer.body, "Unbroken")));
	assert_string_equal(json_string_value(json_object_get(answer.body, "Message")), "the operator unlocked it");
	stage_answer_clear(&answer);
	assert_int_equal(f->n_seen, 2);
}

static void a_failed_freeze_is_undone_by_thaw_or_abort(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	f->results[VSS_EVENT_FREEZE] = VSS_RESULT_RETRYABLE;
	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_WRITER_RETRYABLE);
	assert_int_equal(send_full(f, "Thaw", f->session, f->set, &answer), VSS_OK);
	assert_true(json_is_false(json_object_get(answer.body, "Unbroken")));
	stage_answer_clear(&answer);
	assert_true(wait_seen(f, VSS_EVENT_THAW, 0));
	id_new(f->set);
	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	assert_int_equal(send_event(f, "Freeze"), VSS_E_WRITER_RETRYABLE);
	assert_int_equal(send_event(f, "Abort"), VSS_OK);
	assert_int_equal(vss_writer_status(f->writer, NULL), VSS_WRITER_REGISTERED);
}

static void freeing_a_frozen_writer_aborts(void **state)
{
	struct fixture *f = *state;

	freeze(f);
	stage_set_companion(f->stage, -1, NULL, NULL);
	f->writer = vss_writer_free(f->writer);
	assert_int_equal(f->seen[f->n_seen - 1], VSS_EVENT_ABORT);
}

/* ---- a coordinator and a caller in processes of their own ---- */

static void play_vssd_until_killed(const char *address, int report)
{
	struct stage *stage;
	char session[ID_SIZE], set[ID_SIZE];
	struct err err;

	id_new(session);
	id_new(set);
	if (stage_open(&stage, address, &err) == 0 && stage_wait_registrations(stage, 1, 10000)) {
		struct stage_answer prepared, frozen;
		stage_send(stage, &(struct stage_event){ "PrepareSnapshot", session, set }, &prepared);
		stage_send(stage, &(struct stage_event){ "Freeze", session, set }, &frozen);
		(void)!write(report, frozen.error ? "N" : "Y", 1);
		stage_wait(stage, 60000);
	}
	_exit(1);
}

static void dead_man_when_vssd_is_killed(void **state)
{
	struct fixture *f = *state;
	int report[2];
	char frozen = 0;

	stage_vanish(f->stage);
	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0)
		play_vssd_until_killed(bus_harness_address(f->bus), report[1]);
	close(report[1]);
	fcntl(report[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 500 && read(report[0], &frozen, 1) != 1; i++)
		stage_wait(f->stage, 10);
	close(report[0]);
	assert_int_equal(frozen, 'Y');
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 300));
}

static void freeze_as_nobody(const struct fixture *f, int report)
{
	struct bus *bus;
	struct err err = { 0 };

	if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0 ||
	    bus_open(&bus, bus_harness_address(f->bus), &err) < 0)
		_exit(1);
	bus_call_sync(bus, stage_writer_name(f->stage), "/org/vssd/Writer", "org.vssd.Writer1", "Freeze", "ssta{sv}",
		      json_pack("[ssI{}]", f->session, f->set, (json_int_t)clock_now() + 1000000), NULL, 0,
		      clock_now() + 5000000, NULL, NULL, 0, NULL, &err);
	char code = (char)err.code;
	(void)!write(report, &code, 1);
	_exit(0);
}

static void strangers_are_refused(void **state)
{
	struct fixture *f = *state;
	int report[2];
	char code = 0;

	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe2(report, O_CLOEXEC | O_NONBLOCK), 0);
	pid_t pid = fork();
	if (pid == 0)
		freeze_as_nobody(f, report[1]);
	close(report[1]);
	for (int i = 0; i < 500 && read(report[0], &code, 1) != 1; i++)
		stage_wait(f->stage, 10);
	close(report[0]);
	waitpid(pid, NULL, 0);
	assert_int_equal(code, VSS_E_ACCESS_DENIED);
	assert_int_equal(f->n_seen, 0);
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

#define WITH_WRITER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_STAGE(test) cmocka_unit_test_setup_teardown(test, set_up_stage, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WRITER(registers_with_its_metadata),
		WITH_WRITER(registers_again_when_vssd_restarts),
		WITH_WRITER(a_refusal_shows_and_is_tried_again),
		WITH_WRITER(outlives_the_bus),
		WITH_WRITER(goes_through_a_whole_session),
		WITH_WRITER(gathers_copies_of_several_messages),
		WITH_WRITER(tells_each_failure_by_its_name),
		WITH_WRITER(refuses_what_is_out_of_order),
		WITH_WRITER(refuses_a_deadline_that_is_over),
		WITH_WRITER(abort_comes_at_any_time_and_twice),
		WITH_WRITER(sequence_numbers_are_never_used_twice),
		WITH_WRITER(unknown_events_are_unknown_methods),
		WITH_WRITER(other_sessions_wait_for_the_thaw),
		WITH_WRITER(answers_later_from_another_thread),
		WITH_WRITER(done_may_come_before_the_callback_ends),
		WITH_WRITER(a_late_answer_is_not_waited_for),
		WITH_WRITER(abort_cuts_a_pending_event_short),
		WITH_WRITER(identify_is_answered_while_busy),
		WITH_WRITER(a_thaw_that_overtakes_freeze_is_broken),
		WITH_WRITER(dead_man_at_the_freeze_limit),
		WITH_WRITER(dead_man_when_a_freeze_is_never_answered),
		WITH_WRITER(dead_man_when_freeze_itself_takes_too_long),
		WITH_WRITER(dead_man_when_vssd_goes),
		WITH_WRITER(dead_man_when_the_freezing_connection_goes),
		WITH_WRITER(prepared_sessions_hear_abort_when_vssd_goes),
		WITH_WRITER(the_application_may_break_its_freeze),
		WITH_WRITER(a_failed_freeze_is_undone_by_thaw_or_abort),
		WITH_WRITER(freeing_a_frozen_writer_aborts),
		WITH_WRITER(dead_man_when_vssd_is_killed),
		WITH_WRITER(strangers_are_refused),
		WITH_STAGE(runs_on_a_thread_of_its_own),
		WITH_STAGE(takes_ops_of_an_older_version),
		WITH_STAGE(leaks_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
