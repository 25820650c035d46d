/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reverting a volume: who hears what, in which order, what stops it, and that whoever let go is told to take up again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/revert.h"
#include "tests/unit/session-world.h"

struct scene {
	struct world *w;
	struct session *session;
	struct revert_context context;
	struct revert_options options;
	struct revert *revert;
	unsigned told;
	struct err err;
	json_t *result;
};

static void told(const struct err *err, json_t *result, void *data)
{
	struct scene *s = data;

	s->told++;
	s->err = *err;
	s->result = json_incref(result);
	tape_add("revert %s", err->code ? "failed" : "ok");
}

/* A persistent copy of the volume "vol" (or another), on which two of three writers have files. */
static void begin(struct scene *s, const char *volume)
{
	struct session_options options = world_options();
	struct err err = { 0 };

	*s = (struct scene){ .w = world_new(NULL) };
	world_writer(s->w, "a", "front-end", "/vol/a", NULL, NULL);
	world_writer(s->w, "b", "back-end", "/vol/b:/data/b", NULL, NULL);
	world_writer(s->w, "c", "system", "/logs/c", NULL, NULL);
	options.persistent = true;
	s->session = world_session_with(s->w, &options);
	world_add(s->w, s->session, volume);
	if (strcmp(volume, "vol") == 0)
		world_add(s->w, s->session, "data");
	if (session_snapshot(s->session, &err) < 0)
		fail_msg("%s", err.text);
	world_turns(s->w);
	if (!world_succeeded(s->w))
		fail_msg("%s", world_result_text(s->w, "Message"));
	s->context = (struct revert_context){ .restore = { &s->w->config, s->w->registry, s->w->workers, s->w->fanout },
					      .catalogue = s->w->catalogue,
					      .locks = s->w->locks };
	memcpy(s->options.copy, s->session->members[0].copy, ID_SIZE);
	s->options.holder = json_object();
	tape_clear();
}

static void end(struct scene *s)
{
	json_decref(s->options.holder);
	json_decref(s->result);
	world_free(s->w);
}

static void run(struct scene *s)
{
	s->revert = revert_start(&s->context, &s->options, told, s, &s->err);
	assert_non_null(s->revert);
	world_turns(s->w);
}

static const char *text(const struct scene *s, const char *member)
{
	return json_string_value(json_object_get(s->result, member)) ?: "";
}

static void provider_says(struct scene *s, const char *state)
{
	static char answer[128];

	snprintf(answer, sizeof answer, "{\"State\": \"%s\"}", state);
	fake_workers_rule(s->w->workers, "revert", FAKE_OK, VSS_OK, answer);
}

static void writers_let_go_before_and_take_up_after(void **state)
{
	struct scene s;

	begin(&s, "vol");
	provider_says(&s, "reverted");
	run(&s);
	assert_int_equal(s.told, 1);
	assert_int_equal(s.err.code, VSS_OK);
	assert_string_equal(text(&s, "State"), "reverted");
	assert_true(tape_before("PreRestore :a", "job revert"));
	assert_true(tape_before("PreRestore :b", "job revert"));
	assert_true(tape_before("job revert", "PostRestore :a"));
	assert_true(tape_before("PostRestore :b", "revert ok"));
	assert_int_equal(tape_find("PreRestore :c"), -1); /* has nothing there */
	assert_int_equal(json_array_size(json_object_get(s.result, "Writers")), 2);
	const struct fake_call *call = fake_fanout_last(s.w->fanout, "PostRestore", ":a");
	assert_true(json_is_true(json_object_get(json_array_get(call->args, 3), "Succeeded")));
	end(&s);
}

static void preview_changes_nothing(void **state)
{
	struct scene s;

	begin(&s, "vol");
	s.options.preview = true;
	run(&s);
	assert_int_equal(s.err.code, VSS_OK);
	assert_string_equal(text(&s, "Volume"), "/vol");
	assert_string_equal(text(&s, "State"), "");
	assert_int_equal(tape_find("job revert"), -1);
	assert_int_equal(tape_find("PreRestore"), -1);
	end(&s);
}

static void what_the_provider_refuses_no_writer_hears_of(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fake_workers_rule(s.w->workers, "check-revert", FAKE_ERROR, VSS_E_VOLUME_IN_USE, NULL);
	run(&s);
	assert_int_equal(s.told, 1);
	assert_int_equal(s.err.code, VSS_E_VOLUME_IN_USE);
	assert_int_equal(tape_find("PreRestore"), -1);
	assert_int_equal(tape_find("job revert"), -1);
	end(&s);
}

static void whether_the_copy_stays_is_told(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fake_workers_rule(s.w->workers, "check-revert", FAKE_OK, VSS_OK, "{\"Kept\": true}");
	s.options.preview = true;
	run(&s);
	assert_int_equal(s.err.code, VSS_OK);
	assert_true(json_is_true(json_object_get(s.result, "Kept")));
	end(&s);
}

static void fail_pre_restore(struct scene *s)
{
	fake_fanout_rule(s->w->fanout, &(struct fake_fanout_rule){ .writer = ":b", .event = "PreRestore", .mode = FAKE_ERROR,
								   .error = VSS_E_WRITER_NON_RETRYABLE,
								   .message = "busy" });
}

static void a_writers_refusal_stops_it(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fail_pre_restore(&s);
	run(&s);
	assert_int_equal(s.err.code, VSS_E_WRITER_NON_RETRYABLE);
	assert_non_null(strstr(s.err.text, "'b' failed at PreRestore"));
	assert_int_equal(tape_find("job revert"), -1);
	assert_true(tape_count("PostRestore :a") == 1); /* which had let go */
	const struct fake_call *call = fake_fanout_last(s.w->fanout, "PostRestore", ":a");
	assert_true(json_is_false(json_object_get(json_array_get(call->args, 3), "Succeeded")));
	end(&s);
}

static void force_passes_over_it(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fail_pre_restore(&s);
	provider_says(&s, "reverted");
	s.options.force = true;
	run(&s);
	assert_int_equal(s.err.code, VSS_OK);
	assert_true(tape_find("job revert") >= 0);
	end(&s);
}

static void providers_failure(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fake_workers_rule(s.w->workers, "revert", FAKE_ERROR, VSS_E_VOLUME_IN_USE, NULL);
	run(&s);
	assert_int_equal(s.err.code, VSS_E_VOLUME_IN_USE);
	assert_int_equal(tape_count("PostRestore"), 2);
	end(&s);
}

/* What is pending has replaced nothing yet. */
static void pending_is_not_restored(void **state)
{
	struct scene s;

	begin(&s, "vol");
	provider_says(&s, "pending");
	run(&s);
	assert_string_equal(text(&s, "State"), "pending");
	const struct fake_call *call = fake_fanout_last(s.w->fanout, "PostRestore", ":a");
	assert_true(json_is_false(json_object_get(json_array_get(call->args, 3), "Succeeded")));
	end(&s);
}

static void refused_while_the_volume_is_in_a_set(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fake_workers_rule(s.w->workers, "prepare", FAKE_HOLD, VSS_OK, NULL);
	struct session *other = world_session(s.w);
	struct err err = { 0 };
	world_add(s.w, other, "vol");
	assert_int_equal(session_snapshot(other, &err), 0);
	world_turns(s.w);
	run(&s);
	assert_int_equal(s.err.code, VSS_E_SNAPSHOT_SET_IN_PROGRESS);
	assert_int_equal(tape_find("PreRestore"), -1);
	end(&s);
}

static void refused_when_the_volume_is_another(void **state)
{
	struct scene s;

	begin(&s, "vol");
	fake_workers_rule(s.w->workers, "resolve", FAKE_OK, VSS_OK,
			  "{\"Volumes\": [{\"Path\": \"/vol\", \"Id\": \"stranger\", \"Domains\": []}]}");
	run(&s);
	assert_int_equal(s.err.code, VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(tape_find("PreRestore"), -1);
	end(&s);
}

static void found_where_it_is_not_mounted(void **state)
{
	struct scene s;
	char volumes[512];

	begin(&s, "vol");
	provider_says(&s, "reverted");
	fake_workers_rule(s.w->workers, "resolve", FAKE_OK, VSS_OK,
			  "{\"Volumes\": [{\"Path\": \"/\", \"Id\": \"stranger\", \"Domains\": []}]}");
	autojson json_t *row = catalogue_row(s.w->catalogue, s.options.copy);
	snprintf(volumes, sizeof volumes,
		 "{\"Volumes\": [{\"Path\": \"/x\", \"Id\": \"x\"}, {\"Path\": \"/dev/vg/vol\", \"Id\": \"%s\", \"Domains\": []}]}",
		 json_string_value(json_object_get(row, "VolumeId")));
	fake_workers_rule(s.w->workers, "list", FAKE_OK, VSS_OK, volumes);
	run(&s);
	assert_int_equal(s.err.code, VSS_OK);
	assert_string_equal(text(&s, "State"), "reverted");
	end(&s);
}

static void refused_while_exposed(void **state)
{
	struct scene s;

	begin(&s, "vol");
	catalogue_set_exposed(s.w->catalogue, s.options.copy, "/mnt");
	run(&s);
	assert_int_equal(s.err.code, VSS_E_VOLUME_IN_USE);
	assert_non_null(strstr(s.err.text, "/mnt"));
	end(&s);
}

static void unknown_copy(void **state)
{
	struct scene s;

	begin(&s, "vol");
	memset(s.options.copy, '0', ID_SIZE - 1);
	assert_null(revert_start(&s.context, &s.options, told, &s, &s.err));
	assert_int_equal(s.err.code, VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(s.told, 0);
	end(&s);
}

/* vssd ends in the middle: nothing runs, nothing leaks. */
static void cancelled_at_every_step(void **state)
{
	static const char *const ops[] = { "resolve", "revert" };

	for (size_t i = 0; i < ARRAY_SIZE(ops) + 1; i++) {
		struct scene s;
		begin(&s, "vol");
		provider_says(&s, "reverted");
		if (i < ARRAY_SIZE(ops))
			fake_workers_rule(s.w->workers, ops[i], FAKE_HOLD, VSS_OK, NULL);
		else
			fake_fanout_rule(s.w->fanout, &(struct fake_fanout_rule){ .event = "PreRestore", .mode = FAKE_HOLD });
		run(&s);
		assert_int_equal(s.told, 0);
		revert_cancel(s.revert);
		world_turns(s.w);
		assert_int_equal(s.told, 0);
		end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers_let_go_before_and_take_up_after),
		cmocka_unit_test(preview_changes_nothing),
		cmocka_unit_test(what_the_provider_refuses_no_writer_hears_of),
		cmocka_unit_test(whether_the_copy_stays_is_told),
		cmocka_unit_test(a_writers_refusal_stops_it),
		cmocka_unit_test(force_passes_over_it),
		cmocka_unit_test(providers_failure),
		cmocka_unit_test(pending_is_not_restored),
		cmocka_unit_test(refused_while_the_volume_is_in_a_set),
		cmocka_unit_test(refused_when_the_volume_is_another),
		cmocka_unit_test(found_where_it_is_not_mounted),
		cmocka_unit_test(refused_while_exposed),
		cmocka_unit_test(unknown_copy),
		cmocka_unit_test(cancelled_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
