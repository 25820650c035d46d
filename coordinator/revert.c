/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/revert.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"

struct revert {
	struct revert_context context;
	struct revert_options options;
	json_t *row, *volume; /* of the copy; of what it is a copy of */
	struct lock *lock;
	struct job *job;
	struct restore *restore;
	json_t *answer; /* the provider's */
	bool kept;      /* the copy is still there afterwards */
	struct err err; /* the first failure */
	revert_fn fn;
	void *data;
};

static const char *text_of(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

static void revert_free(struct revert *r)
{
	restore_free(r->restore);
	lock_release(r->lock);
	json_decref(r->row);
	json_decref(r->volume);
	json_decref(r->answer);
	free(r);
}

void revert_cancel(struct revert *r)
{
	r->fn = NULL;
	if (r->job)
		job_cancel(r->job);
	revert_free(r);
}

/* ---- the end ---- */

/* Copies that were made later: what they are copies of is undone by the revert. */
static json_t *younger_copies(const struct revert *r)
{
	autojson json_t *filter = json_pack("{sO}", "VolumeId", json_object_get(r->row, "VolumeId"));
	autojson json_t *rows = catalogue_rows(r->context.catalogue, filter);
	json_int_t created = json_integer_value(json_object_get(r->row, "Created"));
	json_t *ids = json_array(), *row;
	size_t i;

	json_array_foreach(rows, i, row)
		if (json_integer_value(json_object_get(row, "Created")) > created)
			json_array_append(ids, json_object_get(row, "Shadow"));
	return ids;
}

static json_t *result_of(const struct revert *r)
{
	return json_pack("{sO sO sO sO so sb ss ss so}", "Shadow", json_object_get(r->row, "Shadow"), "Volume",
			 json_object_get(r->volume, "Path"), "VolumeId", json_object_get(r->row, "VolumeId"), "Created",
			 json_object_get(r->row, "Created"), "Younger", younger_copies(r), "Kept", r->kept, "State",
			 text_of(r->answer, "State"), "Message", text_of(r->answer, "Message"), "Writers",
			 r->restore ? restore_rows(r->restore) : json_array());
}

static void end(struct revert *r)
{
	autojson json_t *result = r->err.code ? NULL : result_of(r);

	r->fn(&r->err, result, r->data);
	revert_free(r);
}

/* The writers' last word changes nothing of what storage has done: it is told with the result. */
static void writers_resumed(const struct err *err, void *data)
{
	struct revert *r = data;

	if (err->code && !r->err.code && r->answer)
		json_object_set_new(r->answer, "Message", json_string(err->text));
	end(r);
}

static void resume_writers(struct revert *r)
{
	const char *state = text_of(r->answer, "State");

	restore_end(r->restore, strcmp(state, "reverted") == 0 || strcmp(state, "merging") == 0, writers_resumed, r);
}

/* ---- the provider ---- */

static void reverted(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct revert *r = data;

	r->job = NULL;
	if (!r->fn)
		return;
	r->err = *err;
	r->answer = json_incref(answer);
	if (!err->code)
		catalogue_refresh(r->context.catalogue, NULL, NULL);
	resume_writers(r);
}

static void run_provider(struct revert *r)
{
	json_t *request = json_pack("{sO}", "Volume", r->volume);

	r->job = catalogue_run(r->context.catalogue, r->options.copy, "revert", request, reverted, r, &r->err);
	if (!r->job)
		resume_writers(r);
}

static void writers_let_go(const struct err *err, void *data)
{
	struct revert *r = data;

	if (!err->code || r->options.force) {
		run_provider(r);
		return;
	}
	err_set(&r->err, err->code, "%.900s. Nothing was reverted; --force reverts all the same", err->text);
	resume_writers(r);
}

/* ---- the volume ---- */

static int check_volume(const struct revert *r, struct err *err)
{
	json_t *error = json_object_get(r->volume, "Error");
	const char *provider = text_of(r->row, "Provider"), *why = text_of(r->row, "ConsistencyReason");

	if (error)
		return err_set(err, error_from_name(text_of(error, "Name")), "The volume %s of the copy is not there: %.800s",
			       text_of(r->row, "Volume"), text_of(error, "Text"));
	if (strcmp(text_of(r->volume, "Id"), text_of(r->row, "VolumeId")) != 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "%s is another volume now than the one of which {%s} is a copy: mount that one there first",
			       text_of(r->row, "Volume"), r->options.copy);
	if (*text_of(r->row, "Exposed"))
		return err_set(err, VSS_E_VOLUME_IN_USE, "The copy {%s} is exposed at %s: unexpose it first",
			       r->options.copy, text_of(r->row, "Exposed"));
	if (strcmp(text_of(r->row, "State"), "unfinished") == 0)
		return err_set(err, VSS_E_BAD_STATE, "Nothing can be reverted to the copy {%s} (provider %s): %.600s",
			       r->options.copy, provider, *why ? why : "it is unfinished");
	return 0;
}

static void never_waited_for(void *data)
{
}

static int take_volume(struct revert *r, struct err *err)
{
	autojson json_t *others = NULL;

	r->lock = locks_request(r->context.locks, json_object_get(r->volume, "Domains"), json_incref(r->options.holder),
				never_waited_for, NULL);
	if (!r->lock)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a revert");
	if (lock_is_granted(r->lock))
		return 0;
	others = lock_waits_for(r->lock);
	return err_set(err, VSS_E_SNAPSHOT_SET_IN_PROGRESS, "Session %s is creating a set that shares %s with %s: wait for it",
		       text_of(json_array_get(others, 0), "Session"), text_of(json_array_get(others, 0), "Domain"),
		       text_of(r->row, "Volume"));
}

static void begin(struct revert *r)
{
	char id[ID_SIZE];

	if (r->options.preview || take_volume(r, &r->err) < 0) {
		end(r);
		return;
	}
	id_new(id);
	r->restore = restore_new(&r->context.restore, id, json_pack("[O]", r->volume));
	if (!r->restore)
		err_set(&r->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a revert");
	if (!r->restore || restore_begin(r->restore, writers_let_go, r, &r->err) < 0)
		end(r);
}

static void checked(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct revert *r = data;

	r->job = NULL;
	if (!r->fn)
		return;
	r->err = *err;
	r->kept = json_is_true(json_object_get(answer, "Kept"));
	if (err->code)
		end(r);
	else
		begin(r);
}

/* What the provider would refuse in any case is refused before a writer is asked to let go. */
static void volume_known(struct revert *r)
{
	if (!r->err.code && check_volume(r, &r->err) == 0)
		r->job = catalogue_run(r->context.catalogue, r->options.copy, "check-revert", json_pack("{sO}", "Volume", r->volume),
				       checked, r, &r->err);
	if (!r->job)
		end(r);
}

static bool is_wanted(const struct revert *r, json_t *volume)
{
	return strcmp(text_of(volume, "Id"), text_of(r->row, "VolumeId")) == 0;
}

static void volumes_listed(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct revert *r = data;
	json_t *volume;
	size_t i;

	r->job = NULL;
	if (!r->fn)
		return;
	json_array_foreach(json_object_get(answer, "Volumes"), i, volume) {
		if (!is_wanted(r, volume))
			continue;
		json_decref(r->volume);
		r->volume = json_incref(volume);
	}
	volume_known(r);
}

static void volume_resolved(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct revert *r = data;

	r->job = NULL;
	if (!r->fn)
		return;
	r->err = *err;
	r->volume = json_incref(json_array_get(json_object_get(answer, "Volumes"), 0));
	/* Unmounted, or mounted elsewhere, it is not where it was: the best time for a revert. */
	if (!err->code && !is_wanted(r, r->volume))
		r->job = workers_run(r->context.restore.workers, "volumes", "list",
				     json_pack("{sO}", "Wanted", json_object_get(r->row, "VolumeId")), NULL, 0,
				     clock_now() + r->context.restore.config->resolve, volumes_listed, r, &r->err);
	if (!r->job)
		volume_known(r);
}

struct revert *revert_start(const struct revert_context *context, const struct revert_options *options, revert_fn fn,
			    void *data, struct err *err)
{
	json_t *row = catalogue_row(context->catalogue, options->copy);
	struct revert *r = row ? calloc(1, sizeof *r) : NULL;

	if (!r) {
		json_decref(row);
		if (row)
			err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a revert");
		else
			err_set(err, VSS_E_OBJECT_NOT_FOUND, "There is no shadow copy {%s}", options->copy);
		return NULL;
	}
	*r = (struct revert){ .context = *context, .options = *options, .row = row, .fn = fn, .data = data };
	r->job = workers_run(context->restore.workers, "volumes", "resolve",
			     json_pack("{s[O]}", "Paths", json_object_get(row, "Volume")), NULL, 0,
			     clock_now() + context->restore.config->resolve, volume_resolved, r, err);
	if (!r->job) {
		revert_free(r);
		return NULL;
	}
	return r;
}
