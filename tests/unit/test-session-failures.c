/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One writer of three fails, hangs, lies or dies in each event: the set fails, everybody who was told hears Abort at once,
 * the record says what happened, and the next set works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "tests/unit/session-stops.h"

static struct world *three(void)
{
	struct world *w = world_new(NULL);

	world_writer(w, "b", "back-end", "/data/b", NULL, NULL);
	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "s", "system", "/data/s", NULL, NULL);
	return w;
}

static const struct writer_record *record_of(struct world *w, const char *name)
{
	return &registry_find(w->registry, name)->record;
}

/* ---- errors ---- */

static const struct {
	enum writer_event event;
	enum writer_state state;
	bool copies; /* some are half made by then */
} phases[] = {
	{ WRITER_EVENT_PREPARE_BACKUP, WRITER_STATE_FAILED_AT_PREPARE_BACKUP, false },
	{ WRITER_EVENT_PREPARE_SNAPSHOT, WRITER_STATE_FAILED_AT_PREPARE_SNAPSHOT, true },
	{ WRITER_EVENT_FREEZE, WRITER_STATE_FAILED_AT_FREEZE, true },
	{ WRITER_EVENT_THAW, WRITER_STATE_FAILED_AT_THAW, true },
	{ WRITER_EVENT_POST_SNAPSHOT, WRITER_STATE_FAILED_AT_POST_SNAPSHOT, true },
};

static void assert_record(struct world *w, const char *name, size_t phase, enum vss_error error, const char *words)
{
	const struct writer_record *r = record_of(w, name);

	assert_int_equal(r->state, phases[phase].state);
	assert_int_equal(r->error, error);
	assert_int_equal(r->phase, phases[phase].event);
	assert_true(r->failed_at > 0);
	if (words)
		assert_string_equal(r->message, words);
}

/* Those that went well are no failures. */
static void assert_others_well(struct world *w, const char *name)
{
	for (struct writer *other = registry_first(w->registry); other; other = other->next)
		if (strcmp(other->name, name) != 0)
			assert_int_equal(other->record.error, VSS_OK);
}

static void fail_one(size_t phase, const char *name, enum vss_error said, enum vss_error meant)
{
	struct world *w = three();
	char bus_name[8] = ":", abort_line[16];
	struct session *s;

	strcat(bus_name, name);
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = bus_name,
								.event = writer_event_name(phases[phase].event),
								.mode = FAKE_ERROR,
								.error = said,
								.message = "disk on fire" });
	s = world_set(w);
	world_assert_failed(w, s, meant);
	assert_non_null(strstr(world_result_text(w, "Message"), "disk on fire"));
	assert_non_null(strstr(world_result_text(w, "Message"), writer_event_name(phases[phase].event)));
	assert_int_equal(json_is_true(json_object_get(w->result, "Retryable")), error_is_retryable(meant));
	assert_record(w, name, phase, meant, "disk on fire");
	assert_others_well(w, name);
	/* All three were told, so all three hear Abort: also the one that failed. */
	assert_int_equal(tape_count("Abort"), 3);
	text_format(abort_line, sizeof abort_line, "Abort %s", bus_name);
	assert_int_equal(tape_count(abort_line), 1);
	assert_int_equal(tape_count("job abort"), phases[phase].copies);
	if (phases[phase].copies)
		assert_true(tape_before("Abort", "job abort")); /* the applications first */
	assert_true(world_timeline_has(s, writer_event_name(phases[phase].event), name, error_text(meant)));
	assert_int_equal(json_array_size(json_object_get(w->result, "Attempts")), 1);
	world_assert_next_set_works(w);
	world_free(w);
}

static void each_writer_fails_in_each_event(void **state)
{
	for (size_t phase = 0; phase < ARRAY_SIZE(phases); phase++)
		for (const char **name = (const char *[]){ "f", "b", "s", NULL }; *name; name++)
			fail_one(phase, *name, VSS_E_WRITER_NON_RETRYABLE, VSS_E_WRITER_NON_RETRYABLE);
}

static void each_error_means_what_vss_says(void **state)
{
	static const enum vss_error said_and_meant[][2] = {
		{ VSS_E_WRITER_RETRYABLE, VSS_E_WRITER_RETRYABLE },
		{ VSS_E_WRITER_OUT_OF_RESOURCES, VSS_E_WRITER_OUT_OF_RESOURCES },
		{ VSS_E_WRITER_TIMED_OUT, VSS_E_WRITER_TIMED_OUT },
		{ VSS_E_WRITER_INCONSISTENT_SNAPSHOT, VSS_E_WRITER_INCONSISTENT_SNAPSHOT },
		{ VSS_E_WRITER_RECOVERY_FAILED, VSS_E_WRITER_RECOVERY_FAILED },
		{ VSS_E_WRITER_NOT_RESPONDING, VSS_E_WRITER_NOT_RESPONDING },
		{ VSS_E_UNEXPECTED, VSS_E_WRITER_NON_RETRYABLE },
		{ VSS_E_ACCESS_DENIED, VSS_E_WRITER_NON_RETRYABLE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(said_and_meant); i++) {
		struct world *w = three();
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":b",
									.event = "Freeze",
									.mode = FAKE_ERROR,
									.error = said_and_meant[i][0] });
		world_assert_failed(w, world_set(w), said_and_meant[i][1]);
		assert_int_equal(record_of(w, "b")->error, said_and_meant[i][1]);
		world_free(w);
	}
}

/* A call that cannot be sent: the failure is there before the state's work has ended. */
static void a_writer_cannot_even_be_called(void **state)
{
	for (size_t phase = 0; phase < ARRAY_SIZE(phases); phase++) {
		struct world *w = three();
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = writer_event_name(phases[phase].event),
									.mode = FAKE_REFUSE });
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "Abort", .mode = FAKE_HOLD });
		struct session *s = world_set(w);
		/* Events of the state that failed must not end the one after it: its answers are waited for. */
		assert_state(s, "AbortingWriters");
		assert_int_equal(tape_count("Abort"), 3);
		for (const char **name = (const char *[]){ ":f", ":b", ":s", NULL }; *name; name++)
			fake_fanout_answer(w->fanout, "Abort", *name, VSS_OK, NULL);
		world_turns(w);
		world_assert_failed(w, s, VSS_E_WRITER_NON_RETRYABLE);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* Several fail: the first is the set's failure, none is lost. */
static void all_fail_at_once(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){
					    .event = "PrepareSnapshot", .mode = FAKE_ERROR, .error = VSS_E_WRITER_RETRYABLE });
	s = world_set(w);
	world_assert_failed(w, s, VSS_E_WRITER_RETRYABLE);
	assert_int_equal(tape_count("Abort"), 3);
	assert_int_equal(tape_count("job abort"), 1);
	world_assert_next_set_works(w);
	world_free(w);
}

/* ---- silence ---- */

static uint64_t *limit_of(struct config *config, enum writer_event event)
{
	return event == WRITER_EVENT_PREPARE_BACKUP   ? &config->prepare_backup :
	       event == WRITER_EVENT_PREPARE_SNAPSHOT ? &config->prepare_snapshot :
	       event == WRITER_EVENT_FREEZE	      ? &config->freeze :
							&config->event;
}

static void one_hangs_in_each_event(void **state)
{
	for (size_t phase = 0; phase < ARRAY_SIZE(phases); phase++) {
		struct world *w = three();
		const char *event = writer_event_name(phases[phase].event);
		uint64_t *limit = limit_of(&w->config, phases[phase].event), usual = *limit, began;
		*limit = 50 * USEC_PER_MSEC;
		fake_fanout_rule(w->fanout,
				 &(struct fake_fanout_rule){ .writer = ":f", .event = event, .mode = FAKE_NEVER });
		began = clock_now();
		struct session *s = world_set(w);
		world_wait_finished(w, 1);
		assert_true(clock_now() - began >= 50 * USEC_PER_MSEC);
		world_assert_failed(w, s, VSS_E_WRITER_TIMED_OUT);
		assert_record(w, "f", phase, VSS_E_WRITER_TIMED_OUT, "There was no answer within the limit");
		/* It is told to abort too, but nobody waits for one that does not answer. */
		assert_int_equal(tape_count("Abort :f"), 1);
		*limit = usual;
		world_assert_next_set_works(w);
		world_free(w);
	}
}

static void one_that_hangs_holds_up_nobodys_end(void **state)
{
	struct world *w = three();

	w->config.freeze = 50 * USEC_PER_MSEC;
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f", .mode = FAKE_NEVER });
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f", .event = "Identify" });
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f", .event = "PrepareBackup" });
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f", .event = "PrepareSnapshot" });
	struct session *s = world_set(w);
	world_wait_finished(w, 1);
	world_assert_failed(w, s, VSS_E_WRITER_TIMED_OUT);
	world_free(w);
}

/* One that answers everything but Abort: the set ends after the grace, not before. */
static void one_hangs_in_abort(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .event = "Abort", .writer = ":b", .mode = FAKE_HOLD });
	fake_workers_rule(w->workers, "cut", FAKE_ERROR, VSS_E_UNEXPECTED_PROVIDER_ERROR, NULL);
	s = world_set(w);
	assert_state(s, "AbortingWriters");
	assert_true(world_limit_left(s) <= 5500 * USEC_PER_MSEC);
	world_expire(w, s);
	world_assert_failed(w, s, VSS_E_UNEXPECTED_PROVIDER_ERROR);
	world_free(w);
}

static void keep_alive_extends_the_limit(void **state)
{
	for (size_t phase = 0; phase < ARRAY_SIZE(phases); phase++) {
		struct world *w = three();
		const char *event = writer_event_name(phases[phase].event);
		bool extends = phase < 2;
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":b", .event = event, .mode = FAKE_HOLD });
		struct session *s = world_set(w);
		uint64_t before = fake_fanout_last(w->fanout, event, ":b")->deadline;
		assert_false(session_keep_alive(s, ":f"));
		assert_false(session_keep_alive(s, ":stranger"));
		assert_int_equal(session_keep_alive(s, ":b"), extends);
		assert_int_equal(fake_fanout_last(w->fanout, event, ":b")->deadline > before, extends);
		world_free(w);
	}
}

/* ---- lies ---- */

static void thaw_that_does_not_vouch(void **state)
{
	static const char *const answers[] = {
		"{\"Sequence\": 4711, \"Unbroken\": true}", /* another freeze */
		"{\"Sequence\": 1, \"Unbroken\": false}",   "{\"Sequence\": 1}", "{\"Unbroken\": true}", "{}",
		"{\"Sequence\": \"1\", \"Unbroken\": true}", "{\"Sequence\": 1, \"Unbroken\": 1}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct world *w = three();
		/* :f freezes first: its number is 1 */
		fake_fanout_rule(w->fanout,
				 &(struct fake_fanout_rule){ .writer = ":f", .event = "Thaw", .answer = answers[i] });
		struct session *s = world_set(w);
		world_assert_failed(w, s, VSS_E_WRITER_TIMED_OUT);
		assert_record(w, "f", 3, VSS_E_WRITER_TIMED_OUT, NULL);
		assert_true(tape_before("job cut", "job abort")); /* the copy that was made is deleted */
		assert_int_equal(tape_count("job seal"), 0);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* Who gave no number at Freeze cannot vouch for it, whatever it says at Thaw. */
static void freeze_without_a_number(void **state)
{
	static const char *const freezes[] = { "{}", "{\"Sequence\": \"none\"}", "{\"Sequence\": -1}" };
	static const char *const thaws[] = { "{\"Sequence\": 0, \"Unbroken\": true}",
					     "{\"Sequence\": -1, \"Unbroken\": true}" };

	for (size_t i = 0; i < ARRAY_SIZE(freezes) * ARRAY_SIZE(thaws); i++) {
		struct world *w = three();
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":s", .event = "Freeze",
									.answer = freezes[i / ARRAY_SIZE(thaws)] });
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":s", .event = "Thaw",
									.answer = thaws[i % ARRAY_SIZE(thaws)] });
		world_assert_failed(w, world_set(w), VSS_E_WRITER_TIMED_OUT);
		world_free(w);
	}
}

/* ---- death ---- */

static void one_dies_in_each_event(void **state)
{
	for (size_t phase = 0; phase < ARRAY_SIZE(phases); phase++) {
		struct world *w = three();
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f",
									.event = writer_event_name(phases[phase].event),
									.mode = FAKE_HOLD });
		struct session *s = world_set(w);
		world_writer_dies(w, "f");
		world_turns(w);
		world_assert_failed(w, s, VSS_E_WRITER_NOT_RESPONDING);
		assert_record(w, "f", phase, VSS_E_WRITER_NOT_RESPONDING, "The writer's process is gone");
		assert_int_equal(tape_count("Abort"), 2); /* those that live */
		world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
		world_assert_next_set_works(w);
		world_free(w);
	}
}

/* It has answered Freeze and nothing is asked of it now: the death alone must be enough. */
static void one_dies_frozen(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	assert_state(s, "Cutting");
	world_writer_dies(w, "b");
	world_turns(w);
	world_assert_failed(w, s, VSS_E_WRITER_NOT_RESPONDING);
	assert_record(w, "b", 3, VSS_E_WRITER_NOT_RESPONDING, NULL);
	assert_int_equal(tape_count("cancel cut"), 1);
	world_free(w);
}

/* Takes part, but no event of its has come yet. */
static void one_dies_before_its_first_event(void **state)
{
	struct world *w = world_new(NULL);
	struct session *s;

	world_writer(w, "bare", "front-end", "/data", "[]", NULL);
	world_writer(w, "slow", "front-end", "/data", NULL, NULL);
	fake_fanout_rule(w->fanout,
			 &(struct fake_fanout_rule){ .writer = ":slow", .event = "PrepareBackup", .mode = FAKE_HOLD });
	s = world_set(w);
	assert_state(s, "PreparingBackup");
	world_writer_dies(w, "bare");
	world_turns(w);
	world_assert_failed(w, s, VSS_E_WRITER_NOT_RESPONDING);
	world_free(w);
}

/* Between the plan and the first event nobody watches: it is found missing when it is called. */
static void one_dies_before_it_is_told(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_workers_rule(w->workers, "resolve", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	assert_state(s, "Planning");
	world_writer_dies(w, "f"); /* the plan is not made yet: it does not take part */
	fake_workers_answer(w->workers, "resolve", VSS_OK);
	world_turns(w);
	assert_state(s, "Created");
	assert_int_equal(tape_count("Freeze"), 2);
	world_free(w);
}

/* A probe that somebody makes meanwhile, with a limit that no writer keeps, is no verdict on the set's own Identify. */
static void strangers_probe_fails_no_set(void **state)
{
	struct world *w = three();
	struct session *s;

	fake_workers_rule(w->workers, "resolve", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	assert_state(s, "Planning");
	writer_event_ended(registry_find(w->registry, "f"), WRITER_EVENT_IDENTIFY, VSS_E_WRITER_NOT_RESPONDING, "", 1);
	fake_workers_answer(w->workers, "resolve", VSS_OK);
	world_turns(w);
	assert_state(s, "Created");
	assert_int_equal(tape_count("Freeze"), 3);
	world_free(w);
}

static void bystanders_death_changes_nothing(void **state)
{
	struct world *w = three();
	struct session *s;

	world_writer(w, "elsewhere", "front-end", "/logs", NULL, NULL);
	fake_workers_rule(w->workers, "cut", FAKE_HOLD, VSS_OK, NULL);
	s = world_set(w);
	world_writer_dies(w, "elsewhere");
	fake_workers_answer(w->workers, "cut", VSS_OK);
	world_turns(w);
	assert_state(s, "Created");
	assert_string_equal(world_result_text(w, "Consistency"), "application");
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_writer_fails_in_each_event),
		cmocka_unit_test(each_error_means_what_vss_says),
		cmocka_unit_test(a_writer_cannot_even_be_called),
		cmocka_unit_test(all_fail_at_once),
		cmocka_unit_test(one_hangs_in_each_event),
		cmocka_unit_test(one_that_hangs_holds_up_nobodys_end),
		cmocka_unit_test(one_hangs_in_abort),
		cmocka_unit_test(keep_alive_extends_the_limit),
		cmocka_unit_test(thaw_that_does_not_vouch),
		cmocka_unit_test(freeze_without_a_number),
		cmocka_unit_test(one_dies_in_each_event),
		cmocka_unit_test(one_dies_frozen),
		cmocka_unit_test(one_dies_before_its_first_event),
		cmocka_unit_test(one_dies_before_it_is_told),
		cmocka_unit_test(strangers_probe_fails_no_set),
		cmocka_unit_test(bystanders_death_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
