/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What writers add to their answers: doubts lower the label, checklists reach the requestor, and neither goes past its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "tests/unit/session-world.h"

static void answer(struct world *w, const char *event, const char *text)
{
	fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":a", .event = event, .answer = text });
}

static struct world *one_writer(void)
{
	struct world *w = world_new(NULL);

	world_writer(w, "a", "system", "/data/a", NULL, NULL);
	return w;
}

/* ---- doubts ---- */

static void a_doubt_lowers_the_label_in_each_event(void **state)
{
	static const struct {
		const char *event, *answer;
	} rows[] = {
		{ "PrepareBackup", "{\"Doubts\": [\"guest web: no agent\"]}" },
		{ "PrepareSnapshot", "{\"Doubts\": [\"guest web: no agent\"]}" },
		{ "Freeze", "{\"Sequence\": 7, \"Doubts\": [\"guest web: no agent\"]}" },
		{ "PostSnapshot", "{\"Doubts\": [\"guest web: no agent\"]}" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct world *w = one_writer();
		if (strcmp(rows[i].event, "Freeze") == 0)
			answer(w, "Thaw", "{\"Sequence\": 7, \"Unbroken\": true}");
		answer(w, rows[i].event, rows[i].answer);
		struct session *s = world_set(w);
		assert_state(s, "Created");
		assert_string_equal(world_result_text(w, "Consistency"), "filesystem");
		assert_string_equal(world_result_text(w, "ConsistencyReason"), "Writer 'a': guest web: no agent");
		session_close(s, false);
		world_turns(w);
		/* The next set's label is its own. */
		fake_fanout_obey(w->fanout);
		s = world_set(w);
		assert_string_equal(world_result_text(w, "Consistency"), "application");
		session_close(s, false);
		world_turns(w);
		world_free(w);
	}
}

static void unreadable_doubts_are_doubts(void **state)
{
	static const char *const answers[] = { "{\"Doubts\": \"no list\"}", "{\"Doubts\": [7]}" };

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct world *w = one_writer();
		answer(w, "PrepareBackup", answers[i]);
		struct session *s = world_set(w);
		assert_string_equal(world_result_text(w, "Consistency"), "filesystem");
		assert_non_null(strstr(world_result_text(w, "ConsistencyReason"), "cannot be read"));
		session_close(s, false);
		world_turns(w);
		world_free(w);
	}
}

static void doubts_are_bounded(void **state)
{
	struct world *w = one_writer();
	autojson json_t *doubts = json_array(), *whole = json_object();
	char text[1000];

	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	text[3] = '\033';
	for (int i = 0; i < 1000; i++)
		json_array_append_new(doubts, json_string(text));
	json_object_set(whole, "Doubts", doubts);
	autofree char *dumped = json_dumps(whole, 0);
	answer(w, "PrepareBackup", dumped);
	struct session *s = world_set(w);
	assert_int_equal(json_array_size(s->doubts), 64);
	assert_true(json_string_length(json_array_get(s->doubts, 0)) < 450);
	assert_null(strchr(json_string_value(json_array_get(s->doubts, 0)), '\033'));
	session_close(s, false);
	world_turns(w);
	world_free(w);
}

/* ---- checks ---- */

static struct session *rehearse(struct world *w, bool verify)
{
	struct session_options options = world_options();

	options.verify = verify;
	struct session *s = world_session_with(w, &options);
	world_add(w, s, "data");
	assert_int_equal(session_prepare(s, NULL), 0);
	world_turns(w);
	return s;
}

static json_t *checks(const struct session *s)
{
	return world_participant(s, "a")->checks;
}

static const char *check_text(const struct session *s, size_t i, const char *member)
{
	return json_string_value(json_object_get(json_array_get(checks(s), i), member));
}

static void checks_are_asked_for_when_verifying_only(void **state)
{
	struct world *w = one_writer();

	answer(w, "PrepareBackup", "{\"Checks\": [{\"Object\": \"web\", \"Check\": \"agent\", \"Verdict\": \"ok\", \"Text\": \"\"}]}");
	struct session *s = rehearse(w, false);
	assert_null(json_object_get(json_array_get(fake_fanout_last(w->fanout, "PrepareBackup", ":a")->args, 3), "Verify"));
	assert_null(checks(s));
	session_close(s, true);
	world_turns(w);
	s = rehearse(w, true);
	assert_true(json_is_true(json_object_get(
		json_array_get(fake_fanout_last(w->fanout, "PrepareBackup", ":a")->args, 3), "Verify")));
	assert_int_equal(json_array_size(checks(s)), 1);
	assert_string_equal(check_text(s, 0, "Object"), "web");
	assert_string_equal(check_text(s, 0, "Verdict"), "ok");
	autojson json_t *rows = session_participant_rows(s);
	assert_true(json_equal(json_object_get(json_array_get(rows, 0), "Checks"), checks(s)));
	session_close(s, true);
	world_turns(w);
	world_free(w);
}

static void a_rehearsal_makes_no_copies(void **state)
{
	struct world *w = one_writer();
	struct session *s = rehearse(w, true);
	struct err err = { 0 };

	assert_int_equal(session_snapshot(s, &err), -1);
	assert_int_equal(err.code, VSS_E_BAD_STATE);
	session_close(s, true);
	world_turns(w);
	assert_int_equal(tape_count("Freeze"), 0);
	world_free(w);
}

/* Only the word "ok" is ok. */
static void strange_verdicts_are_unknown(void **state)
{
	struct world *w = one_writer();

	answer(w, "PrepareBackup",
	       "{\"Checks\": [{\"Object\": 3, \"Check\": \"a\\u001bb\", \"Verdict\": \"OK\"}, 7, {\"Verdict\": \"bad\"}]}");
	struct session *s = rehearse(w, true);
	assert_int_equal(json_array_size(checks(s)), 3);
	assert_string_equal(check_text(s, 0, "Verdict"), "unknown");
	assert_string_equal(check_text(s, 0, "Check"), "a b");
	assert_string_equal(check_text(s, 1, "Verdict"), "unknown");
	assert_string_equal(check_text(s, 2, "Verdict"), "bad");
	session_close(s, true);
	world_turns(w);
	world_free(w);
}

static void checks_are_bounded(void **state)
{
	struct world *w = one_writer();
	autojson json_t *whole = json_object();
	json_t *list = json_array();

	for (int i = 0; i < 5000; i++)
		json_array_append_new(list, json_object());
	json_object_set_new(whole, "Checks", list);
	autofree char *dumped = json_dumps(whole, 0);
	answer(w, "PrepareBackup", dumped);
	struct session *s = rehearse(w, true);
	assert_int_equal(json_array_size(checks(s)), 2048);
	session_close(s, true);
	world_turns(w);
	world_free(w);
}

/* What would be refused is told as a check, beside what the writer has to say. */
static void volumes_outside_the_set_are_a_check(void **state)
{
	struct world *w = world_new(NULL);

	world_writer(w, "a", "system", NULL, NULL,
		     "{\"Components\": [{\"Name\": \"c\", \"Files\": [{\"Path\": \"/data/c\"}], \"Requires\": [\"/logs/c\"]}]}");
	answer(w, "PrepareBackup", "{\"Checks\": [{\"Object\": \"web\", \"Check\": \"agent\", \"Verdict\": \"ok\"}]}");
	struct session *s = rehearse(w, true);
	assert_state(s, "Prepared");
	assert_int_equal(json_array_size(checks(s)), 2);
	assert_string_equal(check_text(s, 0, "Object"), "/logs");
	assert_string_equal(check_text(s, 0, "Verdict"), "bad");
	assert_string_equal(check_text(s, 1, "Object"), "web");
	session_close(s, true);
	world_turns(w);
	assert_state(rehearse(w, false), "Failed");
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_doubt_lowers_the_label_in_each_event),
		cmocka_unit_test(unreadable_doubts_are_doubts),
		cmocka_unit_test(doubts_are_bounded),
		cmocka_unit_test(checks_are_asked_for_when_verifying_only),
		cmocka_unit_test(a_rehearsal_makes_no_copies),
		cmocka_unit_test(strange_verdicts_are_unknown),
		cmocka_unit_test(checks_are_bounded),
		cmocka_unit_test(volumes_outside_the_set_are_a_check),
	};

	return cmocka_run_group_tests_name("session-remarks", tests, NULL, NULL);
}
