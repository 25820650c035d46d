/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvsswriter on a real bus: answers that come later, freezes that must not last, callers that must not be heard. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "writer-fixture.h"

#include "common/clock.h"

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

/* A vssd that stands still keeps its connection, and says nothing more. */
static void dead_man_when_the_hold_is_over(void **state)
{
	struct fixture *f = *state;
	struct vss_writer_ops ops = all_ops();
	struct stage_event event = { "Freeze", f->session, f->set };
	struct stage_answer answer;
	json_int_t sequence;
	uint64_t begin;

	ops.freeze_limit_msec = 20000;
	start_writer(f, &ops, 0);
	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	begin = clock_now();
	event.deadline = begin + 500000;
	stage_send(f->stage, &event, &answer);
	assert_int_equal(answer.error, VSS_OK);
	sequence = json_integer_value(json_object_get(answer.body, "Sequence"));
	stage_answer_clear(&answer);
	assert_true(wait_seen(f, VSS_EVENT_ABORT, 10000));
	assert_true(clock_now() - begin >= 1400000); /* a Thaw in time may be under way for a while */
	expect_thaw(f, sequence, false);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WRITER(answers_later_from_another_thread),
		WITH_WRITER(done_may_come_before_the_callback_ends),
		WITH_WRITER(a_late_answer_is_not_waited_for),
		WITH_WRITER(abort_cuts_a_pending_event_short),
		WITH_WRITER(identify_is_answered_while_busy),
		WITH_WRITER(a_thaw_that_overtakes_freeze_is_broken),
		WITH_WRITER(dead_man_at_the_freeze_limit),
		WITH_STAGE(dead_man_when_the_hold_is_over),
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
