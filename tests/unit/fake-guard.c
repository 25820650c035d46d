/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake-guard.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/unit/tape.h"

struct rule {
	enum fake_mode mode;
	enum vss_error error;
	const char *answer;
};

struct guard {
	sd_event *event;
	struct rule arm, go, release;
	json_t *plan;
	size_t open;
};

struct window {
	struct guard *guard;
	const char *step;
	const struct rule *rule;
	guard_fn fn;
	void *data;
	sd_event_source *source;
};

struct guard *fake_guard_new(sd_event *event)
{
	struct guard *guard = calloc(1, sizeof *guard);

	guard->event = event;
	return guard;
}

void fake_guard_free(struct guard *guard)
{
	if (guard)
		json_decref(guard->plan);
	free(guard);
}

void fake_guard_rule(struct guard *guard, const char *step, enum fake_mode mode, enum vss_error error, const char *answer)
{
	struct rule *rule = strcmp(step, "arm") == 0 ? &guard->arm : strcmp(step, "go") == 0 ? &guard->go : &guard->release;

	*rule = (struct rule){ mode, error, answer };
}

void fake_guard_obey(struct guard *guard)
{
	guard->arm = guard->go = guard->release = (struct rule){ .mode = FAKE_OK };
}

json_t *fake_guard_plan(const struct guard *guard)
{
	return guard->plan;
}

size_t fake_guard_open(const struct guard *guard)
{
	return guard->open;
}

/* A millisecond for each cut, one after the other. */
static json_t *usual_answer(const struct guard *guard)
{
	size_t n = json_array_size(json_object_get(guard->plan, "Cuts"));
	json_t *cuts = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(cuts, json_pack("{si si}", "Begin", (int)(1000 * (i + 1)), "End", (int)(1000 * (i + 2))));
	return json_pack("{si si so}", "Begin", 1000, "End", (int)(1000 * (n + 2)), "Cuts", cuts);
}

static int answer(sd_event_source *source, void *data)
{
	struct window *window = data;
	const struct rule *rule = window->rule;
	autojson json_t *value = rule->answer ? json_loads(rule->answer, 0, NULL) : usual_answer(window->guard);
	struct err err = { 0 };

	if (rule->mode == FAKE_ERROR)
		err_set(&err, rule->error, "The guard says: %s at %s", error_text(rule->error), window->step);
	window->source = sd_event_source_disable_unref(window->source);
	window->fn(&err, err.code ? NULL : value, window->data);
	return 0;
}

static void begin(struct window *window, const char *step, const struct rule *rule, guard_fn fn)
{
	tape_add("guard %s", step);
	window->step = step;
	window->rule = rule;
	window->fn = fn;
	if (rule->mode == FAKE_OK || rule->mode == FAKE_ERROR)
		sd_event_add_defer(window->guard->event, &window->source, answer, window);
}

struct window *guard_arm(struct guard *guard, json_t *plan, const int *fds, size_t n_fds, uint64_t deadline, guard_fn fn,
			 void *data, struct err *err)
{
	struct window *window;

	for (size_t i = 0; i < n_fds; i++)
		if (fcntl(fds[i], F_GETFD) < 0)
			abort(); /* lent a descriptor that is closed */
	json_decref(guard->plan);
	guard->plan = plan;
	if (guard->arm.mode == FAKE_REFUSE) {
		err_set(err, VSS_E_NOT_AVAILABLE, "vss-guard is not running");
		return NULL;
	}
	window = calloc(1, sizeof *window);
	*window = (struct window){ .guard = guard, .data = data };
	guard->open++;
	begin(window, "arm", &guard->arm, fn);
	return window;
}

void window_go(struct window *window, guard_fn fn)
{
	begin(window, "go", &window->guard->go, fn);
}

void window_release(struct window *window, guard_fn fn)
{
	begin(window, "release", &window->guard->release, fn);
}

struct window *window_close(struct window *window)
{
	if (!window)
		return NULL;
	tape_add("guard free");
	window->guard->open--;
	sd_event_source_disable_unref(window->source);
	free(window);
	return NULL;
}
