/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shadow copies on the bus: the catalogue as objects and lists; deleting, exposing, mounting. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "common/names.h"
#include "coordinator/faces.h"
#include "coordinator/log.h"

/* ---- the copy as an object ---- */

struct shadow_face {
	struct shadow_face *next;
	struct coordinator *coordinator;
	char id[ID_SIZE];
};

static json_t *row_member(struct shadow_face *face, const char *name)
{
	autojson json_t *row = catalogue_row(face->coordinator->catalogue, face->id);
	json_t *value = json_object_get(row, name);

	return value ? json_incref(value) : json_string("");
}

#define GETTER(name)                              \
	static json_t *get_##name(void *object)   \
	{                                         \
		return row_member(object, #name); \
	}
GETTER(Shadow)
GETTER(Set)
GETTER(SetCount)
GETTER(Created)
GETTER(Volume)
GETTER(VolumeId)
GETTER(Filesystem)
GETTER(Device)
GETTER(Host)
GETTER(HostName)
GETTER(Provider)
GETTER(Context)
GETTER(Persistent)
GETTER(Session)
GETTER(Consistency)
GETTER(ConsistencyReason)
GETTER(Instant)
GETTER(InstantReason)
GETTER(Exposed)
GETTER(State)
GETTER(Attributes)
#undef GETTER

static const struct bus_property shadow_properties[] = {
	{ "Shadow", "s", get_Shadow, false },
	{ "Set", "s", get_Set, false },
	{ "SetCount", "u", get_SetCount, false },
	{ "Created", "t", get_Created, false },
	{ "Volume", "s", get_Volume, false },
	{ "VolumeId", "s", get_VolumeId, false },
	{ "Filesystem", "s", get_Filesystem, false },
	{ "Device", "s", get_Device, false },
	{ "Host", "s", get_Host, false },
	{ "HostName", "s", get_HostName, false },
	{ "Provider", "s", get_Provider, false },
	{ "Context", "s", get_Context, false },
	{ "Persistent", "b", get_Persistent, false },
	{ "Session", "s", get_Session, false },
	{ "Consistency", "s", get_Consistency, false },
	{ "ConsistencyReason", "s", get_ConsistencyReason, false },
	{ "Instant", "s", get_Instant, false },
	{ "InstantReason", "s", get_InstantReason, false },
	{ "Exposed", "s", get_Exposed, false },
	{ "State", "s", get_State, false },
	{ "Attributes", "as", get_Attributes, false },
	{ NULL },
};

const struct bus_interface shadow_interface = { VSS_IFACE_SHADOW, NULL, shadow_properties, NULL };

static const struct bus_interface *const shadow_interfaces[] = { &shadow_interface, NULL };

static void added(const char *copy, void *data)
{
	struct coordinator *c = data;
	struct shadow_face *face = calloc(1, sizeof *face);
	autofree char *path = face_path(VSS_SHADOW_PATH, copy);

	if (!face)
		return;
	face->coordinator = c;
	snprintf(face->id, ID_SIZE, "%s", copy);
	face->next = c->shadow_faces;
	c->shadow_faces = face;
	bus_export(c->bus, path, shadow_interfaces, face, NULL);
	autojson json_t *row = catalogue_row(c->catalogue, copy);
	if (strcmp(json_string_value(json_object_get(row, "Provider")) ?: "", "lvm") == 0)
		storage_watch_wake(c->watch);
}

static void removed(const char *copy, void *data)
{
	struct coordinator *c = data;
	autofree char *path = face_path(VSS_SHADOW_PATH, copy);

	bus_unexport(c->bus, path);
	for (struct shadow_face **link = &c->shadow_faces; *link; link = &(*link)->next) {
		struct shadow_face *face = *link;
		if (strcmp(face->id, copy) != 0)
			continue;
		*link = face->next;
		free(face);
		return;
	}
}

static bool session_lives(const char *session, void *data)
{
	struct coordinator *c = data;

	return session_find(&c->sessions, session) != NULL;
}

static bool set_lives(const char *set, void *data)
{
	struct coordinator *c = data;

	for (const struct session *s = c->sessions.sessions; s; s = s->next)
		if (strcmp(s->set, set) == 0)
			return true;
	return false;
}

struct catalogue_listener shadow_face_listener(struct coordinator *coordinator)
{
	return (struct catalogue_listener){ added, removed, session_lives, set_lives, coordinator };
}

void shadow_faces_free(struct coordinator *coordinator)
{
	while (coordinator->shadow_faces) {
		struct shadow_face *face = coordinator->shadow_faces;
		coordinator->shadow_faces = face->next;
		free(face);
	}
}

/* ---- choosing copies by the options Shadow, Set, For ---- */

static const struct option_rule list_rules[] = { { "Shadow", JSON_STRING }, { "Set", JSON_STRING },
						 { "For", JSON_STRING },    { "Usage", JSON_TRUE },
						 { NULL, JSON_NULL } };
static const struct option_rule delete_rules[] = { { "Shadow", JSON_STRING }, { "Set", JSON_STRING },
						   { "For", JSON_STRING },    { "Oldest", JSON_TRUE },
						   { "All", JSON_TRUE },      { NULL, JSON_NULL } };

struct choice {
	struct coordinator *coordinator;
	struct bus_call *call;
	json_t *filter;
	void (*go)(struct choice *choice, json_t *rows); /* rows: borrowed; ends the choice */
};

static void choice_free(struct choice *choice)
{
	json_decref(choice->filter);
	free(choice);
}

static void choice_read(const struct err *err, void *data)
{
	struct choice *choice = data;
	autojson json_t *rows = NULL;

	if (err->code) {
		bus_call_error(choice->call, err);
		choice_free(choice);
		return;
	}
	rows = catalogue_rows(choice->coordinator->catalogue, choice->filter);
	choice->go(choice, rows);
}

static void choice_resolved(struct bus_call *call, const struct err *err, json_t *volumes, void *data)
{
	struct choice *choice = data;

	if (err->code) {
		choice_read(err, choice);
		return;
	}
	json_object_set(choice->filter, "VolumeId", json_object_get(json_array_get(volumes, 0), "Id"));
	catalogue_refresh(choice->coordinator->catalogue, choice_read, choice);
}

static int filter_id(json_t *filter, json_t *options, const char *name, struct err *err)
{
	const char *text = json_string_value(json_object_get(options, name));
	char id[ID_SIZE];

	if (!text)
		return 0;
	if (!id_parse(text, id))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "'%.64s' is not an id", text);
	json_object_set_new(filter, name, json_string(id));
	return 0;
}

static void choose(struct coordinator *c, struct bus_call *call, void (*go)(struct choice *, json_t *))
{
	json_t *options = call_options(call), *path = json_object_get(options, "For");
	struct choice *choice = calloc(1, sizeof *choice);
	struct err err = { 0 };

	if (!choice) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for the list of copies");
		return;
	}
	*choice = (struct choice){ c, call, json_object(), go };
	if (filter_id(choice->filter, options, "Shadow", &err) < 0 || filter_id(choice->filter, options, "Set", &err) < 0)
		choice_read(&err, choice);
	else if (path)
		face_resolve(c, call, path, FACE_BELOW_IGNORED, choice_resolved, choice);
	else
		catalogue_refresh(c->catalogue, choice_read, choice);
}

/* ---- listing ---- */

/* Asks the provider of each copy what it takes, where the list shall say so. */
struct measuring {
	struct bus_call *call;
	json_t *rows;
	size_t open;
};

struct measured_copy {
	struct measuring *measuring;
	json_t *row;
};

static void measuring_step(struct measuring *m)
{
	if (--m->open > 0)
		return;
	bus_call_reply(m->call, json_pack("[o]", m->rows));
	free(m);
}

static void measured(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct measured_copy *copy = data;

	if (!err->code) {
		json_object_set(copy->row, "ExclusiveBytes", json_object_get(answer, "Exclusive"));
		json_object_set(copy->row, "ReferencedBytes", json_object_get(answer, "Referenced"));
	}
	measuring_step(copy->measuring);
	free(copy);
}

static void measure(struct coordinator *c, struct bus_call *call, json_t *rows)
{
	struct measuring *m = malloc(sizeof *m);
	json_t *row;
	size_t i;

	if (!m) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for the list of copies");
		return;
	}
	*m = (struct measuring){ call, json_array(), 1 };
	json_array_foreach(rows, i, row) {
		struct measured_copy *copy = malloc(sizeof *copy);
		json_t *own = json_copy(row);
		json_array_append_new(m->rows, own);
		if (!copy)
			continue;
		*copy = (struct measured_copy){ m, own };
		m->open++;
		if (catalogue_run(c->catalogue, json_string_value(json_object_get(row, "Shadow")), "usage", NULL, measured,
				  copy, NULL))
			continue;
		m->open--;
		free(copy);
	}
	measuring_step(m);
}

static void reply_rows(struct choice *choice, json_t *rows)
{
	if (json_is_true(json_object_get(call_options(choice->call), "Usage")))
		measure(choice->coordinator, choice->call, rows);
	else
		bus_call_reply(choice->call, json_pack("[O]", rows));
	choice_free(choice);
}

/* A sealed memory file: what the receiver maps cannot change any more. */
static int text_file(const char *text, struct err *err)
{
	autoclose int fd = memfd_create("shadow copies", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t size = strlen(text);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_errno(err, errno, VSS_E_OUT_OF_MEMORY, "The list of copies cannot be written");
	return steal_fd(fd);
}

/* Hundreds of copies are thousands of D-Bus values, each of which costs both ends and the bus, and a text of hundreds of
 * kilobytes goes over the bus in pieces of two: the list is one text in memory. */
static void reply_text(struct choice *choice, json_t *rows)
{
	bool brief = json_is_true(json_object_get(call_options(choice->call), "Brief"));
	autofree char *text = catalogue_text(choice->coordinator->catalogue, choice->filter, brief);
	struct err err = { .code = VSS_E_OUT_OF_MEMORY, .text = "Out of memory for the list of copies" };
	autoclose int fd = text ? text_file(text, &err) : -1;

	if (fd >= 0)
		bus_call_reply_fds(choice->call, json_pack("[i]", 0), &fd, 1);
	else
		bus_call_error(choice->call, &err);
	choice_free(choice);
}

static void list_shadows_json(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code)
		bus_call_error(call, err);
	else
		choose(data, call, reply_text);
}

void face_list_shadows_json(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = {
		{ "Shadow", JSON_STRING }, { "Set", JSON_STRING }, { "For", JSON_STRING }, { "Brief", JSON_TRUE },
		{ NULL, JSON_NULL }
	};
	struct coordinator *c = object;

	if (options_accept(call, rules))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_shadows_json, c);
}

static void list_shadows(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code)
		bus_call_error(call, err);
	else
		choose(data, call, reply_rows);
}

void face_list_shadows(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, list_rules))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_shadows, c);
}

/* ---- deleting ---- */

struct deletion {
	struct bus_call *call;
	json_t *results;
	size_t open;
};

struct deleted_copy {
	struct deletion *deletion;
	json_t *result;
};

static void deletion_step(struct deletion *d)
{
	if (--d->open > 0)
		return;
	bus_call_reply(d->call, json_pack("[o]", d->results));
	free(d);
}

static void deleted(const struct err *err, void *data)
{
	struct deleted_copy *copy = data;

	json_object_set_new(copy->result, "Deleted", json_boolean(!err->code));
	json_object_set_new(copy->result, "Error", json_string(error_name(err->code)));
	json_object_set_new(copy->result, "Message", json_string(err->code ? err->text : ""));
	deletion_step(copy->deletion);
	free(copy);
}

static void delete_one(struct coordinator *c, struct deletion *d, json_t *row)
{
	const char *id = json_string_value(json_object_get(row, "Shadow"));
	const char *session = json_string_value(json_object_get(row, "Session"));
	struct deleted_copy *copy = malloc(sizeof *copy);
	struct err err = { 0 };

	if (!copy)
		return;
	d->open++;
	*copy = (struct deleted_copy){ d, json_pack("{ss}", "Shadow", id) };
	json_array_append_new(d->results, copy->result);
	if (*session && session_find(&c->sessions, session)) {
		err_set(&err, VSS_E_VOLUME_IN_USE, "The copy {%s} belongs to the running session %s: end that first", id,
			session);
		deleted(&err, copy);
		return;
	}
	if (strcmp(json_string_value(json_object_get(row, "State")), "unfinished") == 0 &&
	    json_string_length(json_object_get(row, "Host")) > 0 &&
	    strcmp(json_string_value(json_object_get(row, "Host")), c->machine_id) != 0) {
		err_set(&err, VSS_E_NOT_SUPPORTED,
			"{%s} is another machine's unfinished copy: that machine removes it when the filesystem is back there", id);
		deleted(&err, copy);
		return;
	}
	catalogue_remove(c->catalogue, id, deleted, copy);
}

static void delete_rows(struct choice *choice, json_t *rows)
{
	bool oldest = json_is_true(json_object_get(call_options(choice->call), "Oldest"));
	struct deletion *d = malloc(sizeof *d);
	json_t *row;
	size_t i;

	if (!d) {
		call_fail(choice->call, VSS_E_OUT_OF_MEMORY, "Out of memory for a deletion");
		choice_free(choice);
		return;
	}
	*d = (struct deletion){ choice->call, json_array(), 1 };
	json_array_foreach(rows, i, row) {
		if (oldest && i > 0)
			break;
		delete_one(choice->coordinator, d, row);
	}
	choice_free(choice);
	deletion_step(d);
}

static void delete_shadows(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code)
		bus_call_error(call, err);
	else
		choose(data, call, delete_rows);
}

void face_delete_shadows(struct bus_call *call, void *object)
{
	struct coordinator *c = object;
	json_t *options = call_options(call);

	if (!options_accept(call, delete_rules))
		return;
	if (!json_object_get(options, "Shadow") && !json_object_get(options, "Set") && !json_object_get(options, "For") &&
	    !json_is_true(json_object_get(options, "All"))) {
		call_fail(call, VSS_E_INVALID_ARGUMENT, "DeleteShadows needs one of the options Shadow, Set, For, All");
		return;
	}
	authority_check(c->authority, call, VSS_ACTION_DELETE, json_string_value(json_object_get(options, "For")),
			delete_shadows, c);
}

/* ---- one copy: record, expose, unexpose, mount ---- */

struct copy_call {
	struct coordinator *coordinator;
	struct bus_call *call;
	char copy[ID_SIZE];
	const char *op; /* of the provider */
};

static void copy_call_end(struct copy_call *k, const struct err *err)
{
	if (err && err->code)
		bus_call_error(k->call, err);
	free(k);
}

static void reply_record(struct copy_call *k, json_t *answer)
{
	char *text = json_dumps(json_object_get(answer, "Record"), JSON_INDENT(2));

	bus_call_reply(k->call, json_pack("[s]", text ? text : "{}"));
	free(text);
}

static void copy_job_done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct copy_call *k = data;
	struct catalogue *catalogue = k->coordinator->catalogue;

	if (err->code) {
		copy_call_end(k, err);
		return;
	}
	if (strcmp(k->op, "mount") == 0) {
		bus_call_reply_fds(k->call, json_pack("[i]", 0), fds, n_fds);
	} else if (strcmp(k->op, "record") == 0) {
		reply_record(k, answer);
	} else if (strcmp(k->op, "expose") == 0) {
		catalogue_set_exposed(catalogue, k->copy, json_string_value(json_object_get(answer, "Path")) ?: "");
		bus_call_reply(k->call, json_pack("[O]", json_object_get(answer, "Path")));
	} else {
		catalogue_set_exposed(catalogue, k->copy, "");
		bus_call_reply(k->call, json_array());
	}
	copy_call_end(k, NULL);
}

static const char *exposed_path(struct copy_call *k)
{
	autojson json_t *row = catalogue_row(k->coordinator->catalogue, k->copy);

	return json_string_value(json_object_get(row, "Exposed")) ?: "";
}

static int copy_request(struct copy_call *k, json_t **ret, struct err *err)
{
	*ret = NULL;
	if (strcmp(k->op, "expose") == 0) {
		if (*exposed_path(k))
			return err_set(err, VSS_E_OBJECT_ALREADY_EXISTS, "The copy {%s} is exposed at %s already", k->copy,
				       exposed_path(k));
		*ret = json_pack("{ss}", "Path", call_text(k->call, 1));
	}
	if (strcmp(k->op, "unexpose") == 0) {
		if (!*exposed_path(k))
			return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy {%s} is not exposed", k->copy);
		*ret = json_pack("{ss}", "Path", exposed_path(k));
	}
	return 0;
}

static void copy_run(const struct err *err, void *data)
{
	struct copy_call *k = data;
	struct err failure = *err;
	json_t *request = NULL;

	if (failure.code || copy_request(k, &request, &failure) < 0 ||
	    !catalogue_run(k->coordinator->catalogue, k->copy, k->op, request, copy_job_done, k, &failure))
		copy_call_end(k, &failure);
}

/* A copy that vssd does not know yet may lie on a filesystem that came a moment ago: storage is read before it is denied. */
static void copy_find(struct copy_call *k)
{
	struct err none = { 0 };

	if (catalogue_has(k->coordinator->catalogue, k->copy))
		copy_run(&none, k);
	else
		catalogue_refresh(k->coordinator->catalogue, copy_run, k);
}

static void copy_allowed(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct copy_call *k = data;

	if (err->code)
		copy_call_end(k, err);
	else
		copy_find(k);
}

/* The requestor whose session made a volatile copy may read it: that is what it was made for. */
static bool is_own_copy(struct coordinator *c, const char *copy, const char *sender)
{
	autojson json_t *row = catalogue_row(c->catalogue, copy);
	const char *id = json_string_value(json_object_get(row, "Session"));
	struct session *session = id && *id ? session_find(&c->sessions, id) : NULL;

	return session && session->owner && strcmp(session->owner, sender) == 0;
}

static void copy_call_start(struct bus_call *call, struct coordinator *c, const char *op, const char *action)
{
	struct copy_call *k;
	char id[ID_SIZE];

	if (!options_accept(call, no_options))
		return;
	if (!id_parse(call_text(call, 0), id)) {
		call_fail(call, VSS_E_INVALID_ARGUMENT, "'%.64s' is not the id of a shadow copy", call_text(call, 0));
		return;
	}
	k = calloc(1, sizeof *k);
	if (!k) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a call");
		return;
	}
	*k = (struct copy_call){ .coordinator = c, .call = call, .op = op };
	memcpy(k->copy, id, ID_SIZE);
	if (strcmp(op, "mount") == 0 && is_own_copy(c, id, bus_call_sender(call)))
		copy_find(k);
	else
		authority_check(c->authority, call, action, NULL, copy_allowed, k);
}

void face_get_record(struct bus_call *call, void *object)
{
	copy_call_start(call, object, "record", VSS_ACTION_LIST);
}

void face_expose(struct bus_call *call, void *object)
{
	copy_call_start(call, object, "expose", VSS_ACTION_EXPOSE);
}

void face_unexpose(struct bus_call *call, void *object)
{
	copy_call_start(call, object, "unexpose", VSS_ACTION_EXPOSE);
}

void face_mount(struct bus_call *call, void *object)
{
	copy_call_start(call, object, "mount", VSS_ACTION_EXPOSE);
}
