/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checks.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "metadata.h"

#define AFTER_LIMIT (500 * USEC_PER_MSEC) /* how much longer than its limit a writer is left frozen */
#define RETURN_LIMIT_MSEC 10000           /* for a writer to register again */

static enum verdict conclude(struct check_run *run, enum verdict verdict, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static enum verdict conclude(struct check_run *run, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(run->text, sizeof run->text, format, args);
	va_end(args);
	return verdict;
}

#define pass(run, ...) conclude(run, VERDICT_PASS, __VA_ARGS__)
#define fail(run, ...) conclude(run, VERDICT_FAIL, __VA_ARGS__)

/* ---- sending ---- */

static bool wants(const struct check_run *run, const char *event)
{
	return metadata_wants(stage_metadata(run->stage), event);
}

static json_t *event_details(const struct check_run *run, const char *event)
{
	json_t *volumes = metadata_volumes(stage_metadata(run->stage));

	if (strcmp(event, "PostSnapshot") == 0)
		json_object_set_new(json_array_get(volumes, 0), "Copy", json_pack("{si}", "$fd", 0));
	return json_pack("{ss sb sb so}", "BackupType", "copy", "Persistent", 0, "Succeeded", 1, "Volumes", volumes);
}

static enum vss_error send_to_set(struct check_run *run, const char *name, const char *set, uint64_t deadline,
				  struct stage_answer *answer)
{
	autojson json_t *details = event_details(run, name);
	bool with_copy = strcmp(name, "PostSnapshot") == 0;
	const struct stage_event event = {
		.name = name,
		.session = run->session,
		.set = set,
		.deadline = deadline,
		.details = details,
		.fds = &run->copy_fd,
		.n_fds = with_copy ? 1 : 0,
	};

	stage_send(run->stage, &event, answer);
	if (!answer->error)
		report_timing(run->report, name, answer->elapsed);
	return answer->error;
}

/* Sends; on failure the verdict's text says so. */
static bool send_ok(struct check_run *run, const char *name)
{
	struct stage_answer answer;
	bool ok = send_to_set(run, name, run->set, 0, &answer) == VSS_OK;

	if (!ok)
		fail(run, "%s failed: %s%s%s", name, answer.error_name, *answer.error_name ? ": " : "", answer.message);
	stage_answer_clear(&answer);
	return ok;
}

static void new_set(struct check_run *run)
{
	id_new(run->session);
	id_new(run->set);
}

static bool prepare(struct check_run *run)
{
	return (!wants(run, "PrepareBackup") || send_ok(run, "PrepareBackup")) &&
	       (!wants(run, "PrepareSnapshot") || send_ok(run, "PrepareSnapshot"));
}

/* Freezes a new set; *ret_sequence is what the writer answered. */
static bool freeze_new_set(struct check_run *run, json_int_t *ret_sequence)
{
	struct stage_answer answer;

	new_set(run);
	if (!prepare(run))
		return false;
	if (send_to_set(run, "Freeze", run->set, 0, &answer) != VSS_OK) {
		fail(run, "Freeze failed: %s", answer.message);
		stage_answer_clear(&answer);
		return false;
	}
	json_t *sequence = json_object_get(answer.body, "Sequence");
	bool ok = json_is_integer(sequence);
	*ret_sequence = json_integer_value(sequence);
	stage_answer_clear(&answer);
	if (!ok)
		fail(run, "The answer to Freeze has no integer Sequence; Thaw could not vouch for the freeze");
	return ok;
}

/* What Thaw answers: whether the freeze of that number held. */
enum thaw {
	THAW_UNBROKEN,
	THAW_BROKEN, /* also an error: both delete the copy */
	THAW_WRONG_NUMBER,
};

static enum thaw thaw_set(struct check_run *run, json_int_t sequence, char *message, size_t size)
{
	struct stage_answer answer;
	enum thaw result = THAW_BROKEN;

	if (send_to_set(run, "Thaw", run->set, 0, &answer) == VSS_OK &&
	    json_is_true(json_object_get(answer.body, "Unbroken")))
		result = json_integer_value(json_object_get(answer.body, "Sequence")) == sequence ? THAW_UNBROKEN :
												   THAW_WRONG_NUMBER;
	const char *words = answer.error ? answer.message : json_string_value(json_object_get(answer.body, "Message"));
	snprintf(message, size, "%s", words ? words : "no reason given");
	stage_answer_clear(&answer);
	return result;
}

static bool thaw_unbroken(struct check_run *run, json_int_t sequence)
{
	char message[1024];

	switch (thaw_set(run, sequence, message, sizeof message)) {
	case THAW_UNBROKEN:
		return true;
	case THAW_BROKEN:
		fail(run, "Thaw did not vouch for the freeze: %s", message);
		return false;
	case THAW_WRONG_NUMBER:
		fail(run, "Thaw answered another Sequence than Freeze");
		return false;
	}
	return false;
}

/* ---- the checks ---- */

static enum verdict check_metadata(struct check_run *run)
{
	json_t *m = stage_metadata(run->stage);
	char why[512];

	report_writer(run->report, m);
	if (!metadata_is_valid(m, why, sizeof why))
		return fail(run, "%s", why);
	return pass(run, "\"%s\", %s, %zu component(s), bears %.1f s frozen", json_string_value(json_object_get(m, "Name")),
		    json_string_value(json_object_get(m, "Level")), json_array_size(json_object_get(m, "Components")),
		    (double)metadata_freeze_limit(m) / (double)USEC_PER_SEC);
}

static enum verdict check_identify(struct check_run *run)
{
	struct stage_answer answer;
	char why[512];
	enum verdict verdict;

	if (!wants(run, "Identify"))
		return conclude(run, VERDICT_SKIP, "The writer does not ask for Identify");
	stage_call(run->stage, "Identify", "a{sv}", json_pack("[{}]"), &answer);
	if (answer.error)
		verdict = fail(run, "Identify failed: %s", answer.message);
	else if (!metadata_is_valid(answer.body, why, sizeof why))
		verdict = fail(run, "The metadata that Identify answers is not valid: %s", why);
	else if (answer.elapsed > 2 * USEC_PER_SEC)
		verdict = fail(run, "The answer took %.1f s; a probe waits 2 s", (double)answer.elapsed / 1e6);
	else
		verdict = pass(run, "Answered within %.1f ms", (double)answer.elapsed / 1e3);
	if (!answer.error)
		report_timing(run->report, "Identify", answer.elapsed);
	stage_answer_clear(&answer);
	return verdict;
}

static enum verdict check_session(struct check_run *run)
{
	static const char *const after[] = { "PostSnapshot", "BackupComplete", "BackupShutdown" };
	json_int_t sequence;

	if (!freeze_new_set(run, &sequence) || !thaw_unbroken(run, sequence))
		return VERDICT_FAIL;
	for (size_t i = 0; i < ARRAY_SIZE(after); i++)
		if (wants(run, after[i]) && !send_ok(run, after[i]))
			return VERDICT_FAIL;
	return pass(run, "Went from PrepareBackup to BackupShutdown, unbroken while frozen");
}

static enum verdict check_sequence(struct check_run *run)
{
	json_int_t first, second;

	if (!freeze_new_set(run, &first) || !thaw_unbroken(run, first) || !freeze_new_set(run, &second) ||
	    !thaw_unbroken(run, second))
		return VERDICT_FAIL;
	if (first == second)
		return fail(run, "Two freezes had the same Sequence; each needs a number of its own");
	return pass(run, "Each freeze has a number of its own");
}

static bool reach(struct check_run *run, unsigned phase)
{
	json_int_t sequence;

	new_set(run);
	switch (phase) {
	case 0:
		return true;
	case 1:
		return !wants(run, "PrepareBackup") || send_ok(run, "PrepareBackup");
	case 2:
		return prepare(run);
	case 3:
		return freeze_new_set(run, &sequence);
	default:
		return freeze_new_set(run, &sequence) && thaw_unbroken(run, sequence);
	}
}

static enum verdict check_abort(struct check_run *run)
{
	static const char *const phases[] = { "before anything", "after PrepareBackup", "after PrepareSnapshot",
					      "while frozen", "after Thaw" };
	char why[sizeof run->text];
	json_int_t sequence;

	for (unsigned phase = 0; phase < ARRAY_SIZE(phases); phase++) {
		if (!reach(run, phase))
			return VERDICT_FAIL;
		for (int time = 1; time <= 2; time++) {
			if (send_ok(run, "Abort"))
				continue;
			snprintf(why, sizeof why, "%s", run->text);
			return fail(run, "Abort %s, time %d: %.1200s", phases[phase], time, why);
		}
	}
	if (!freeze_new_set(run, &sequence) || !thaw_unbroken(run, sequence))
		return VERDICT_FAIL;
	return pass(run, "Taken in every phase, twice each, and the next set went well");
}

static enum verdict check_abort_thaws(struct check_run *run)
{
	json_int_t sequence;
	char message[1024];

	if (!freeze_new_set(run, &sequence) || !send_ok(run, "Abort"))
		return VERDICT_FAIL;
	if (thaw_set(run, sequence, message, sizeof message) == THAW_UNBROKEN)
		return fail(run, "After Abort a Thaw still said that the freeze was unbroken: it cannot have thawed");
	return pass(run, "After Abort a Thaw no longer vouches for the freeze");
}

static enum verdict check_foreign_set(struct check_run *run)
{
	struct stage_answer answer;
	json_int_t sequence;
	char other[ID_SIZE];

	id_new(other);
	if (!freeze_new_set(run, &sequence))
		return VERDICT_FAIL;
	send_to_set(run, "Thaw", other, 0, &answer);
	bool vouched = json_is_true(json_object_get(answer.body, "Unbroken"));
	stage_answer_clear(&answer);
	if (!thaw_unbroken(run, sequence))
		return VERDICT_FAIL;
	if (vouched)
		return fail(run, "Thaw of a set that was never frozen was answered as if it had been");
	return pass(run, "Thaw of another set was refused and did not thaw this one");
}

static enum verdict check_freeze_twice(struct check_run *run)
{
	struct stage_answer answer;
	json_int_t sequence;

	if (!freeze_new_set(run, &sequence))
		return VERDICT_FAIL;
	bool refused = send_to_set(run, "Freeze", run->set, 0, &answer) != VSS_OK;
	stage_answer_clear(&answer);
	if (!thaw_unbroken(run, sequence))
		return VERDICT_FAIL;
	return refused ? pass(run, "A second Freeze was refused and left the first one alone") :
			 fail(run, "A second Freeze while frozen was accepted");
}

static enum verdict check_thaw_unfrozen(struct check_run *run)
{
	char message[1024];

	new_set(run);
	if (thaw_set(run, 0, message, sizeof message) != THAW_BROKEN)
		return fail(run, "Thaw without a Freeze was answered as if the writer had been frozen");
	return pass(run, "Thaw without a Freeze is not vouched for");
}

static enum verdict check_deadline(struct check_run *run)
{
	struct stage_answer answer;

	new_set(run);
	if (!prepare(run))
		return VERDICT_FAIL;
	bool refused = send_to_set(run, "Freeze", run->set, clock_now() - USEC_PER_SEC, &answer) != VSS_OK;
	stage_answer_clear(&answer);
	if (!send_ok(run, "Abort"))
		return VERDICT_FAIL;
	return refused ? pass(run, "A Freeze that came after its deadline was refused") :
			 fail(run, "A Freeze whose deadline was over froze the application nevertheless");
}

static enum verdict check_unknown(struct check_run *run)
{
	struct stage_answer answer;

	new_set(run);
	send_to_set(run, "EventOfALaterVersion", run->set, 0, &answer);
	bool refused = strstr(answer.error_name, "Unknown") != NULL;
	enum verdict verdict = refused ? pass(run, "An unknown event gets an error") :
					 fail(run, "An unknown event got %s instead of an error that says so",
					      *answer.error_name ? answer.error_name : "an answer");
	stage_answer_clear(&answer);
	return verdict;
}

static enum verdict check_freeze_limit(struct check_run *run)
{
	uint64_t limit = metadata_freeze_limit(stage_metadata(run->stage));
	json_int_t sequence;
	char message[1024];

	if (!freeze_new_set(run, &sequence))
		return VERDICT_FAIL;
	stage_wait(run->stage, (unsigned)((limit + AFTER_LIMIT) / USEC_PER_MSEC));
	if (thaw_set(run, sequence, message, sizeof message) != THAW_BROKEN)
		return fail(run, "%.1f s after Freeze, beyond its limit of %.1f s, it was still frozen",
			    (double)(limit + AFTER_LIMIT) / 1e6, (double)limit / 1e6);
	return pass(run, "Beyond its limit of %.1f s Thaw no longer vouches for it (%s)", (double)limit / 1e6, message);
}

static bool restart_coordinator(struct check_run *run)
{
	unsigned before = stage_registrations(run->stage);
	struct err err = { 0 };

	stage_vanish(run->stage);
	stage_wait(run->stage, 300);
	if (stage_appear(run->stage, &err) < 0) {
		fail(run, "%s", err.text);
		return false;
	}
	if (stage_wait_registrations(run->stage, before + 1, RETURN_LIMIT_MSEC))
		return true;
	fail(run, "It did not register again as the same instance within %d s of the coordinator's restart", RETURN_LIMIT_MSEC / 1000);
	return false;
}

static enum verdict check_coordinator_gone(struct check_run *run)
{
	json_int_t sequence;
	char message[1024];

	if (!freeze_new_set(run, &sequence) || !restart_coordinator(run))
		return VERDICT_FAIL;
	if (thaw_set(run, sequence, message, sizeof message) != THAW_BROKEN)
		return fail(run, "The coordinator went while it was frozen, and it stayed frozen");
	return pass(run, "With the coordinator gone meanwhile Thaw no longer vouches for it (%s)", message);
}

static enum verdict check_register_again(struct check_run *run)
{
	json_int_t sequence;

	if (!restart_coordinator(run) || !freeze_new_set(run, &sequence) || !thaw_unbroken(run, sequence))
		return VERDICT_FAIL;
	return pass(run, "Registered again as the same instance, and the next set went well");
}

bool writer_has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	/* Left to be waited for, so that the pid stays ours until the writer is stopped. */
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

static enum verdict check_alive(struct check_run *run)
{
	if (writer_has_ended(run->writer_pid))
		return fail(run, "The command has ended");
	return pass(run, "The command is still running");
}

const struct check checks[] = {
	{ "metadata", "what it registers with follows the rules", check_metadata },
	{ "identify", "Identify is answered within 2 s", check_identify },
	{ "session", "a whole session, from PrepareBackup to BackupShutdown", check_session },
	{ "sequence", "every freeze has a number of its own", check_sequence },
	{ "abort", "Abort is taken in every phase, and twice", check_abort },
	{ "abort-thaws", "Abort ends a freeze", check_abort_thaws },
	{ "foreign-set", "Thaw of another set is refused", check_foreign_set },
	{ "freeze-twice", "Freeze while frozen is refused", check_freeze_twice },
	{ "thaw-unfrozen", "Thaw without Freeze is not vouched for", check_thaw_unfrozen },
	{ "deadline", "an event after its deadline is refused", check_deadline },
	{ "unknown-event", "an event it does not know gets an error", check_unknown },
	{ "freeze-limit", "beyond its limit it thaws by itself (takes as long as the limit)", check_freeze_limit },
	{ "coordinator-gone", "it thaws by itself when the coordinator goes", check_coordinator_gone },
	{ "register-again", "it registers again with a restarted coordinator", check_register_again },
	{ "alive", "the command outlived all this", check_alive },
};
const size_t n_checks = ARRAY_SIZE(checks);

/* The next check is not to suffer from a freeze that this one left. */
static void release(struct check_run *run)
{
	struct stage_answer answer;

	send_to_set(run, "Abort", run->set, clock_now() + 5 * USEC_PER_SEC, &answer);
	stage_answer_clear(&answer);
}

void check_run(struct check_run *run, const struct check *check)
{
	uint64_t begin = clock_now();

	new_set(run);
	enum verdict verdict = check->fn(run);
	if (verdict == VERDICT_FAIL)
		release(run);
	report_verdict(run->report, check->name, verdict, clock_now() - begin, run->text);
}
