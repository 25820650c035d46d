/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Revert and ListReverts. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/faces.h"

/* ---- Revert ---- */

struct revert_face {
	struct revert_face *next;
	struct coordinator *coordinator;
	struct bus_call *call;
	struct revert_options options;
	struct revert *revert;
};

static void face_free(struct revert_face *face)
{
	struct revert_face **link = &face->coordinator->revert_faces;

	while (*link != face)
		link = &(*link)->next;
	*link = face->next;
	json_decref(face->options.holder);
	free(face);
}

static void fail(struct revert_face *face, const struct err *err)
{
	bus_call_error(face->call, err);
	face_free(face);
}

static void reverted(const struct err *err, json_t *result, void *data)
{
	struct revert_face *face = data;

	if (err->code) {
		fail(face, err);
		return;
	}
	/* Whatever waits in the worker for the end of the merge ends with this service. */
	if (strcmp(json_string_value(json_object_get(result, "State")) ?: "", "merging") == 0)
		storage_watch_wake(face->coordinator->watch);
	bus_call_reply(face->call, json_pack("[O]", result));
	face_free(face);
}

static void copies_read(const struct err *err, void *data)
{
	struct revert_face *face = data;
	struct coordinator *c = face->coordinator;
	struct revert_context context = { .restore = { &c->config, c->registry, c->workers, c->fanout },
					  .catalogue = c->catalogue,
					  .locks = c->locks };
	struct err failure = *err;

	if (!failure.code)
		face->revert = revert_start(&context, &face->options, reverted, face, &failure);
	if (failure.code)
		fail(face, &failure);
}

/* What is lost by it depends on the copies that there are: they are read anew. */
static void revert_allowed(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct revert_face *face = data;

	if (err->code) {
		fail(face, err);
		return;
	}
	face->options.holder = json_pack("{ss sI sI ss sI}", "Session", "", "Uid", (json_int_t)uid, "Pid", (json_int_t)0,
					 "Command", "revert", "Since",
					 (json_int_t)(clock_usec(CLOCK_REALTIME) / USEC_PER_SEC));
	catalogue_refresh(face->coordinator->catalogue, copies_read, face);
}

void face_revert(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "Preview", JSON_TRUE }, { "Force", JSON_TRUE }, { NULL, JSON_NULL } };
	struct coordinator *c = object;
	struct revert_face *face;
	char id[ID_SIZE];

	if (!options_accept(call, rules))
		return;
	if (!id_parse(call_text(call, 0), id)) {
		call_fail(call, VSS_E_INVALID_ARGUMENT, "'%.64s' is not the id of a shadow copy", call_text(call, 0));
		return;
	}
	face = calloc(1, sizeof *face);
	if (!face) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a revert");
		return;
	}
	*face = (struct revert_face){ .next = c->revert_faces, .coordinator = c, .call = call };
	face->options.preview = json_is_true(json_object_get(call_options(call), "Preview"));
	face->options.force = json_is_true(json_object_get(call_options(call), "Force"));
	memcpy(face->options.copy, id, ID_SIZE);
	c->revert_faces = face;
	authority_check(c->authority, call, face->options.preview ? VSS_ACTION_LIST : VSS_ACTION_REVERT, NULL, revert_allowed,
			face);
}

/* Those that wait for something else are told by it. */
void revert_faces_free(struct coordinator *c)
{
	struct revert_face *next;
	struct err err = { 0 };

	err_set(&err, VSS_E_CANCELLED, "vssd is ending");
	for (struct revert_face *face = c->revert_faces; face; face = next) {
		next = face->next;
		if (!face->revert)
			continue;
		revert_cancel(face->revert);
		fail(face, &err);
	}
}

/* ---- ListReverts ---- */

struct reverts_list {
	struct coordinator *coordinator;
	struct bus_call *call;
	json_t *rows;
	size_t open;
	struct err err;
};

static void end_list(struct reverts_list *list)
{
	if (--list->open > 0)
		return;
	if (list->err.code)
		bus_call_error(list->call, &list->err);
	else
		bus_call_reply(list->call, json_pack("[O]", list->rows));
	json_decref(list->rows);
	free(list);
}

static void provider_told(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct reverts_list *list = data;

	if (err->code && !list->err.code)
		list->err = *err;
	json_array_extend(list->rows, json_object_get(answer, "Reverts"));
	end_list(list);
}

static void list_reverts(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	struct reverts_list *list = err->code ? NULL : calloc(1, sizeof *list);

	if (!list) {
		bus_call_error(call, err->code ? err : &(struct err){ VSS_E_OUT_OF_MEMORY, "Out of memory for a list" });
		return;
	}
	*list = (struct reverts_list){ .coordinator = c, .call = call, .rows = json_array(), .open = 1 };
	for (size_t i = 0; i < n_roles; i++) {
		if (!roles[i].window || !roles[i].in_build)
			continue; /* the others revert at once, or not at all */
		if (workers_run(c->workers, roles[i].name, "reverts", json_pack("{ss}", "Host", c->machine_id), NULL, 0,
				clock_now() + c->config.finish_copies, provider_told, list, &list->err))
			list->open++;
	}
	end_list(list);
}

void face_list_reverts(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, no_options))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_reverts, c);
}
