/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cut of a set with volumes that have to be held. The providers arm (take their locks, see that what they prepared is
 * still so) and say what is to be done for each member, as data; the guard, which holds the only privilege to stop anybody's
 * writes, gets one plan for all of them. Whatever happens here, letting go of the guard's connection frees everything. */
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/session-internal.h"

bool window_is_needed(const struct session *s)
{
	for (size_t i = 0; i < s->n_members && !s->options.hold; i++) {
		const struct role_info *role = member_role(&s->members[i]);
		if (role && role->window)
			return true;
	}
	return false;
}

static void close_all(int *fds, size_t *n)
{
	for (size_t i = 0; i < *n; i++)
		cleanup_close(&fds[i]);
	*n = 0;
}

void window_end(struct session *s)
{
	struct hold *hold = &s->window;

	hold->window = window_close(hold->window);
	json_decref(hold->answer);
	hold->answer = NULL;
	close_all(hold->locks, &hold->n_locks);
	close_all(hold->fds, &hold->n_fds);
	for (size_t i = 0; i < s->n_members; i++) {
		json_decref(s->members[i].steps);
		s->members[i].steps = NULL;
	}
}

static uint64_t deadline_of(const struct session *s)
{
	uint64_t deadline = s->state_began + s->context->config->cut;

	return deadline < s->hold_deadline ? deadline : s->hold_deadline;
}

static void fail(struct session *s, const struct err *err)
{
	struct err late = *err;

	if (err->code == VSS_E_TIMED_OUT)
		err_set(&late, VSS_E_HOLD_WRITES_TIMEOUT, "The copies were not made in time: %.900s", err->text);
	session_fail(s, &late);
}

/* ---- the window has been ---- */

static void count_cuts(const struct member *m, json_t *cuts, size_t *next, json_int_t *ret_begin, json_int_t *ret_end)
{
	size_t n = json_array_size(json_object_get(m->steps, "Cut"));

	*ret_begin = *ret_end = 0;
	for (size_t i = 0; i < n; i++) {
		json_t *row = json_array_get(cuts, (*next)++);
		json_int_t begin = json_integer_value(json_object_get(row, "Begin"));
		if (i == 0)
			*ret_begin = begin;
		*ret_end = json_integer_value(json_object_get(row, "End"));
	}
}

static void window_done(const struct err *err, json_t *answer, void *data)
{
	struct session *s = data;
	size_t next = 0;

	session_timeline(s, "window", "", s->window.began, clock_now(), err->code ? err->text : "ok");
	if (err->code) {
		fail(s, err);
		return;
	}
	s->writes_held = (uint64_t)(json_integer_value(json_object_get(answer, "End")) -
				    json_integer_value(json_object_get(answer, "Begin")));
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		json_int_t begin, end;
		count_cuts(m, json_object_get(answer, "Cuts"), &next, &begin, &end);
		json_decref(m->cut);
		m->cut = json_pack("{ss sI sI}", "Copy", m->copy, "Begin", begin, "End", end);
	}
	window_end(s);
	session_post(s, SESSION_EVENT_DONE);
}

static void armed(const struct err *err, json_t *answer, void *data)
{
	struct session *s = data;

	if (err->code)
		fail(s, err);
	else
		window_go(s->window.window, window_done);
}

/* ---- one plan ---- */

static bool has_device(json_t *rows, json_t *device)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
		if (json_equal(json_object_get(row, "Device"), device))
			return true;
	return false;
}

/* One freeze a superblock, one suspend a device, whoever named them. */
static void add_held(json_t *list, json_t *rows, json_t *depth)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) {
		if (has_device(list, json_object_get(row, "Device")))
			continue;
		if (depth)
			json_object_set(row, "Depth", depth);
		json_array_append(list, row);
	}
}

static json_t *plan_of(const struct session *s, uint64_t deadline)
{
	json_t *filesystems = json_array(), *devices = json_array(), *cuts = json_array();
	char owner[200];

	for (size_t i = 0; i < s->n_members; i++) {
		json_t *steps = s->members[i].steps, *depth = json_object_get(steps, "Depth");
		add_held(filesystems, json_object_get(steps, "Freeze"), depth);
		add_held(devices, json_object_get(steps, "Suspend"), depth);
		json_array_extend(cuts, json_object_get(steps, "Cut"));
	}
	text_format(owner, sizeof owner, "vssd, a set of session %s (pid %d%s%s)", s->id, (int)s->pid,
		    *s->options.command ? ", " : "", s->options.command);
	return json_pack("{ss ss sI sb so so so}", "Set", s->set, "Owner", owner, "Deadline", (json_int_t)deadline, "Hold", 0,
			 "Filesystems", filesystems, "Devices", devices, "Cuts", cuts);
}

/* ---- arming ---- */

static void providers_armed(struct session *s, const struct err *err)
{
	struct hold *hold = &s->window;
	struct err failure = { 0 };

	if (err->code) {
		fail(s, err);
		return;
	}
	hold->began = clock_now();
	hold->window = guard_arm(s->context->guard, plan_of(s, deadline_of(s)), hold->fds, hold->n_fds, deadline_of(s), armed,
				 s, &failure);
	if (!hold->window)
		fail(s, &failure);
}

/* Descriptors in a window are named by their number in the provider's answer; in the plan by theirs among all. */
static int take_window_fd(struct hold *hold, json_t *row, const char *name, int *fds, size_t n_fds)
{
	int fd;

	if (!json_object_get(row, name))
		return 0;
	fd = answer_fd(row, name, fds, n_fds);
	if (fd < 0)
		return -1;
	if (hold->n_fds == ARRAY_SIZE(hold->fds)) {
		cleanup_close(&fd);
		return -1;
	}
	json_object_set_new(row, name, json_integer((json_int_t)hold->n_fds));
	hold->fds[hold->n_fds++] = fd;
	return 0;
}

static int take_steps(struct session *s, struct member *m, json_t *answer, int *fds, size_t n_fds)
{
	json_t *steps = json_object_get(answer, "Window"), *row;
	size_t i;

	if (!json_is_object(steps))
		return -1;
	json_decref(m->steps);
	m->steps = json_incref(steps);
	json_array_foreach(json_object_get(steps, "Freeze"), i, row)
		if (take_window_fd(&s->window, row, "Fd", fds, n_fds) < 0)
			return -1;
	json_array_foreach(json_object_get(steps, "Cut"), i, row)
		if (take_window_fd(&s->window, row, "Source", fds, n_fds) < 0 ||
		    take_window_fd(&s->window, row, "Store", fds, n_fds) < 0)
			return -1;
	return json_array_size(json_object_get(steps, "Cut")) > 0 ? 0 : -1;
}

/* Whoever has the descriptors has the locks: until the window is over that is vssd. */
static int take_locks(struct session *s, json_t *answer, int *fds, size_t n_fds)
{
	struct hold *hold = &s->window;
	json_t *index;
	size_t i;

	json_array_foreach(json_object_get(answer, "Locks"), i, index) {
		json_int_t n = json_integer_value(index);
		if (n < 0 || (size_t)n >= n_fds || fds[n] < 0 || hold->n_locks == ARRAY_SIZE(hold->locks))
			return -1;
		hold->locks[hold->n_locks++] = steal_fd(fds[n]);
	}
	return 0;
}

static const struct copies_op arm_op = {
	.name = "arm", .ask = copies_member_row, .take = take_steps, .take_whole = take_locks, .done = providers_armed
};

void window_cut(struct session *s)
{
	copies_run(s, &arm_op, deadline_of(s));
}
