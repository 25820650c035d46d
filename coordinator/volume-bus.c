/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes and providers for the bus. Nothing here touches a path: the volumes worker does. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/faces.h"
#include "coordinator/roles.h"

/* ---- resolving ---- */

struct resolution {
	struct coordinator *coordinator;
	struct bus_call *call;
	bool recursive;
	int fd;
	json_t *volumes;
	face_volumes_fn fn;
	void *data;
};

static void resolution_end(struct resolution *r, const struct err *err)
{
	r->fn(r->call, err, r->volumes, r->data);
	cleanup_close(&r->fd);
	json_decref(r->volumes);
	free(r);
}

static void row_error(json_t *row, struct err *err)
{
	json_t *error = json_object_get(row, "Error");
	const char *name = json_string_value(json_object_get(error, "Name"));

	err_set(err, name ? error_from_name(name) : VSS_E_UNEXPECTED, "%s",
		json_string_value(json_object_get(error, "Text")) ?: "The path cannot be resolved");
}

static void below_resolved(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct resolution *r = data;
	size_t i;
	json_t *row;

	if (err->code) {
		resolution_end(r, err);
		return;
	}
	/* What cannot be copied stays named in the first volume's Below, and so in the record. */
	json_array_foreach(json_object_get(answer, "Volumes"), i, row)
		if (json_string_length(json_object_get(row, "Provider")) > 0)
			json_array_append(r->volumes, row);
	resolution_end(r, err);
}

static void resolve_below(struct resolution *r, json_t *below)
{
	json_t *paths = json_array(), *row;
	struct err err = { 0 };
	size_t i;

	json_array_foreach(below, i, row)
		json_array_append(paths, json_object_get(row, "Path"));
	if (!workers_run(r->coordinator->workers, "volumes", "resolve", json_pack("{so}", "Paths", paths), NULL, 0,
			 clock_now() + r->coordinator->config.resolve, below_resolved, r, &err))
		resolution_end(r, &err);
}

static void resolved(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct resolution *r = data;
	json_t *row = json_array_get(json_object_get(answer, "Volumes"), 0);
	struct err failure = *err;

	if (!failure.code && (!row || json_object_get(row, "Error")))
		row_error(row, &failure);
	if (failure.code) {
		resolution_end(r, &failure);
		return;
	}
	json_array_append(r->volumes, row);
	if (r->recursive && json_array_size(json_object_get(row, "Below")) > 0)
		resolve_below(r, json_object_get(row, "Below"));
	else
		resolution_end(r, &failure);
}

static int check_path(struct resolution *r, json_t *volume, struct err *err)
{
	const char *path = json_string_value(volume);

	if (path)
		return path[0] == '/' && strlen(path) < 4096 ?
			       0 :
			       err_set(err, VSS_E_INVALID_ARGUMENT, "'%.200s' is not an absolute path below 4096 bytes", path);
	r->fd = json_is_integer(volume) ? bus_call_take_fd(r->call, json_integer_value(volume)) : -1;
	return r->fd >= 0 ? 0 : err_set(err, VSS_E_INVALID_ARGUMENT, "A volume is given as a path or as a descriptor");
}

void face_resolve(struct coordinator *coordinator, struct bus_call *call, json_t *volume, enum face_below below,
		  face_volumes_fn fn, void *data)
{
	struct resolution *r = calloc(1, sizeof *r);
	struct err err = { 0 };

	if (!r) {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for a volume");
		fn(call, &err, NULL, data);
		return;
	}
	*r = (struct resolution){ .coordinator = coordinator,
				  .call = call,
				  .recursive = below == FACE_BELOW_TOO,
				  .fd = -1,
				  .volumes = json_array(),
				  .fn = fn,
				  .data = data };
	if (check_path(r, volume, &err) < 0) {
		resolution_end(r, &err);
		return;
	}
	json_t *path = r->fd >= 0 ? json_integer(0) : json_incref(volume);
	if (!workers_run(coordinator->workers, "volumes", "resolve",
			 json_pack("{s[o] sb}", "Paths", path, "Below", below != FACE_BELOW_IGNORED), &r->fd,
			 r->fd >= 0 ? 1 : 0, clock_now() + coordinator->config.resolve, resolved, r, &err))
		resolution_end(r, &err);
}

/* ---- lists ---- */

static void listed(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct bus_call *call = data;

	if (err->code)
		bus_call_error(call, err);
	else
		bus_call_reply(call, json_pack("[O]", json_object_get(answer, "Volumes")));
}

static void list_volumes(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	struct err failure = *err;
	json_t *wanted = json_object_get(call_options(call), "For");

	if (!failure.code && wanted) {
		face_list_candidates(c, call, wanted);
		return;
	}
	if (failure.code || !workers_run(c->workers, "volumes", "list", json_object(), NULL, 0,
					 clock_now() + c->config.resolve, listed, call, &failure))
		bus_call_error(call, &failure);
}

void face_list_volumes(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "For", JSON_STRING }, { NULL, JSON_NULL } };
	struct coordinator *c = object;

	if (options_accept(call, rules))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_volumes, c);
}

static void list_providers(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code) {
		bus_call_error(call, err);
		return;
	}
	json_t *rows = json_array();

	for (size_t i = 0; i < n_roles; i++)
		if (roles[i].in_build)
			json_array_append_new(rows, json_pack("{ss ss ss ss}", "Name", roles[i].name, "Type", "Software", "Id",
							      roles[i].id, "Version", VSSD_VERSION));
	bus_call_reply(call, json_pack("[o]", rows));
}

void face_list_providers(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, no_options))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_providers, c);
}
