/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One op on the copies of a set, which may be of several providers: each gets a job with its own members, all at the same
 * time; the op ends once, when the last has ended or the first has failed. */
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/session-internal.h"

json_t *fd_slot(struct fd_slots *slots, int fd)
{
	if (fd < 0)
		return json_null();
	slots->fds[slots->n] = fd;
	return json_integer((json_int_t)slots->n++);
}

int answer_fd(json_t *row, const char *name, int *fds, size_t n_fds)
{
	json_t *index = json_object_get(row, name);
	json_int_t i = json_integer_value(index);

	if (!json_is_integer(index) || i < 0 || (size_t)i >= n_fds)
		return -1;
	return steal_fd(fds[i]);
}

const struct role_info *member_role(const struct member *member)
{
	return role_find(json_string_value(json_object_get(member->volume, "Provider")));
}

static void drop_nulls(json_t *object)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
		if (json_is_null(value))
			json_object_del(object, key);
}

/* ---- the end ---- */

void copies_cancel(struct session *s)
{
	s->copies_op = NULL; /* what is cancelled has no one to tell */
	for (size_t i = 0; i < n_roles; i++)
		if (s->role_jobs[i].job)
			job_cancel(s->role_jobs[i].job);
}

bool copies_are_busy(const struct session *s)
{
	return s->copies_op || s->window.window;
}

static void end_op(struct session *s)
{
	const struct copies_op *op = s->copies_op;

	copies_cancel(s);
	op->done(s, &s->copies_error);
}

static void job_settled(struct session *s)
{
	s->jobs_open--;
	if (s->jobs_open == 0 || (s->copies_error.code && !s->copies_op->patient))
		end_op(s);
}

static int bad_answer(const struct role_job *j, const char *op, struct err *err)
{
	return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The %s provider's answer to %s does not fit the request",
		       j->role->name, op);
}

static int take_answer(const struct role_job *j, json_t *answer, int *fds, size_t n_fds, struct err *err)
{
	struct session *s = j->session;
	const struct copies_op *op = s->copies_op;
	json_t *rows = json_object_get(answer, "Members");

	if (op->take_whole && op->take_whole(s, answer, fds, n_fds) < 0)
		return bad_answer(j, op->name, err);
	for (size_t i = 0; op->take && i < j->n_members; i++) {
		json_t *row = json_array_get(rows, i);
		const char *copy = json_string_value(json_object_get(row, "Copy"));
		if (!copy || strcmp(copy, j->members[i]->copy) != 0 || op->take(s, j->members[i], row, fds, n_fds) < 0)
			return bad_answer(j, op->name, err);
	}
	return 0;
}

static void add_to_timeline(const struct role_job *j, const char *op, const struct err *err)
{
	struct session *s = j->session;
	bool alone = true;
	char phase[64];

	for (size_t i = 0; i < s->n_members; i++)
		alone = alone && member_role(&s->members[i]) == j->role;
	text_format(phase, sizeof phase, "%s%s%s", op, alone ? "" : " ", alone ? "" : j->role->name);
	session_timeline(s, phase, "", s->state_began, clock_now(), err->code ? err->text : "ok");
}

static void job_done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct role_job *j = data;
	struct session *s = j->session;
	struct err failure = *err;

	j->job = NULL;
	j->elapsed = clock_now() - s->state_began;
	if (!s->copies_op)
		return;
	add_to_timeline(j, s->copies_op->name, err);
	if (!failure.code)
		take_answer(j, answer, fds, n_fds, &failure);
	if (failure.code && !s->copies_error.code)
		s->copies_error = failure;
	job_settled(s);
}

/* ---- the beginning ---- */

static json_t *ask_members(struct session *s, struct role_job *j, struct fd_slots *slots)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < s->n_members && !s->options.hold; i++) {
		struct member *m = &s->members[i];
		json_t *row = member_role(m) == j->role ? s->copies_op->ask(s, m, slots) : NULL;
		if (!row)
			continue;
		drop_nulls(row);
		json_array_append_new(rows, row);
		j->members[j->n_members++] = m;
	}
	return rows;
}

static void start_job(struct session *s, struct role_job *j, const struct role_info *role, uint64_t deadline)
{
	const struct config *config = s->context->config;
	struct fd_slots slots = { .n = 0 };
	uint64_t now = clock_now();
	struct err err = { 0 };
	json_t *rows;

	*j = (struct role_job){ .session = s, .role = role };
	rows = ask_members(s, j, &slots);
	if (j->n_members == 0) {
		json_decref(rows);
		return;
	}
	j->job = workers_run(s->context->workers, role->name, s->copies_op->name,
			     json_pack("{ss ss si si sI so}", "Set", s->set, "Host", s->context->machine_id, "MaxCopies",
				       (int)config->max_copies, "MaxCowCopies", (int)config->max_cow_copies, "Limit",
				       (json_int_t)(deadline > now ? deadline - now : 0), "Members", rows),
			     slots.fds, slots.n, deadline, job_done, j, &err);
	if (j->job)
		s->jobs_open++;
	else if (!s->copies_error.code)
		s->copies_error = err;
}

void copies_run(struct session *s, const struct copies_op *op, uint64_t deadline)
{
	s->copies_op = op;
	s->copies_error = (struct err){ 0 };
	s->jobs_open = 1; /* until all have begun */
	for (size_t i = 0; i < n_roles; i++)
		if (!s->copies_error.code || op->patient)
			start_job(s, &s->role_jobs[i], &roles[i], deadline);
	job_settled(s);
}
