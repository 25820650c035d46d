/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guests in a set: agents that behave, and such that fail, hang, lie or die in each event. Whatever happens, no guest stays
 * frozen, and the next set works. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu-fixture.h"

static bool none_frozen(struct fixture *f)
{
	return !fake_agent_is_frozen(f->web) && !fake_agent_is_frozen(f->db) && !has_note(f, "web") && !has_note(f, "db");
}

/* An agent that could not be reached is thawed by the warden, and its note goes. */
static void expect_next_set_works(struct fixture *f)
{
	assert_true(wait_until(f, none_frozen, 15000));
	expect_good_set(f);
}

/* ---- sets ---- */

static void both_are_frozen_and_thawed(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	assert_string_equal(json_string_value(json_object_get(stage_metadata(f->stage), "Level")), "system");
	expect_good_set(f);
	expect_good_set(f);
	assert_int_equal(fake_agent_count(f->web, "guest-fsfreeze-freeze"), 2);
}

static void components_name_the_files_of_the_disks(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_writer(f, "");
	stage_call(f->stage, "Identify", "a{sv}", json_pack("[{}]"), &answer);
	json_t *component = json_array_get(json_object_get(answer.body, "Components"), 0);
	json_t *file = json_array_get(json_object_get(component, "Files"), 0);
	assert_string_equal(json_string_value(json_object_get(component, "Name")), "web");
	assert_string_equal(json_string_value(json_object_get(file, "Path")), f->directory);
	assert_string_equal(json_string_value(json_object_get(file, "Spec")), "web.img");
	stage_answer_clear(&answer);
}

static void thaw_tells_what_became_of_each(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_writer(f, "");
	f->db = fake_agent_stop(f->db);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	send_to(f, "Thaw", "web db", 20000, &answer);
	autojson json_t *document = json_loads(json_string_value(json_object_get(answer.body, "Document")), 0, NULL);
	json_t *web = json_object_get(document, "web"), *db = json_object_get(document, "db");
	assert_string_equal(json_string_value(json_object_get(web, "State")), "frozen");
	assert_int_equal(json_integer_value(json_object_get(web, "Filesystems")), 2);
	assert_true(json_integer_value(json_object_get(web, "FrozenUsec")) > 0);
	assert_string_equal(json_string_value(json_object_get(db, "State")), "off");
	stage_answer_clear(&answer);
}

static void only_those_in_the_set_are_frozen(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_writer(f, "");
	send_to(f, "PrepareSnapshot", "web", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
	send_to(f, "Freeze", "web", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_true(fake_agent_is_frozen(f->web));
	assert_false(fake_agent_is_frozen(f->db));
	stage_answer_clear(&answer);
	send_to(f, "Thaw", "web", 20000, &answer);
	assert_true(json_is_true(json_object_get(answer.body, "Unbroken")));
	stage_answer_clear(&answer);
	assert_int_equal(fake_agent_count(f->db, "guest-sync-delimited"), 0);
}

static void some_filesystems_only_where_that_is_asked_for(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "Filesystems=/srv;/var/lib/x y");
	expect_good_set(f);
	assert_int_equal(fake_agent_count(f->web, "guest-fsfreeze-freeze"), 0);
	assert_string_equal(fake_agent_arguments(f->web, "guest-fsfreeze-freeze-list"),
			    "{\"mountpoints\":[\"/srv\",\"/var/lib/x y\"]}");
}

static void slow_ones_are_frozen_beside_each_other(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_writer(f, "FreezeLimit=5s");
	fake_agent_on(f->web, "guest-fsfreeze-freeze", BE_SLOW, 600, 0);
	fake_agent_on(f->db, "guest-fsfreeze-freeze", BE_SLOW, 600, 0);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	send_to(f, "Freeze", "web db", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_in_range(answer.elapsed, 600 * USEC_PER_MSEC, 1150 * USEC_PER_MSEC);
	stage_answer_clear(&answer);
	expect_unbroken(f, true);
}

static void an_abort_thaws(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(none_frozen(f));
	expect(f, "Abort", VSS_OK, NULL);
	expect_good_set(f);
}

/* ---- off ---- */

static void one_that_is_off_is_copied_as_it_is(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	f->db = fake_agent_stop(f->db);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	assert_true(fake_agent_is_frozen(f->web));
	assert_false(has_note(f, "db"));
	expect_unbroken(f, true);
}

/* As a running QEMU has it. */
static int lock_disk(struct fixture *f, const char *name)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1 };
	int fd = open(path_of(f, name), O_RDWR | O_CLOEXEC);

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	return fd;
}

static void one_without_an_agent_is_not_taken_for_off(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	f->db = fake_agent_stop(f->db);
	int fd = lock_disk(f, "db.img");
	expect(f, "PrepareSnapshot", VSS_E_WRITER_RETRYABLE, "db: the guest: it runs (a QEMU has");
	expect(f, "Abort", VSS_OK, NULL);
	close(fd);
	new_set(f);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Abort", VSS_OK, NULL);
}

static void one_that_was_started_meanwhile_spoils_the_copy(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	f->db = fake_agent_stop(f->db);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	f->db = fake_agent_start(path_of(f, "db.sock"));
	expect(f, "Thaw", VSS_E_WRITER_RETRYABLE, "was started while it was being copied");
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(none_frozen(f));
	expect_good_set(f);
}

/* ---- policy ---- */

static const char degrade[] = "OnFailure=degrade";

static void by_policy_one_that_fails_is_left_out_and_named(void **state)
{
	static const struct {
		const char *command, *event, *words;
		enum misbehaviour how;
	} rows[] = {
		{ "guest-sync-delimited", "PrepareSnapshot", "db: is in the copy as it ran", STALL },
		{ "guest-fsfreeze-status", "PrepareSnapshot", "cannot freeze", NOT_KNOWN },
		{ "guest-fsfreeze-freeze", "Freeze", "failed to freeze /srv", FAIL },
		{ "guest-fsfreeze-freeze", "Freeze", "does not answer", STAY_QUIET },
	};
	struct fixture *f = *state;

	start_writer(f, degrade);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_agent_on(f->db, rows[i].command, rows[i].how, 0, 1);
		new_set(f);
		if (strcmp(rows[i].event, "Freeze") == 0)
			expect(f, "PrepareSnapshot", VSS_OK, NULL);
		expect_doubt(f, rows[i].event, rows[i].words);
		if (strcmp(rows[i].event, "PrepareSnapshot") == 0)
			expect(f, "Freeze", VSS_OK, NULL);
		assert_true(fake_agent_is_frozen(f->web));
		expect_unbroken(f, true);
		fake_agent_release(f->db);
		expect_next_set_works(f);
	}
}

static void by_policy_a_freeze_that_did_not_hold_is_named(void **state)
{
	struct fixture *f = *state;

	start_writer(f, degrade);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	fake_agent_set_frozen(f->db, false);
	expect_doubt(f, "Thaw", "db: is in the copy as it ran, not frozen: it was thawed before its time");
	expect_good_set(f);
}

/* ---- agents that fail ---- */

static void preparing_finds_what_is_wrong(void **state)
{
	static const struct {
		const char *command, *words;
		enum misbehaviour how;
		enum vss_error error;
	} rows[] = {
		{ "guest-sync-delimited", "does not answer", STALL, VSS_E_WRITER_RETRYABLE },
		{ "guest-sync-delimited", "does not answer", WRONG_ID, VSS_E_WRITER_RETRYABLE },
		{ "guest-sync-delimited", "it hung up", HANG_UP, VSS_E_WRITER_RETRYABLE },
		{ "guest-sync-delimited", "does not answer", HUGE_LINE, VSS_E_WRITER_RETRYABLE },
		{ "guest-sync-delimited", "does not answer", FLOOD, VSS_E_WRITER_RETRYABLE },
		{ "guest-fsfreeze-status", "there was no answer in time", STAY_QUIET, VSS_E_WRITER_TIMED_OUT },
		{ "guest-fsfreeze-status", "no JSON", GARBAGE, VSS_E_WRITER_RETRYABLE },
		{ "guest-fsfreeze-status", "longer than 1 MiB", HUGE_LINE, VSS_E_WRITER_RETRYABLE },
		{ "guest-fsfreeze-status", "its answer is none", FLOOD, VSS_E_WRITER_RETRYABLE },
		{ "guest-fsfreeze-status", "there was no answer in time", HALF, VSS_E_WRITER_TIMED_OUT },
		{ "guest-fsfreeze-status", "makes no sense", NONSENSE, VSS_E_WRITER_RETRYABLE },
		{ "guest-fsfreeze-status", "has been disabled", NOT_KNOWN, VSS_E_WRITER_NON_RETRYABLE },
	};
	struct fixture *f = *state;

	start_writer(f, "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_agent_on(f->db, rows[i].command, rows[i].how, 0, 1);
		new_set(f);
		expect(f, "PrepareSnapshot", rows[i].error, rows[i].words);
		fake_agent_release(f->db);
		expect(f, "Abort", VSS_OK, NULL);
		assert_true(none_frozen(f));
		expect_next_set_works(f);
	}
}

static void one_that_is_frozen_already_is_left_alone(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	fake_agent_set_frozen(f->db, true);
	expect(f, "PrepareSnapshot", VSS_E_WRITER_RETRYABLE, "db: the guest: it is frozen already, by somebody else");
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(fake_agent_is_frozen(f->db));
	assert_int_equal(fake_agent_count(f->db, "guest-fsfreeze-thaw"), 0);
	fake_agent_set_frozen(f->db, false);
	expect_good_set(f);
}

static void a_freeze_that_fails_fails_the_set(void **state)
{
	static const struct {
		enum misbehaviour how;
		enum vss_error error;
		const char *words;
	} rows[] = {
		{ FAIL, VSS_E_WRITER_RETRYABLE, "db: the guest: it could not be frozen: guest-fsfreeze-freeze: failed to freeze /srv" },
		{ STAY_QUIET, VSS_E_WRITER_TIMED_OUT, "It is thawed as soon as it does" },
		{ HANG_UP, VSS_E_WRITER_RETRYABLE, "it hung up" },
		{ GARBAGE, VSS_E_WRITER_RETRYABLE, "no JSON" },
		{ HALF, VSS_E_WRITER_TIMED_OUT, "there was no answer in time" },
		{ HUGE_LINE, VSS_E_WRITER_RETRYABLE, "longer than 1 MiB" },
		{ NONSENSE, VSS_E_WRITER_RETRYABLE, "makes no sense" },
	};
	struct fixture *f = *state;

	start_writer(f, "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_agent_on(f->db, "guest-fsfreeze-freeze", rows[i].how, 0, 1);
		new_set(f);
		expect(f, "PrepareSnapshot", VSS_OK, NULL);
		expect(f, "Freeze", rows[i].error, rows[i].words);
		expect(f, "Abort", VSS_OK, NULL);
		assert_false(fake_agent_is_frozen(f->web));
		expect_next_set_works(f);
	}
}

static void a_freeze_that_freezes_nothing_is_none(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	fake_agent_say(f->db, "guest-fsfreeze-freeze", "0");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_E_WRITER_RETRYABLE, "froze none of its filesystems");
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(wait_until(f, none_frozen, 10000));
}

/* ---- late ones ---- */

static bool db_is_free(struct fixture *f)
{
	return !fake_agent_is_frozen(f->db) && !has_note(f, "db");
}

/* The agent freezes when nobody waits any more, and answers into the next question: that answer is not taken for one, and it is
 * thawed at once. */
static void a_freeze_that_comes_late_is_undone(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	fake_agent_on(f->db, "guest-fsfreeze-freeze", STALL, 0, 1);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_E_WRITER_TIMED_OUT, "db: the guest: its agent does not answer");
	expect(f, "Abort", VSS_OK, NULL);
	assert_false(fake_agent_is_frozen(f->web));
	assert_true(has_note(f, "db"));
	new_set(f);
	expect(f, "PrepareSnapshot", VSS_E_WRITER_RETRYABLE, "db: the guest: an earlier freeze was not undone yet");
	expect(f, "Abort", VSS_OK, NULL);
	fake_agent_release(f->db);
	assert_true(wait_until(f, db_is_free, 15000));
	assert_int_equal(fake_agent_count(f->db, "guest-fsfreeze-freeze"), 1); /* it has come */
	assert_int_equal(fake_agent_count(f->db, "guest-fsfreeze-thaw"), 1);
	expect_good_set(f);
}

static void an_abort_does_not_wait_for_a_freeze_that_hangs(void **state)
{
	struct fixture *f = *state;
	struct stage_answer frozen = { 0 }, answer;
	bool done = false;
	autojson json_t *details = json_pack("{s[ss]}", "Components", "web", "db");
	const struct stage_event event = {
		"Freeze", f->session, f->set, .deadline = clock_now() + 30 * USEC_PER_SEC, .details = details
	};

	start_writer(f, "FreezeLimit=20s");
	fake_agent_on(f->db, "guest-fsfreeze-freeze", STALL, 0, 1);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	stage_begin(f->stage, &event, &frozen, &done);
	stage_wait(f->stage, 300);
	send_to(f, "Abort", "web db", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_true(answer.elapsed < 5 * USEC_PER_SEC);
	stage_answer_clear(&answer);
	assert_true(stage_settle(f->stage, &done, 5000));
	stage_answer_clear(&frozen);
	assert_false(fake_agent_is_frozen(f->web));
	fake_agent_release(f->db);
	assert_true(wait_until(f, db_is_free, 15000));
	expect_good_set(f);
}

/* ---- thaw ---- */

static void one_that_was_thawed_meanwhile_spoils_the_copy(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	fake_agent_set_frozen(f->db, false);
	expect(f, "Thaw", VSS_E_WRITER_TIMED_OUT, "db: the guest: it was thawed before its time");
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(none_frozen(f));
	expect_good_set(f);
}

static void so_does_one_filesystem_of_it(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	fake_agent_thaw_one(f->db);
	expect(f, "Thaw", VSS_E_WRITER_TIMED_OUT, "of 2 frozen filesystems 1 were frozen to the end");
	expect(f, "Abort", VSS_OK, NULL);
	assert_true(none_frozen(f));
	expect_good_set(f);
}

static void a_thaw_that_fails_is_tried_until_it_works(void **state)
{
	static const enum misbehaviour how[] = { FAIL, STAY_QUIET, HANG_UP, GARBAGE };
	struct fixture *f = *state;

	start_writer(f, "");
	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		/* Those that execute it all the same have thawed it by then; the one that fails has not. */
		fake_agent_on(f->db, "guest-fsfreeze-thaw", how[i], 0, how[i] == FAIL ? 3 : 1);
		new_set(f);
		expect(f, "PrepareSnapshot", VSS_OK, NULL);
		expect(f, "Freeze", VSS_OK, NULL);
		struct stage_answer answer;
		send_to(f, "Thaw", "web db", 20000, &answer);
		assert_int_not_equal(answer.error, VSS_OK);
		assert_non_null(strstr(answer.message, "db: the guest: it cannot be thawed yet"));
		stage_answer_clear(&answer);
		assert_false(fake_agent_is_frozen(f->web));
		expect(f, "Abort", VSS_OK, NULL);
		expect_next_set_works(f);
	}
}

/* ---- a writer that dies ---- */

/* It takes its name when it has begun. */
static pid_t expect_warden(struct fixture *f)
{
	pid_t warden = warden_of(f);

	for (int i = 0; i < 250 && warden == 0; i++, stage_wait(f->stage, 20))
		warden = warden_of(f);
	if (warden <= 0)
		fail_msg("there is no warden");
	return warden;
}

static void killed_while_they_are_frozen(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	end_writer(f, SIGKILL);
	assert_true(wait_until(f, none_frozen, 10000));
	start_again(f);
	expect_good_set(f);
}

/* With its warden: then the next start thaws. */
static void killed_with_its_warden(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	pid_t warden = expect_warden(f);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	kill(warden, SIGKILL);
	end_writer(f, SIGKILL);
	assert_false(wait_until(f, none_frozen, 500));
	start_again(f);
	assert_true(wait_until(f, none_frozen, 10000));
	expect_good_set(f);
}

/* What a unit's ExecStopPost= runs. */
static void killed_with_its_warden_and_thawed_by_the_unit(void **state)
{
	struct fixture *f = *state;
	char command[600];

	start_writer(f, "");
	pid_t warden = expect_warden(f);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	kill(warden, SIGKILL);
	end_writer(f, SIGKILL);
	snprintf(command, sizeof command, "%s --thaw", getenv("QEMU_WRITER"));
	assert_int_equal(system(command), 0);
	assert_true(none_frozen(f));
}

static void a_dead_warden_is_replaced_before_anything_is_frozen(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	pid_t first = expect_warden(f);
	kill(first, SIGKILL);
	for (int i = 0; i < 100 && process_runs(first); i++)
		stage_wait(f->stage, 20);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	assert_int_not_equal(expect_warden(f), first);
	end_writer(f, SIGKILL);
	assert_true(wait_until(f, none_frozen, 10000));
}

static void ended_while_they_are_frozen(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	assert_int_equal(end_writer(f, SIGTERM), 0);
	assert_true(wait_until(f, none_frozen, 5000));
}

/* It cannot thaw, and has the agents' only connections: it is killed for it. */
static void one_that_stands_still_is_killed(void **state)
{
	struct fixture *f = *state;
	struct stage_answer answer;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	send_to(f, "Freeze", "web db", 1000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	stage_answer_clear(&answer);
	kill(f->writer, SIGSTOP);
	assert_true(wait_until(f, none_frozen, 20000));
	int status = 0;
	assert_int_equal(waitpid(f->writer, &status, 0), f->writer);
	assert_true(WIFSIGNALED(status));
	f->writer = 0;
}

static void the_coordinator_goes_while_they_are_frozen(void **state)
{
	struct fixture *f = *state;
	struct err err;

	start_writer(f, "");
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	unsigned before = stage_registrations(f->stage);
	stage_vanish(f->stage);
	assert_true(wait_until(f, none_frozen, 10000));
	assert_int_equal(stage_appear(f->stage, &err), 0);
	assert_true(stage_wait_registrations(f->stage, before + 1, 20000));
	stage_wait(f->stage, 20);
	expect_good_set(f);
}

/* ---- checklist ---- */

static json_t *checks_of(struct fixture *f)
{
	autojson json_t *details = json_pack("{sb s[ss] s[{ss ss si}]}", "Verify", 1, "Components", "web", "db", "Volumes",
					     "Path", f->directory, "Id", "v", "InstantGroup", 1);
	const struct stage_event event = {
		"PrepareBackup", f->session, f->set, .deadline = clock_now() + 20 * USEC_PER_SEC, .details = details
	};
	struct stage_answer answer;

	new_set(f);
	stage_send(f->stage, &event, &answer);
	if (answer.error)
		fail_msg("%s", answer.message);
	json_t *checks = json_incref(json_object_get(answer.body, "Checks"));
	stage_answer_clear(&answer);
	return checks;
}

static void expect_row(json_t *checks, const char *guest, const char *check, const char *verdict, const char *words)
{
	size_t i;
	json_t *row;

	json_array_foreach(checks, i, row) {
		if (strcmp(json_string_value(json_object_get(row, "Object")), guest) != 0 ||
		    strcmp(json_string_value(json_object_get(row, "Check")), check) != 0)
			continue;
		if (strcmp(json_string_value(json_object_get(row, "Verdict")), verdict) != 0 ||
		    !strstr(json_string_value(json_object_get(row, "Text")), words))
			fail_msg("%s %s is %s: %s", guest, check, json_string_value(json_object_get(row, "Verdict")),
				 json_string_value(json_object_get(row, "Text")));
		return;
	}
	fail_msg("%s %s was not checked", guest, check);
}

static void a_rehearsal_checks_without_freezing(void **state)
{
	struct fixture *f = *state;

	start_writer(f, "");
	autojson json_t *checks = checks_of(f);
	expect_row(checks, "web", "disks", "ok", "1 file");
	expect_row(checks, "web", "agent", "ok", "answers after");
	expect_row(checks, "web", "freeze", "ok", "can freeze");
	expect_row(checks, "web", "filesystems", "ok", "/ (ext4); cannot: /boot/efi (vfat)");
	expect_row(checks, "web", "free space", "ok", "5 %");
	expect_row(checks, "web", "shadow storage", "unknown", "guest-exec is disabled");
	assert_int_equal(fake_agent_count(f->web, "guest-fsfreeze-freeze"), 0);
	assert_false(has_note(f, "web"));
}

static void a_rehearsal_says_what_is_wrong(void **state)
{
	struct fixture *f = *state;
	static const char full[] = "[{\"mountpoint\": \"/srv\", \"type\": \"xfs\", \"used-bytes\": 99, \"total-bytes\": 100}]";
	static const char info[] = "{\"version\": \"8\", \"supported_commands\": [{\"name\": \"guest-fsfreeze-freeze\", "
				   "\"enabled\": false}, {\"name\": \"guest-exec\", \"enabled\": true}]}";

	start_writer(f, "");
	fake_agent_say(f->web, "guest-get-fsinfo", full);
	fake_agent_say(f->web, "guest-info", info);
	f->db = fake_agent_stop(f->db);
	int fd = lock_disk(f, "db.img");
	unlink(path_of(f, "web.img"));
	struct stage_answer identified;
	stage_call(f->stage, "Identify", "a{sv}", json_pack("[{}]"), &identified);
	stage_answer_clear(&identified);
	autojson json_t *checks = checks_of(f);
	expect_row(checks, "web", "disks", "bad", "web.img cannot be opened");
	expect_row(checks, "web", "freeze", "bad", "guest-fsfreeze-freeze is disabled");
	expect_row(checks, "web", "free space", "bad", "/srv has");
	expect_row(checks, "web", "shadow storage", "unknown", "vssctl cannot be run in it");
	expect_row(checks, "db", "agent", "bad", "it runs (a QEMU has");
	close(fd);
	autojson json_t *off = checks_of(f);
	expect_row(off, "db", "agent", "ok", "the guest is off");
	fake_agent_say(f->web, "guest-get-fsinfo", "[]");
	autojson json_t *none = checks_of(f);
	expect_row(none, "web", "filesystems", "bad", "none that can be frozen");
	fake_agent_say(f->web, "guest-get-fsinfo", "17");
	autojson json_t *nonsense = checks_of(f);
	expect_row(nonsense, "web", "filesystems", "bad", "none that can be frozen");
}

static char *base64(const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(text), used = 0;
	char *result = calloc(1, n * 2 + 8);

	for (size_t i = 0; i < n; i += 3) {
		unsigned have = n - i < 3 ? (unsigned)(n - i) : 3, bits = 0;
		for (unsigned j = 0; j < 3; j++)
			bits = bits << 8 | (j < have ? (unsigned char)text[i + j] : 0);
		for (unsigned j = 0; j < 4; j++)
			result[used++] = j <= have ? digits[bits >> (18 - 6 * j) & 63] : '=';
	}
	return result;
}

static void shadow_storage_inside_is_judged(void **state)
{
	static const struct {
		const char *output, *verdict, *words;
	} rows[] = {
		{ "{\"shadowstorage\":[]}", "ok", "none" },
		{ "{\"shadowstorage\":[{\"For\":\"btrfs:aa-1:5\",\"On\":\"fs:aa-1\"}]}", "ok", "each volume's copies on its own" },
		{ "{\"shadowstorage\":[{\"For\":\"lvm:V1:L1\",\"On\":\"vg:V2\",\"Volume\":\"/srv\"}]}", "bad", "/srv" },
		{ "{\"shadowstorage\":[{\"For\":\"lvm:V1:L1\",\"On\":\"pv:P1\",\"Volume\":\"/srv\"}]}", "unknown", "/srv" },
		{ "{\"shadowstorage\":[{\"For\":\"lvm:V1:L1\",\"On\":\"pv:P1\",\"Own\":true}]}", "ok", "on its own" },
		{ "{\"shadowstorage\":[{\"For\":\"lvm:V1:L1\",\"On\":\"pv:P1\",\"Own\":false,\"Volume\":\"/srv\"}]}", "bad",
		  "not kept on the volume's own: /srv" },
		{ "no JSON", "unknown", "cannot be read" },
	};
	struct fixture *f = *state;
	char status[512];

	start_writer(f, "");
	fake_agent_say(f->web, "guest-info", "{\"supported_commands\": [{\"name\": \"guest-exec\", \"enabled\": true}]}");
	fake_agent_say(f->web, "guest-exec", "{\"pid\": 17}");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		autofree char *encoded = base64(rows[i].output);
		snprintf(status, sizeof status, "{\"exited\": true, \"exitcode\": 0, \"out-data\": \"%s\"}", encoded);
		fake_agent_say(f->web, "guest-exec-status", status);
		autojson json_t *checks = checks_of(f);
		expect_row(checks, "web", "shadow storage", rows[i].verdict, rows[i].words);
	}
	assert_non_null(strstr(fake_agent_arguments(f->web, "guest-exec"), "\"vssctl\""));
	fake_agent_say(f->web, "guest-exec-status", "{\"exited\": true, \"exitcode\": 5}");
	autojson json_t *failed = checks_of(f);
	expect_row(failed, "web", "shadow storage", "unknown", "exit code 5");
	/* One that never ends does not keep the others waiting. */
	fake_agent_say(f->web, "guest-exec-status", "{\"exited\": false}");
	autojson json_t *endless = checks_of(f);
	expect_row(endless, "web", "shadow storage", "unknown", "did not end");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(both_are_frozen_and_thawed),
		CASE(components_name_the_files_of_the_disks),
		CASE(thaw_tells_what_became_of_each),
		CASE(only_those_in_the_set_are_frozen),
		CASE(some_filesystems_only_where_that_is_asked_for),
		CASE(slow_ones_are_frozen_beside_each_other),
		CASE(an_abort_thaws),
		CASE(one_that_is_off_is_copied_as_it_is),
		CASE(one_without_an_agent_is_not_taken_for_off),
		CASE(one_that_was_started_meanwhile_spoils_the_copy),
		CASE(by_policy_one_that_fails_is_left_out_and_named),
		CASE(by_policy_a_freeze_that_did_not_hold_is_named),
		CASE(preparing_finds_what_is_wrong),
		CASE(one_that_is_frozen_already_is_left_alone),
		CASE(a_freeze_that_fails_fails_the_set),
		CASE(a_freeze_that_freezes_nothing_is_none),
		CASE(a_freeze_that_comes_late_is_undone),
		CASE(an_abort_does_not_wait_for_a_freeze_that_hangs),
		CASE(one_that_was_thawed_meanwhile_spoils_the_copy),
		CASE(so_does_one_filesystem_of_it),
		CASE(a_thaw_that_fails_is_tried_until_it_works),
		CASE(killed_while_they_are_frozen),
		CASE(killed_with_its_warden),
		CASE(killed_with_its_warden_and_thawed_by_the_unit),
		CASE(a_dead_warden_is_replaced_before_anything_is_frozen),
		CASE(ended_while_they_are_frozen),
		CASE(one_that_stands_still_is_killed),
		CASE(the_coordinator_goes_while_they_are_frozen),
		CASE(a_rehearsal_checks_without_freezing),
		CASE(a_rehearsal_says_what_is_wrong),
		CASE(shadow_storage_inside_is_judged),
	};

	return cmocka_run_group_tests_name("qemu-writer", tests, NULL, NULL);
}
