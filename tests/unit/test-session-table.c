/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's table, walked pair by pair, and what has to hold for all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/session-table.h"

/* By name, so that it reads like the page in docs/protocol.md; "-": the event is refused or means nothing there. */
struct golden {
	const char *state;
	const char *next[SESSION_EVENT_COUNT]; /* gather prepare snapshot complete release cancel |
					      * done fail expired retry hold */
};

#define ABORT "AbortingWriters"
#define FAILS ABORT, ABORT, "-" /* fail, expired, retry */

static const struct golden matrix[] = {
	{ "Idle", { "Gathering", "Waiting", "Waiting", "-", "-", "Closing", "-", "-", "-", "-", "-" } },
	{ "Gathering", { "-", "-", "-", "-", "-", "Closing", "Idle", "Idle", "Idle", "-", "-" } },
	{ "Waiting", { "-", "-", "-", "-", "-", "Closing", "Identifying", "Failed", "Failed", "-", "-" } },
	{ "Identifying", { "-", "-", "-", "-", "-", ABORT, "Planning", FAILS, "-" } },
	{ "Planning", { "-", "-", "-", "-", "-", ABORT, "WaitingForWriters", FAILS, "-" } },
	{ "WaitingForWriters", { "-", "-", "-", "-", "-", ABORT, "PreparingBackup", FAILS, "-" } },
	{ "PreparingBackup", { "-", "-", "-", "-", "-", ABORT, "Prepared", FAILS, "-" } },
	{ "Prepared", { "-", "-", "Preparing", "-", "-", ABORT, "-", FAILS, "-" } },
	{ "Preparing", { "-", "-", "-", "-", "-", ABORT, "Flushing", FAILS, "-" } },
	{ "Flushing", { "-", "-", "-", "-", "-", ABORT, "FreezingFrontEnd", FAILS, "-" } },
	{ "FreezingFrontEnd", { "-", "-", "-", "-", "-", ABORT, "FreezingBackEnd", FAILS, "-" } },
	{ "FreezingBackEnd", { "-", "-", "-", "-", "-", ABORT, "FreezingSystem", FAILS, "-" } },
	{ "FreezingSystem", { "-", "-", "-", "-", "-", ABORT, "Cutting", FAILS, "-" } },
	{ "Cutting", { "-", "-", "-", "-", "-", ABORT, "ThawingSystem", FAILS, "Holding" } },
	{ "Holding", { "-", "-", "-", "-", "ThawingSystem", ABORT, "-", FAILS, "-" } },
	{ "ThawingSystem", { "-", "-", "-", "-", "-", ABORT, "ThawingBackEnd", ABORT, "ThawingBackEnd", "-", "-" } },
	{ "ThawingBackEnd", { "-", "-", "-", "-", "-", ABORT, "ThawingFrontEnd", ABORT, "ThawingFrontEnd", "-", "-" } },
	{ "ThawingFrontEnd", { "-", "-", "-", "-", "-", ABORT, "Opening", FAILS, "-" } },
	{ "Opening", { "-", "-", "-", "-", "-", ABORT, "PostSnapshot", FAILS, "-" } },
	{ "PostSnapshot", { "-", "-", "-", "-", "-", ABORT, "Sealing", FAILS, "-" } },
	{ "Sealing", { "-", "-", "-", "-", "-", ABORT, "Created", FAILS, "-" } },
	{ "Created", { "-", "-", "-", "Completing", "-", "Closing", "-", "-", "-", "-", "-" } },
	{ "Completing", { "-", "-", "-", "-", "-", "Closing", "Completed", "Completed", "Completed", "-", "-" } },
	{ "Completed", { "-", "-", "-", "-", "-", "Closing", "-", "-", "-", "-", "-" } },
	{ ABORT, { "-", "-", "-", "-", "-", "-", "AbortingCopies", "-", "AbortingCopies", "-", "-" } },
	{ "AbortingCopies", { "-", "-", "-", "-", "-", "-", "Failed", "Failed", "Failed", "Retrying", "-" } },
	{ "Retrying", { "-", "-", "-", "-", "-", "Closing", "-", "-", "Waiting", "-", "-" } },
	{ "Failed", { "-", "-", "-", "-", "-", "Closing", "-", "-", "-", "-", "-" } },
	{ "Closing", { "-", "-", "-", "-", "-", "-", "Closed", "Closed", "Closed", "-", "-" } },
	{ "Closed", { "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-" } },
};

static const enum session_event own_events[] = { SESSION_EVENT_DONE, SESSION_EVENT_FAIL, SESSION_EVENT_EXPIRED,
						 SESSION_EVENT_RETRY, SESSION_EVENT_HOLD };

static const char *name_of(enum session_state state)
{
	return state == SESSION_NONE ? "-" : session_state_name(state);
}

static void golden_matrix(void **state)
{
	assert_int_equal(ARRAY_SIZE(matrix), SESSION_STATE_COUNT - 1);
	for (size_t i = 0; i < ARRAY_SIZE(matrix); i++) {
		int s = session_state_from_name(matrix[i].state);
		assert_true(s > SESSION_NONE);
		for (int e = 0; e < SESSION_EVENT_COUNT; e++) {
			const char *next = name_of(session_next((enum session_state)s, (enum session_event)e));
			if (strcmp(next, matrix[i].next[e]) != 0)
				fail_msg("%s, %s: %s, not %s", matrix[i].state,
					 session_event_name((enum session_event)e), next, matrix[i].next[e]);
		}
	}
}

static void names_round_trip(void **state)
{
	for (int s = SESSION_IDLE; s < SESSION_STATE_COUNT; s++) {
		const char *name = session_state_name((enum session_state)s);
		assert_non_null(name);
		assert_true(*name);
		assert_int_equal(session_state_from_name(name), s); /* so they are unique too */
		assert_true(session_state_percent((enum session_state)s) <= 100);
	}
	assert_int_equal(session_state_from_name(""), -1);
	assert_int_equal(session_state_from_name("idle"), -1);
	for (int a = 0; a < SESSION_EVENT_COUNT; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(session_event_name((enum session_event)a),
						session_event_name((enum session_event)b));
}

/* Thaw comes after all that is frozen, PostSnapshot and what follows after Thaw: the way out of holding. */
static bool is_thaw_or_abort(enum session_state s)
{
	return (s >= SESSION_THAWING_SYSTEM && s <= SESSION_THAWING_FRONT_END) || s == SESSION_ABORTING_WRITERS;
}

/* Can some way from this state, while writers are frozen, come to another end than the three thaws in a row or Abort? */
static void no_exit_skips_thaw_or_abort(void **state)
{
	for (int s = SESSION_FREEZING_FRONT_END; s <= SESSION_THAWING_FRONT_END; s++) {
		assert_true(session_state_holds_writers((enum session_state)s));
		for (int e = 0; e < SESSION_EVENT_COUNT; e++) {
			enum session_state next = session_next((enum session_state)s, (enum session_event)e);
			if (next == SESSION_NONE || next == SESSION_ABORTING_WRITERS)
				continue;
			/* forward, and by one step only: none of the thaws is jumped over; but who copies does not hold */
			assert_true((int)next == s + 1 || (s == SESSION_CUTTING && next == SESSION_THAWING_SYSTEM));
		}
	}
	for (int s = SESSION_IDLE; s < SESSION_STATE_COUNT; s++) {
		if (!session_state_holds_writers((enum session_state)s))
			continue;
		for (int e = 0; e < SESSION_EVENT_COUNT; e++) {
			enum session_state next = session_next((enum session_state)s, (enum session_event)e);
			bool last = s == SESSION_POST_SNAPSHOT && next == SESSION_SEALING;
			assert_true(next == SESSION_NONE || session_state_holds_writers(next) || is_thaw_or_abort(next) || last);
		}
	}
}

static void every_freeze_is_followed_by_its_thaw(void **state)
{
	/* Levels are frozen in order and thawed in reverse, with the cut between. */
	static const enum session_state way[] = { SESSION_FREEZING_FRONT_END, SESSION_FREEZING_BACK_END,
						  SESSION_FREEZING_SYSTEM,    SESSION_CUTTING,
						  SESSION_THAWING_SYSTEM,     SESSION_THAWING_BACK_END,
						  SESSION_THAWING_FRONT_END,  SESSION_OPENING };

	for (size_t i = 0; i + 1 < ARRAY_SIZE(way); i++)
		assert_int_equal(session_next(way[i], SESSION_EVENT_DONE), way[i + 1]);
}

static void creating_states_fail_to_abort(void **state)
{
	for (int s = SESSION_IDENTIFYING; s <= SESSION_SEALING; s++) {
		enum session_state from = (enum session_state)s;
		bool thaws_on = s == SESSION_THAWING_SYSTEM || s == SESSION_THAWING_BACK_END;
		assert_int_equal(session_next(from, SESSION_EVENT_FAIL), SESSION_ABORTING_WRITERS);
		assert_int_equal(session_next(from, SESSION_EVENT_CANCEL), SESSION_ABORTING_WRITERS);
		assert_int_equal(session_next(from, SESSION_EVENT_EXPIRED),
				 thaws_on ? s + 1 : SESSION_ABORTING_WRITERS);
		assert_int_equal(session_state_is_creating(from), s >= SESSION_PREPARING_BACKUP);
	}
	/* Whatever of the flag's states there may be in future. */
	for (int s = SESSION_IDLE; s < SESSION_STATE_COUNT; s++)
		if (session_state_is_creating((enum session_state)s) && s != SESSION_ABORTING_WRITERS &&
		    s != SESSION_ABORTING_COPIES)
			assert_int_equal(session_next((enum session_state)s, SESSION_EVENT_FAIL), SESSION_ABORTING_WRITERS);
}

/* The end of a set is not to be interrupted: a cancel waits, everything else leads on, and there is a limit. */
static void aborting_always_ends(void **state)
{
	struct config config;

	config_defaults(&config);
	for (int s = SESSION_ABORTING_WRITERS; s <= SESSION_ABORTING_COPIES; s++) {
		enum session_state from = (enum session_state)s;
		assert_int_equal(session_next(from, SESSION_EVENT_CANCEL), SESSION_NONE);
		assert_true(session_next(from, SESSION_EVENT_DONE) > from);
		assert_true(session_next(from, SESSION_EVENT_EXPIRED) > from);
		assert_true(session_state_limit(from, &config) <= 60 * USEC_PER_SEC);
	}
	assert_int_equal(session_next(SESSION_ABORTING_WRITERS, SESSION_EVENT_DONE), SESSION_ABORTING_COPIES);
}

static void mark(bool reached[SESSION_STATE_COUNT], enum session_state from)
{
	if (from == SESSION_NONE || reached[from])
		return;
	reached[from] = true;
	for (int e = 0; e < SESSION_EVENT_COUNT; e++)
		mark(reached, session_next(from, (enum session_event)e));
}

static void every_state_is_reached_and_reaches_the_end(void **state)
{
	bool reached[SESSION_STATE_COUNT] = { false };

	mark(reached, SESSION_IDLE);
	for (int s = SESSION_IDLE; s < SESSION_STATE_COUNT; s++) {
		bool from[SESSION_STATE_COUNT] = { false };
		if (!reached[s])
			fail_msg("%s is never entered", session_state_name((enum session_state)s));
		mark(from, (enum session_state)s);
		if (!from[SESSION_CLOSED])
			fail_msg("%s never ends", session_state_name((enum session_state)s));
	}
}

/* A cancelled session ends however deep it is in a set, without the requestor doing anything more. */
static void cancel_ends_every_state(void **state)
{
	for (int s = SESSION_IDLE; s < SESSION_CLOSED; s++) {
		enum session_state at = (enum session_state)s, next;
		int steps = 0;
		while (at != SESSION_CLOSED && steps++ < 10) {
			next = session_next(at, SESSION_EVENT_CANCEL);
			at = next != SESSION_NONE ? next : session_next(at, SESSION_EVENT_DONE);
			assert_true(at != SESSION_NONE);
		}
		assert_int_equal(at, SESSION_CLOSED);
	}
}

/* Who waits for somebody else has a limit or waits for calls and jobs that each have one. */
static void limits(void **state)
{
	struct config config;

	config_defaults(&config);
	assert_int_equal(session_state_limit(SESSION_PREPARED, &config), 60 * USEC_PER_SEC);
	assert_int_equal(session_state_limit(SESSION_THAWING_SYSTEM, &config), USEC_PER_SEC);
	assert_int_equal(session_state_limit(SESSION_THAWING_BACK_END, &config), USEC_PER_SEC);
	assert_int_equal(session_state_limit(SESSION_ABORTING_WRITERS, &config), 5 * USEC_PER_SEC);
	config.cut = 7;
	config.finish_copies = 8;
	config.prepare_copies = 9;
	config.remove_copies = 10;
	config.event = 11;
	assert_int_equal(session_state_limit(SESSION_CUTTING, &config), 7);
	assert_int_equal(session_state_limit(SESSION_OPENING, &config), 8);
	assert_int_equal(session_state_limit(SESSION_SEALING, &config), 8);
	assert_int_equal(session_state_limit(SESSION_ABORTING_COPIES, &config), 8);
	assert_int_equal(session_state_limit(SESSION_FLUSHING, &config), 9);
	assert_int_equal(session_state_limit(SESSION_CLOSING, &config), 10);
	assert_int_equal(session_state_limit(SESSION_THAWING_FRONT_END, &config), 11);
	for (int s = SESSION_IDLE; s < SESSION_STATE_COUNT; s++) {
		bool limited = session_state_limit((enum session_state)s, &config) != USEC_INFINITY;
		bool expires = session_next((enum session_state)s, SESSION_EVENT_EXPIRED) != SESSION_NONE;
		assert_true(!limited || expires); /* a limit that nothing comes of would be none */
	}
	assert_int_equal(session_state_limit(SESSION_IDLE, &config), USEC_INFINITY);
	assert_int_equal(session_state_limit(SESSION_CREATED, &config), USEC_INFINITY);
}

static void percent_grows_along_the_way(void **state)
{
	unsigned before = 0;

	for (enum session_state s = SESSION_WAITING; s != SESSION_CREATED;) {
		assert_true(session_state_percent(s) >= before);
		before = session_state_percent(s);
		s = s == SESSION_PREPARED ? session_next(s, SESSION_EVENT_SNAPSHOT) : session_next(s, own_events[0]);
		assert_true(s != SESSION_NONE);
	}
	assert_int_equal(session_state_percent(SESSION_CREATED), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_matrix),
		cmocka_unit_test(names_round_trip),
		cmocka_unit_test(no_exit_skips_thaw_or_abort),
		cmocka_unit_test(every_freeze_is_followed_by_its_thaw),
		cmocka_unit_test(creating_states_fail_to_abort),
		cmocka_unit_test(aborting_always_ends),
		cmocka_unit_test(every_state_is_reached_and_reaches_the_end),
		cmocka_unit_test(cancel_ends_every_state),
		cmocka_unit_test(limits),
		cmocka_unit_test(percent_grows_along_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
