/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/storage-facts.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/storage-rules.h"

static const char *const roles[] = { "lvm", "btrfs" };

struct reading {
	storage_facts_fn fn;
	void *data;
	json_t *facts;
	size_t open, failed;
	struct err err; /* the last failure */
};

struct role_reading {
	struct reading *reading;
	const char *role;
};

static void reading_step(struct reading *r)
{
	struct err none = { 0 };

	if (--r->open > 0)
		return;
	r->fn(r->failed == ARRAY_SIZE(roles) ? &r->err : &none, r->facts, r->data);
	json_decref(r->facts);
	free(r);
}

static void role_failed(struct reading *r, const char *role, const struct err *err)
{
	json_t *errors = json_object_get(r->facts, "Errors");

	if (!errors) {
		errors = json_object();
		json_object_set_new(r->facts, "Errors", errors);
	}
	json_object_set_new(errors, role, json_string(err->text));
	r->failed++;
	r->err = *err;
}

static void role_read(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	static const char *const lists[] = { "Groups", "Pools", "Filesystems", "Associations" };
	struct role_reading *role = data;
	struct reading *r = role->reading;

	if (err->code)
		role_failed(r, role->role, err);
	for (size_t i = 0; !err->code && i < ARRAY_SIZE(lists); i++)
		json_array_extend(json_object_get(r->facts, lists[i]), json_object_get(answer, lists[i]));
	free(role);
	reading_step(r);
}

json_t *storage_in_use(const struct storage_source *source)
{
	autojson json_t *rows = catalogue_rows(source->catalogue, NULL);
	json_t *used = json_object(), *row;
	size_t i;

	json_array_foreach(rows, i, row) {
		const char *session = json_string_value(json_object_get(row, "Session")) ?: "";
		const char *host = json_string_value(json_object_get(row, "Host")) ?: "";
		if (json_string_length(json_object_get(row, "Exposed")) > 0 ||
		    (*host && strcmp(host, source->machine_id) != 0) ||
		    (*session && source->session_lives(session, source->data)))
			json_object_set_new(used, json_string_value(json_object_get(row, "Shadow")), json_true());
	}
	return used;
}

void storage_facts_read(const struct storage_source *source, bool with_usage, storage_facts_fn fn, void *data)
{
	struct reading *r = calloc(1, sizeof *r);
	struct err err = { 0 };

	if (!r) {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for shadow storage");
		fn(&err, NULL, data);
		return;
	}
	*r = (struct reading){ .fn = fn, .data = data, .open = 1 };
	r->facts = json_pack("{s[] s[] s[] s[] so}", "Groups", "Pools", "Filesystems", "Associations", "InUse",
			     storage_in_use(source));
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		struct role_reading *role = malloc(sizeof *role);
		if (role)
			*role = (struct role_reading){ r, roles[i] };
		if (role && workers_run(source->workers, roles[i], "storage-list", json_pack("{sb}", "Usage", with_usage),
					NULL, 0, clock_now() + source->config->finish_copies, role_read, role, &err)) {
			r->open++;
			continue;
		}
		free(role);
		role_failed(r, roles[i], &err);
	}
	reading_step(r);
}

struct storage_limits storage_limits_of(const struct config *config)
{
	struct storage_limits limits = storage_default_limits();

	limits.max_volumes = config->max_volumes;
	limits.max_cow_copies = config->max_cow_copies;
	limits.max_other_copies = config->max_copies;
	return limits;
}
