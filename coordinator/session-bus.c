/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions on the bus. A session belongs to the connection that opened it; only that one and root may call it. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "common/text.h"
#include "coordinator/faces.h"
#include "coordinator/log.h"
#include "coordinator/session-channel.h"
#include "coordinator/session-face.h"
#include "coordinator/session-internal.h"


/* ---- properties ---- */

static json_t *row_member(struct session_face *face, const char *name)
{
	autojson json_t *row = session_row(face->session);

	return json_incref(json_object_get(row, name));
}

#define GETTER(name)                              \
	static json_t *get_##name(void *object)   \
	{                                         \
		return row_member(object, #name); \
	}
GETTER(Id)
GETTER(State)
GETTER(Operation)
GETTER(LastOperation)
GETTER(LastResult)
GETTER(SetId)
GETTER(Owner)
GETTER(Uid)
GETTER(Pid)
GETTER(Command)
GETTER(Created)
GETTER(Members)
GETTER(WaitingFor)
#undef GETTER

static json_t *get_participants(void *object)
{
	return session_participant_rows(((struct session_face *)object)->session);
}

static json_t *get_timeline(void *object)
{
	return json_incref(((struct session_face *)object)->session->timeline);
}

static const struct bus_property session_properties[] = {
	{ "Id", "s", get_Id, false },
	{ "State", "s", get_State, false },
	{ "Operation", "s", get_Operation, true },
	{ "LastOperation", "s", get_LastOperation, true },
	{ "LastResult", "a{sv}", get_LastResult, true },
	{ "SetId", "s", get_SetId, true },
	{ "Owner", "s", get_Owner, true },
	{ "Uid", "u", get_Uid, false },
	{ "Pid", "u", get_Pid, true },
	{ "Command", "s", get_Command, false },
	{ "Created", "t", get_Created, false },
	{ "Members", "aa{sv}", get_Members, true },
	{ "Participants", "aa{sv}", get_participants, true },
	{ "Timeline", "aa{sv}", get_timeline, true },
	{ "WaitingFor", "aa{sv}", get_WaitingFor, true },
	{ NULL },
};

static const struct bus_signal session_signals[] = {
	{ "Finished", "sa{sv}", "operation result" },
	{ "Progress", "sua{sv}", "phase percent details" },
	{ NULL },
};

/* ---- who may call ---- */

typedef void (*allowed_fn)(struct bus_call *call, struct session_face *face);

struct guarded_call {
	struct coordinator *coordinator;
	struct bus_call *call;
	char session[ID_SIZE];
	allowed_fn fn;
};

static struct session_face *find_face(struct coordinator *c, const char *session)
{
	for (struct session_face *f = c->session_faces; f; f = f->next)
		if (strcmp(f->session->id, session) == 0)
			return f;
	return NULL;
}

static void uid_known(uid_t uid, void *data)
{
	struct guarded_call *g = data;
	struct session_face *face = find_face(g->coordinator, g->session); /* it may have ended meanwhile */

	if (!face)
		call_fail(g->call, VSS_E_OBJECT_NOT_FOUND, "The session has ended");
	else if (uid != 0)
		call_fail(g->call, VSS_E_ACCESS_DENIED,
			  "The session belongs to another connection: only that one and root may use it");
	else
		g->fn(g->call, face);
	free(g);
}

static void guard(struct bus_call *call, struct session_face *face, allowed_fn fn)
{
	const char *owner = face->session->owner, *sender = bus_call_sender(call);
	struct guarded_call *g;

	if (owner && strcmp(owner, sender) == 0) {
		fn(call, face);
		return;
	}
	g = malloc(sizeof *g);
	if (!g) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a call");
		return;
	}
	*g = (struct guarded_call){ .coordinator = face->coordinator, .call = call, .fn = fn };
	memcpy(g->session, face->session->id, ID_SIZE);
	bus_peer_uid(bus_call_bus(call), sender, uid_known, g);
}

static void reply_done(struct bus_call *call, int r, const struct err *err)
{
	if (r < 0)
		bus_call_error(call, err);
	else
		bus_call_reply(call, json_array());
}

/* ---- methods ---- */

/* The answer is out before the operation begins: its end may come in the same turn. */
static void start(struct bus_call *call, struct session_face *face, int (*operation)(struct session *, struct err *))
{
	struct err err = { 0 };

	reply_done(call, operation(face->session, &err), &err);
}

static void do_gather(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_gather);
}

static void do_prepare(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_prepare);
}

static void do_snapshot(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_snapshot);
}

/* With a channel the requestor hears of the hold, and ends it, without the bus. */
static void do_hold(struct bus_call *call, struct session_face *face)
{
	json_t *channel = json_object_get(call_options(call), "Channel");
	struct err err = { 0 };

	if (channel) {
		int fd = bus_call_take_fd(call, json_integer_value(channel));
		if (fd < 0 || session_channel_open(face->session, fd, &err) < 0) {
			call_fail(call, VSS_E_INVALID_ARGUMENT, "%s", *err.text ? err.text : "\"Channel\" is no descriptor");
			return;
		}
	}
	start(call, face, session_start_hold);
}

static void do_release(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_release);
}

static void do_pre_restore(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_pre_restore);
}

static void do_post_restore(struct bus_call *call, struct session_face *face)
{
	bool succeeded = json_is_true(json_object_get(call_options(call), "Succeeded"));
	struct err err = { 0 };

	reply_done(call, session_post_restore(face->session, succeeded, &err), &err);
}

static void do_complete(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_complete);
}

static void do_add_component(struct bus_call *call, struct session_face *face)
{
	struct err err = { 0 };

	reply_done(call, session_select(face->session, call_text(call, 0), call_text(call, 1), &err), &err);
}

/* AddToSnapshotSet: the path is resolved first, so that polkit is asked about the volume that it leads to, and about each
 * one below it, not about what the caller calls it. */
struct addition {
	struct coordinator *coordinator;
	char session[ID_SIZE];
	json_t *volumes; /* resolved; the first n_allowed may be copied by the caller */
	size_t n_allowed;
};

static void addition_end(struct bus_call *call, struct addition *addition, const struct err *err)
{
	struct session_face *face = find_face(addition->coordinator, addition->session);
	struct err failure = *err;
	size_t i;
	json_t *volume;

	if (!failure.code && !face)
		err_set(&failure, VSS_E_OBJECT_NOT_FOUND, "The session has ended");
	json_array_foreach(addition->volumes, i, volume)
		if (!failure.code)
			session_add_volume(face->session, volume, &failure);
	if (failure.code)
		bus_call_error(call, &failure);
	else
		bus_call_reply(call, json_pack("[O]", json_array_get(addition->volumes, 0)));
	json_decref(addition->volumes);
	free(addition);
}

static void check_next_volume(struct bus_call *call, struct addition *addition);

static void volume_checked(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct addition *addition = data;

	if (err->code) {
		addition_end(call, addition, err);
		return;
	}
	addition->n_allowed++;
	check_next_volume(call, addition);
}

/* More volumes than a set can have are refused by session_add_volume. */
static void check_next_volume(struct bus_call *call, struct addition *addition)
{
	json_t *volume = json_array_get(addition->volumes, addition->n_allowed);

	if (volume && addition->n_allowed < SESSION_MEMBERS_MAX)
		authority_check(addition->coordinator->authority, call, VSS_ACTION_CREATE,
				json_string_value(json_object_get(volume, "Path")), volume_checked, addition);
	else
		addition_end(call, addition, &(struct err){ 0 });
}

static void volumes_resolved(struct bus_call *call, const struct err *err, json_t *volumes, void *data)
{
	struct addition *addition = data;

	if (err->code) {
		addition_end(call, addition, err);
		return;
	}
	addition->volumes = json_incref(volumes);
	check_next_volume(call, addition);
}

static void do_add_to_set(struct bus_call *call, struct session_face *face)
{
	struct addition *addition = calloc(1, sizeof *addition);
	json_t *option = json_object_get(call_options(call), "Recursive");
	bool recursive = option ? json_is_true(option) : face->session->options.recursive;

	if (!addition) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a volume");
		return;
	}
	addition->coordinator = face->coordinator;
	memcpy(addition->session, face->session->id, ID_SIZE);
	face_resolve(face->coordinator, call, json_array_get(bus_call_args(call), 0),
		     recursive ? FACE_BELOW_TOO : FACE_BELOW_NAMED, volumes_resolved, addition);
}

static void do_writer_status(struct bus_call *call, struct session_face *face)
{
	bus_call_reply(call, json_pack("[o]", session_participant_rows(face->session)));
}

static void do_set_succeeded(struct bus_call *call, struct session_face *face)
{
	json_t *options = call_options(call);
	struct err err = { 0 };

	reply_done(call,
		   session_set_succeeded(face->session, json_is_true(json_array_get(bus_call_args(call), 0)),
					 json_string_value(json_object_get(options, "Writer")),
					 json_string_value(json_object_get(options, "Component")), &err),
		   &err);
}

static void close_session(struct bus_call *call, struct session_face *face, bool discard)
{
	if (face->n_closing == CLOSE_CALLS_MAX) {
		call_fail(call, VSS_E_BAD_STATE, "The session is ending already");
		return;
	}
	face->closing[face->n_closing++] = call;
	session_close(face->session, discard);
}

static void do_close(struct bus_call *call, struct session_face *face)
{
	close_session(call, face, false);
}

static void do_abort(struct bus_call *call, struct session_face *face)
{
	close_session(call, face, true);
}

static void do_detach(struct bus_call *call, struct session_face *face)
{
	char token[ID_SIZE];
	struct err err = { 0 };

	if (session_detach(face->session, (uint64_t)json_integer_value(json_array_get(bus_call_args(call), 0)), token,
			   &err) < 0) {
		bus_call_error(call, &err);
		return;
	}
	face->owner = bus_watch_free(face->owner);
	bus_call_reply(call, json_pack("[s]", token));
}

static const struct option_rule hold_options[] = { { "Channel", JSON_INTEGER }, { NULL, JSON_NULL } };
static const struct option_rule recursive_option[] = { { "Recursive", JSON_TRUE }, { NULL, JSON_NULL } };
static const struct option_rule succeeded_option[] = { { "Succeeded", JSON_TRUE }, { NULL, JSON_NULL } };
static const struct option_rule component_options[] = { { "Writer", JSON_STRING },
							 { "Component", JSON_STRING },
							 { NULL, JSON_NULL } };

#define METHOD(name, rules)                                         \
	static void on_##name(struct bus_call *call, void *object)  \
	{                                                           \
		if (options_accept(call, rules))                    \
			guard(call, object, do_##name);             \
	}
METHOD(gather, no_options)
METHOD(add_component, no_options)
METHOD(add_to_set, recursive_option)
METHOD(prepare, no_options)
METHOD(snapshot, no_options)
METHOD(hold, hold_options)
METHOD(release, no_options)
METHOD(writer_status, no_options)
METHOD(set_succeeded, component_options)
METHOD(complete, no_options)
METHOD(pre_restore, no_options)
METHOD(post_restore, succeeded_option)
METHOD(abort, no_options)
METHOD(close, no_options)
METHOD(detach, no_options)
#undef METHOD

static const struct bus_method session_methods[] = {
	{ "GatherWriterMetadata", "a{sv}", "", "options", "", on_gather },
	{ "AddComponent", "ssa{sv}", "", "writer component options", "", on_add_component },
	{ "AddToSnapshotSet", "va{sv}", "a{sv}", "volume options", "member", on_add_to_set },
	{ "PrepareForBackup", "a{sv}", "", "options", "", on_prepare },
	{ "DoSnapshotSet", "a{sv}", "", "options", "", on_snapshot },
	{ "Hold", "a{sv}", "", "options", "", on_hold },
	{ "Release", "a{sv}", "", "options", "", on_release },
	{ "GatherWriterStatus", "a{sv}", "aa{sv}", "options", "writers", on_writer_status },
	{ "SetBackupSucceeded", "ba{sv}", "", "succeeded options", "", on_set_succeeded },
	{ "BackupComplete", "a{sv}", "", "options", "", on_complete },
	{ "PreRestore", "a{sv}", "", "options", "", on_pre_restore },
	{ "PostRestore", "a{sv}", "", "options", "", on_post_restore },
	{ "Abort", "a{sv}", "", "options", "", on_abort },
	{ "Close", "a{sv}", "", "options", "", on_close },
	{ "Detach", "ua{sv}", "s", "seconds options", "token", on_detach },
	{ NULL },
};

const struct bus_interface session_interface = { VSS_IFACE_SESSION, session_methods, session_properties,
						 session_signals };

static const struct bus_interface *const session_interfaces[] = { &session_interface, NULL };

/* ---- making and ending faces ---- */

static void owner_changed(const char *name, bool owned, void *data)
{
	struct session_face *face = data;

	if (!owned)
		session_owner_lost(face->session);
}

void session_face_watch_owner(struct session_face *face)
{
	face->owner = bus_watch_free(face->owner);
	if (face->session->owner)
		face->owner = bus_watch_name(face->coordinator->bus, face->session->owner, owner_changed, face);
}

struct session_face *session_face_new(struct coordinator *c, struct session *session)
{
	struct session_face *face = calloc(1, sizeof *face);

	if (!face)
		return NULL;
	face->coordinator = c;
	face->session = session;
	face->path = face_path(VSS_SESSION_PATH, session->id);
	if (!face->path || bus_export(c->bus, face->path, session_interfaces, face, NULL) < 0) {
		free(face->path);
		free(face);
		return NULL;
	}
	face->next = c->session_faces;
	c->session_faces = face;
	session_face_watch_owner(face);
	bus_changed(c->bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Sessions");
	return face;
}

static void face_end(struct session_face *face)
{
	struct coordinator *c = face->coordinator;

	for (struct session_face **link = &c->session_faces; *link; link = &(*link)->next) {
		if (*link == face) {
			*link = face->next;
			break;
		}
	}
	for (size_t i = 0; i < face->n_closing; i++)
		bus_call_reply(face->closing[i], json_array());
	bus_watch_free(face->owner);
	bus_unexport(c->bus, face->path);
	free(face->path);
	free(face);
}

void session_faces_free(struct coordinator *coordinator)
{
	while (coordinator->session_faces)
		face_end(coordinator->session_faces);
}

static void state_changed(struct session *session, void *data)
{
	struct coordinator *c = data;
	struct session_face *face = find_face(c, session->id);

	if (!face || face->announced == session->state)
		return;
	face->announced = session->state;
	bus_changed(c->bus, face->path, VSS_IFACE_SESSION, "State");
	bus_emit(c->bus, face->path, VSS_IFACE_SESSION, "Progress", "sua{sv}",
		 json_pack("[si{}]", session_state_name(session->state), (int)session_state_percent(session->state)));
}

static void finished(struct session *session, const char *operation, json_t *result, void *data)
{
	struct coordinator *c = data;
	struct session_face *face = find_face(c, session->id);

	if (face)
		bus_emit(c->bus, face->path, VSS_IFACE_SESSION, "Finished", "sa{sv}", json_pack("[sO]", operation, result));
}

static void closed(struct session *session, void *data)
{
	struct coordinator *c = data;
	struct session_face *face = find_face(c, session->id);

	if (face)
		face_end(face);
	bus_changed(c->bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Sessions");
	if (c->sessions.n_sessions <= 1)
		fanout_trim(c->fanout);
}

struct session_listener session_face_listener(struct coordinator *coordinator)
{
	return (struct session_listener){ state_changed, finished, closed, coordinator };
}
