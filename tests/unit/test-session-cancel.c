/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session is ended, loses its requestor, a writer or its time, or vssd itself ends, in every state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/unit/session-stops.h"

typedef void (*stop_fn)(struct world *world, struct session *session, const struct stop *stop);

static void in_every_state(stop_fn fn)
{
	for (size_t i = 0; i < n_stops; i++) {
		struct world *w = world_new(NULL);
		print_message("%s\n", stops[i].state);
		fn(w, stop_in(w, &stops[i]), &stops[i]);
		world_free(w);
	}
}

/* Whoever does not answer still does not: only time helps, and only as much as the state's limit. */
static void let_time_pass(struct world *w)
{
	for (int i = 0; i < 4 && w->closed < 1; i++)
		for (struct session *s = w->context.sessions, *next; s; s = next) {
			next = s->next;
			if (s->closing && world_limit_left(s) != USEC_INFINITY) {
				world_expire(w, s);
				break;
			}
		}
}

static void let_it_end(struct world *w)
{
	if (workers_busy(w->workers) > 0)
		fake_workers_answer(w->workers, tape_count("job remove") ? "remove" : "abort", VSS_OK);
	world_turns(w);
	let_time_pass(w);
}

static void assert_ended(struct world *w, const struct stop *stop)
{
	let_it_end(w);
	if (w->closed != 1)
		fail_msg("%s: still there\n%s", stop->state, tape_text());
	stop_assert_nobody_frozen();
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	assert_int_equal(fake_workers_open_fds(w->workers), 0);
	assert_int_equal(fake_fanout_holds(w->fanout), 0);
	stop_unblock(w);
	world_assert_next_set_works(w);
}

static bool is_told(const struct session *s)
{
	return s->state >= SESSION_PREPARING_BACKUP && s->state <= SESSION_SEALING;
}

static void cancel(struct world *w, struct session *s, const struct stop *stop)
{
	bool told = is_told(s), busy = *s->operation;
	unsigned before = w->finished;

	session_close(s, true);
	/* Abort goes out at once, to all levels, before anything else happens. */
	if (told)
		assert_int_equal(tape_count("Abort "), 3);
	world_turns(w);
	assert_ended(w, stop);
	if (told && tape_find("Thaw :f") < 0)
		assert_true(tape_before("Abort", "BackupShutdown"));
	if (!busy)
		return;
	assert_true(w->finished > before);
}

static void cancelled_in_every_state(void **state)
{
	in_every_state(cancel);
}

static void tell_cancelled(struct world *w, struct session *s, const struct stop *stop)
{
	bool told = is_told(s) && *s->operation;

	session_close(s, false);
	world_turns(w);
	if (told) {
		assert_false(world_succeeded(w));
		assert_string_equal(world_result_text(w, "Error"), "Cancelled");
		assert_non_null(strstr(world_result_text(w, "Message"), stop->state));
	}
	assert_ended(w, stop);
}

static void requestor_hears_where_it_was_cancelled(void **state)
{
	in_every_state(tell_cancelled);
}

static void lose_owner(struct world *w, struct session *s, const struct stop *stop)
{
	session_owner_lost(s);
	world_turns(w);
	assert_ended(w, stop);
}

static void requestor_gone_in_every_state(void **state)
{
	in_every_state(lose_owner);
}

/* Ended twice, and once more by a lease: nothing happens twice. */
static void cancel_twice(struct world *w, struct session *s, const struct stop *stop)
{
	session_close(s, false);
	if (w->context.sessions)
		for (struct session *other = w->context.sessions; other; other = other->next)
			if (other == s) {
				session_close(s, true);
				break;
			}
	world_turns(w);
	let_it_end(w);
	assert_int_equal(w->closed, 1);
	stop_assert_nobody_frozen();
}

static void cancelled_twice_in_every_state(void **state)
{
	in_every_state(cancel_twice);
}

/* All writers die in every state, with and without a call under way, while the session ends or not. */
static void lose_writers(struct world *w, struct session *s, const struct stop *stop)
{
	bool holding = session_state_holds_writers(s->state), busy = *s->operation, closing = s->closing;

	for (const char **name = (const char *[]){ "f", "b", "s", NULL }; *name; name++)
		world_writer_dies(w, *name);
	world_turns(w);
	if (holding) {
		assert_state(s, "Failed");
		assert_int_equal(s->error.code, VSS_E_WRITER_NOT_RESPONDING);
		assert_true(!busy || strcmp(world_result_text(w, "Error"), "WriterNotResponding") == 0);
		assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	} else if (!closing) {
		session_close(s, false);
	}
	if (holding)
		session_close(s, false);
	world_turns(w);
	let_it_end(w);
	assert_int_equal(w->closed, 1);
	stop_unblock(w);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
}

static void writers_lost_in_every_state(void **state)
{
	in_every_state(lose_writers);
}

static void lose_writers_while_closing(struct world *w, struct session *s, const struct stop *stop)
{
	session_close(s, false);
	for (const char **name = (const char *[]){ "f", "b", "s", NULL }; *name; name++)
		world_writer_dies(w, *name);
	world_turns(w);
	let_it_end(w);
	assert_int_equal(w->closed, 1);
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
}

static void writers_lost_while_it_is_being_ended(void **state)
{
	in_every_state(lose_writers_while_closing);
}

/* Every limit of a state that creates leads to the failed set; a slow thaw leads on. */
static void run_out_of_time(struct world *w, struct session *s, const struct stop *stop)
{
	bool creating = session_state_is_creating(s->state) && s->state < SESSION_CREATED;

	if (!creating || stop->thaws_late || world_limit_left(s) == USEC_INFINITY)
		return;
	world_expire(w, s);
	assert_state(s, "Failed");
	assert_true(error_is_retryable(s->error.code));
	assert_non_null(strstr(s->error.text, s->state == SESSION_PREPARED ? "minute" : ""));
	stop_assert_nobody_frozen();
	assert_int_equal(json_object_size(fake_workers_copies(w->workers)), 0);
	stop_unblock(w);
	world_assert_next_set_works(w);
}

static void time_out_in_every_state(void **state)
{
	in_every_state(run_out_of_time);
}

/* vssd ends: nothing that is under way may come back to a session that is gone. */
static void end_vssd(struct world *w, struct session *s, const struct stop *stop)
{
	sessions_free(&w->context);
	assert_int_equal(w->context.n_sessions, 0);
}

static void vssd_ends_in_every_state(void **state)
{
	in_every_state(end_vssd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancelled_in_every_state),
		cmocka_unit_test(requestor_hears_where_it_was_cancelled),
		cmocka_unit_test(requestor_gone_in_every_state),
		cmocka_unit_test(cancelled_twice_in_every_state),
		cmocka_unit_test(writers_lost_in_every_state),
		cmocka_unit_test(writers_lost_while_it_is_being_ended),
		cmocka_unit_test(time_out_in_every_state),
		cmocka_unit_test(vssd_ends_in_every_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
