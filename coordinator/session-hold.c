/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes that are held without being copied by us: frozen, all at one time, after the writers, until the requestor
 * releases them. Their root directories are opened in Flushing, by the volumes worker, and given to the guard in
 * Cutting. */
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/session-internal.h"
#include "coordinator/virtual-disks.h"

#define LIMIT_DEFAULT (10 * USEC_PER_SEC)
#define LIMIT_MAX (60 * USEC_PER_SEC) /* as the guard's */

static const char *text_of(const struct member *m, const char *key)
{
	return json_string_value(json_object_get(m->volume, key)) ?: "";
}

int hold_check(const struct session *s, struct err *err)
{
	if (s->options.hold != HOLD_VOLUMES)
		return 0;
	if (!s->context->guard)
		return err_set(err, VSS_E_NOT_AVAILABLE,
			       "vssd runs without a guard, which holds volumes: start vss-guard.service");
	if (s->n_members == 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "No volume is named: a session that holds volumes needs some");
	for (size_t i = 0; i < s->n_members; i++)
		if (!json_is_true(json_object_get(s->members[i].volume, "Mounted")))
			return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "%s is not mounted: there is nothing to freeze",
				       text_of(&s->members[i], "Path"));
	return 0;
}

/* ---- opening ---- */

static int take_roots(struct session *s, json_t *answer, int *fds, size_t n_fds)
{
	json_t *roots = json_object_get(answer, "Roots");

	for (size_t i = 0; i < s->n_members; i++) {
		s->members[i].source = answer_fd(json_array_get(roots, i), "Fd", fds, n_fds);
		if (s->members[i].source < 0)
			return -1;
	}
	return 0;
}

static void opened(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;
	struct err failure = *err;

	s->job = NULL;
	if (!failure.code && take_roots(s, answer, fds, n_fds) < 0)
		err_set(&failure, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			"The volumes worker's answer does not fit the request");
	if (failure.code)
		session_fail(s, &failure);
	else
		session_post(s, SESSION_EVENT_DONE);
}

void hold_open(struct session *s)
{
	json_t *volumes = json_array();
	struct err err = { 0 };

	copies_close_fds(s);
	for (size_t i = 0; i < s->n_members; i++)
		json_array_append_new(volumes, json_pack("{ss ss}", "Path", text_of(&s->members[i], "Path"), "Id",
							 text_of(&s->members[i], "Id")));
	s->job = workers_run(s->context->workers, "volumes", "roots", json_pack("{so}", "Volumes", volumes), NULL, 0,
			     clock_now() + s->context->config->prepare_copies, opened, s, &err);
	if (!s->job)
		session_fail(s, &err);
}

/* ---- the plan ---- */

/* A volume on a disk whose image lies on another one is frozen before that one. */
static void find_depths(const struct session *s, uint32_t depths[SESSION_MEMBERS_MAX])
{
	memset(depths, 0, SESSION_MEMBERS_MAX * sizeof *depths);
	for (size_t round = 0; round < 4; round++)
		for (size_t i = 0; i < s->n_members; i++)
			for (size_t k = 0; k < s->n_members; k++)
				if (i != k && virtual_is_image_on(s->members[i].volume, s->members[k].volume) &&
				    depths[i] <= depths[k])
					depths[i] = depths[k] + 1;
}

/* Subvolumes share their filesystem, and are frozen with it. */
static bool is_held_already(const struct session *s, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(text_of(&s->members[i], "Type"), "btrfs") == 0 &&
		    strcmp(text_of(&s->members[i], "FsUuid"), text_of(&s->members[k], "FsUuid")) == 0)
			return true;
	return false;
}

static int add_filesystem(const struct session *s, size_t i, uint32_t depth, json_t *list, int *fds, size_t *n)
{
	struct stat st;

	if (is_held_already(s, i))
		return 0;
	if (fstat(s->members[i].source, &st) < 0)
		return -1;
	fds[*n] = s->members[i].source;
	json_array_append_new(
	    list, json_pack("{sI ss so sI}", "Fd", (json_int_t)*n, "Path", text_of(&s->members[i], "Path"), "Device",
			    json_sprintf("%u:%u", major(st.st_dev), minor(st.st_dev)), "Depth", (json_int_t)depth));
	(*n)++;
	return 0;
}

static void warn(struct session *s)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (strcmp(text_of(&s->members[i], "Type"), "btrfs") == 0)
			json_array_append_new(
			    s->warnings, json_sprintf("%s is btrfs: a snapshot that btrfs itself makes of it waits "
						      "until it is released",
						      text_of(&s->members[i], "Path")));
}

/* ---- holding ---- */

static void held(const struct err *err, json_t *answer, void *data)
{
	struct session *s = data;

	session_timeline(s, "freeze", "", s->window.began, clock_now(), err->code ? err->text : "ok");
	if (err->code) {
		session_fail(s, err);
		return;
	}
	json_decref(s->window.answer);
	s->window.answer = json_incref(answer);
	session_post(s, SESSION_EVENT_HOLD);
}

static void armed(const struct err *err, json_t *answer, void *data)
{
	struct session *s = data;

	if (err->code)
		session_fail(s, err);
	else
		window_go(s->window.window, held);
}

static void set_deadline(struct session *s)
{
	uint64_t limit = s->options.hold_limit ? s->options.hold_limit : LIMIT_DEFAULT;
	uint64_t end = clock_now() + (limit < LIMIT_MAX ? limit : LIMIT_MAX);

	if (end < s->hold_deadline)
		s->hold_deadline = end;
}

void hold_begin(struct session *s)
{
	uint32_t depths[SESSION_MEMBERS_MAX];
	int fds[SESSION_MEMBERS_MAX];
	json_t *filesystems = json_array();
	char owner[200];
	struct err err = { 0 };
	size_t n = 0;

	set_deadline(s);
	warn(s);
	find_depths(s, depths);
	for (size_t i = 0; i < s->n_members; i++) {
		if (add_filesystem(s, i, depths[i], filesystems, fds, &n) == 0)
			continue;
		err_errno(&err, errno, VSS_E_UNEXPECTED, "%s cannot be examined", text_of(&s->members[i], "Path"));
		json_decref(filesystems);
		session_fail(s, &err);
		return;
	}
	text_format(owner, sizeof owner, "vssd, a hold of session %s (pid %d%s%s)", s->id, (int)s->pid,
		    *s->options.command ? ", " : "", s->options.command);
	s->window.began = clock_now();
	s->window.window =
	    guard_arm(s->context->guard,
		      json_pack("{ss ss sb so}", "Set", s->set, "Owner", owner, "Hold", 1, "Filesystems", filesystems),
		      fds, n, s->hold_deadline, armed, s, &err);
	if (!s->window.window)
		session_fail(s, &err);
}

static void released(const struct err *err, json_t *answer, void *data)
{
	struct session *s = data;

	if (err->code) {
		session_fail(s, err);
		return;
	}
	window_end(s);
	copies_close_fds(s);
	session_post(s, SESSION_EVENT_RELEASE);
}

void hold_release(struct session *s)
{
	window_release(s->window.window, released);
}

bool hold_goes_on(const struct session *s, enum session_state next)
{
	return s->options.hold == HOLD_VOLUMES && next == SESSION_HOLDING;
}

/* Open roots keep volumes busy. */
void hold_forget(struct session *s, enum session_state next)
{
	if (s->options.hold == HOLD_VOLUMES && (next < SESSION_FLUSHING || next > SESSION_HOLDING))
		copies_close_fds(s);
}

json_t *hold_rows(const struct session *s, uint64_t *ret_usec)
{
	json_t *rows = json_array(), *row;
	json_int_t begin = json_integer_value(json_object_get(s->window.answer, "Begin")), last = begin;
	size_t i;

	json_array_foreach (json_object_get(s->window.answer, "Filesystems"), i, row) {
		json_int_t frozen = json_integer_value(json_object_get(row, "Frozen"));
		last = frozen > last ? frozen : last;
		json_array_append_new(
		    rows, json_pack("{sO sI}", "Path", json_object_get(row, "Path"), "FrozenUsec", frozen - begin));
	}
	*ret_usec = (uint64_t)(last - begin);
	return rows;
}
