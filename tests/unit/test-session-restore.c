/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A requestor that puts files back itself: the writers on its volumes hear of it before and after, however it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "tests/unit/session-world.h"

static struct session *session_on_data(struct world **ret)
{
	struct world *w = world_new(NULL);
	struct session *s;

	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "b", "back-end", "/logs/b", NULL, NULL);
	s = world_session(w);
	world_add(w, s, "data");
	*ret = w;
	return s;
}

static void call(struct world *w, struct session *s, bool post, bool succeeded)
{
	struct err err = { 0 };

	if ((post ? session_post_restore(s, succeeded, &err) : session_pre_restore(s, &err)) < 0)
		fail_msg("%s", err.text);
	world_turns(w);
}

static bool told_success(struct world *w)
{
	const struct fake_call *call = fake_fanout_last(w->fanout, "PostRestore", ":f");

	return json_is_true(json_object_get(json_array_get(call->args, 3), "Succeeded"));
}

static void before_and_after(void **state)
{
	struct world *w;
	struct session *s = session_on_data(&w);

	call(w, s, false, false);
	assert_string_equal(w->operation, "PreRestore");
	assert_true(world_succeeded(w));
	assert_true(tape_count("PreRestore :f") == 1);
	assert_int_equal(tape_count("PreRestore :b"), 0);
	call(w, s, true, true);
	assert_string_equal(w->operation, "PostRestore");
	assert_true(world_succeeded(w));
	assert_true(told_success(w));
	assert_state(s, "Idle");
	call(w, s, false, false); /* and once more */
	call(w, s, true, false);
	assert_false(told_success(w));
	world_free(w);
}

static void a_refusal_is_told(void **state)
{
	struct world *w;
	struct session *s = session_on_data(&w);

	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":f", .event = "PreRestore", .mode = FAKE_ERROR,
								.error = VSS_E_WRITER_RETRYABLE, .message = "busy" });
	call(w, s, false, false);
	assert_false(world_succeeded(w));
	assert_string_equal(world_result_text(w, "Error"), error_name(VSS_E_WRITER_RETRYABLE));
	call(w, s, true, false); /* it heard PreRestore: it hears the end too */
	assert_int_equal(tape_count("PostRestore :f"), 1);
	world_free(w);
}

/* The requestor goes in the middle: the writers do not wait for ever. */
static void the_sessions_end_ends_it(void **state)
{
	struct world *w;
	struct session *s = session_on_data(&w);

	call(w, s, false, false);
	session_owner_lost(s);
	world_turns(w);
	assert_int_equal(w->closed, 1);
	assert_int_equal(tape_count("PostRestore :f"), 1);
	assert_false(told_success(w));
	world_free(w);
}

static void in_order_only(void **state)
{
	struct world *w;
	struct session *s = session_on_data(&w);
	struct err err = { 0 };

	assert_true(session_post_restore(s, true, &err) < 0);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	call(w, s, false, false);
	assert_true(session_pre_restore(s, &err) < 0);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	world_free(w);
}

/* One that is answered after the session has gone. */
static void ended_while_asked(void **state)
{
	struct world *w;
	struct session *s = session_on_data(&w);
	struct err err = { 0 };

	fake_workers_rule(w->workers, "resolve", FAKE_HOLD, VSS_OK, NULL);
	assert_int_equal(session_pre_restore(s, &err), 0);
	session_owner_lost(s);
	world_turns(w);
	assert_int_equal(w->closed, 1);
	assert_int_equal(tape_count("PreRestore"), 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_and_after),   cmocka_unit_test(a_refusal_is_told),
		cmocka_unit_test(the_sessions_end_ends_it), cmocka_unit_test(in_order_only),
		cmocka_unit_test(ended_while_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
