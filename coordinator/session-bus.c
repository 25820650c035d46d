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
#include "coordinator/session-internal.h"

#define CLOSE_CALLS_MAX 8 /* callers that wait for the end of one session */
#define NAMES_MAX 256     /* in each of the options that name writers */

struct session_face {
	struct session_face *next;
	struct coordinator *coordinator;
	struct session *session;
	char *path;
	struct bus_watch *owner;
	enum session_state announced;
	struct bus_call *closing[CLOSE_CALLS_MAX]; /* answered when the session has ended */
	size_t n_closing;
};

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

static void do_complete(struct bus_call *call, struct session_face *face)
{
	start(call, face, session_complete);
}

static void do_add_component(struct bus_call *call, struct session_face *face)
{
	struct err err = { 0 };

	reply_done(call, session_select(face->session, call_text(call, 0), call_text(call, 1), &err), &err);
}

struct addition {
	struct coordinator *coordinator;
	char session[ID_SIZE];
};

static void volumes_resolved(struct bus_call *call, const struct err *err, json_t *volumes, void *data)
{
	struct addition *addition = data;
	struct session_face *face = find_face(addition->coordinator, addition->session);
	struct err failure = *err;
	size_t i;
	json_t *volume;

	free(addition);
	if (!failure.code && !face)
		err_set(&failure, VSS_E_OBJECT_NOT_FOUND, "The session has ended");
	json_array_foreach(volumes, i, volume)
		if (!failure.code)
			session_add_volume(face->session, volume, &failure);
	if (failure.code)
		bus_call_error(call, &failure);
	else
		bus_call_reply(call, json_pack("[O]", json_array_get(volumes, 0)));
}

static void add_allowed(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct addition *addition = data;
	struct session_face *face = find_face(addition->coordinator, addition->session);
	json_t *recursive = json_object_get(call_options(call), "Recursive");

	if (err->code || !face) {
		volumes_resolved(call, err, NULL, addition);
		return;
	}
	face_resolve(addition->coordinator, call, json_array_get(bus_call_args(call), 0),
		     recursive ? json_is_true(recursive) : face->session->options.recursive, volumes_resolved, addition);
}

static void do_add_to_set(struct bus_call *call, struct session_face *face)
{
	struct addition *addition = malloc(sizeof *addition);

	if (!addition) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a volume");
		return;
	}
	addition->coordinator = face->coordinator;
	memcpy(addition->session, face->session->id, ID_SIZE);
	authority_check(face->coordinator->authority, call, VSS_ACTION_CREATE,
			json_string_value(json_array_get(bus_call_args(call), 0)), add_allowed, addition);
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

static const struct option_rule recursive_option[] = { { "Recursive", JSON_TRUE }, { NULL, JSON_NULL } };
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
METHOD(writer_status, no_options)
METHOD(set_succeeded, component_options)
METHOD(complete, no_options)
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
	{ "GatherWriterStatus", "a{sv}", "aa{sv}", "options", "writers", on_writer_status },
	{ "SetBackupSucceeded", "ba{sv}", "", "succeeded options", "", on_set_succeeded },
	{ "BackupComplete", "a{sv}", "", "options", "", on_complete },
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

static void watch_owner(struct session_face *face)
{
	face->owner = bus_watch_free(face->owner);
	if (face->session->owner)
		face->owner = bus_watch_name(face->coordinator->bus, face->session->owner, owner_changed, face);
}

static struct session_face *face_new(struct coordinator *c, struct session *session)
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
	watch_owner(face);
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

/* ---- Coordinator1: CreateSession, Adopt, ListSessions ---- */

static const struct option_rule create_rules[] = {
	{ "Context", JSON_STRING },	  { "BackupType", JSON_STRING },      { "Recursive", JSON_TRUE },
	{ "AddMissingVolumes", JSON_TRUE }, { "RequireWriters", JSON_ARRAY }, { "ExcludeWriters", JSON_ARRAY },
	{ "IncludeWriters", JSON_ARRAY }, { "OnWriterFailure", JSON_STRING }, { "Retries", JSON_INTEGER },
	{ "WaitUsec", JSON_INTEGER },	  { "Command", JSON_STRING },	      { NULL, JSON_NULL },
};

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static int read_choice(json_t *options, const char *name, const char *const *words, const char **ret, struct err *err)
{
	const char *text = json_string_value(json_object_get(options, name));

	*ret = text ? text : words[0];
	if (is_one_of(*ret, words))
		return 0;
	return err_set(err, VSS_E_INVALID_ARGUMENT, "The option %s does not know '%.64s'", name, *ret);
}

static int read_names(json_t *options, const char *name, json_t **ret, struct err *err)
{
	json_t *names = json_object_get(options, name), *value;
	size_t i;

	if (json_array_size(names) > NAMES_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "The option %s names more than %d writers", name, NAMES_MAX);
	json_array_foreach(names, i, value)
		if (!json_is_string(value))
			return err_set(err, VSS_E_INVALID_ARGUMENT, "The option %s is not a list of names", name);
	*ret = names ? json_incref(names) : json_array();
	return 0;
}

static int read_create_options(struct coordinator *c, json_t *options, struct session_options *o, struct err *err)
{
	static const char *const contexts[] = { "backup", "app-rollback", NULL };
	static const char *const types[] = { "copy", "full", "incremental", "differential", "log", "other", NULL };
	static const char *const policies[] = { "fail", "degrade", NULL };
	const char *context, *type, *policy;
	json_t *wait = json_object_get(options, "WaitUsec");

	if (options_check(options, create_rules, err) < 0 ||
	    read_choice(options, "Context", contexts, &context, err) < 0 ||
	    read_choice(options, "BackupType", types, &type, err) < 0 ||
	    read_choice(options, "OnWriterFailure", policies, &policy, err) < 0 ||
	    read_names(options, "RequireWriters", &o->require, err) < 0 ||
	    read_names(options, "ExcludeWriters", &o->exclude, err) < 0 ||
	    read_names(options, "IncludeWriters", &o->include, err) < 0)
		return -1;
	if (json_integer_value(json_object_get(options, "Retries")) > 100)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "At most 100 retries can be asked for");
	o->persistent = strcmp(context, "app-rollback") == 0;
	o->recursive = json_is_true(json_object_get(options, "Recursive"));
	o->add_missing_volumes = json_is_true(json_object_get(options, "AddMissingVolumes"));
	o->on_writer_failure = strcmp(policy, "fail") == 0 ? WRITER_FAILURE_FAILS : WRITER_FAILURE_DEGRADES;
	o->retries = (unsigned)json_integer_value(json_object_get(options, "Retries"));
	o->wait = wait ? (uint64_t)json_integer_value(wait) : c->config.wait;
	text_format(o->backup_type, sizeof o->backup_type, "%s", type);
	text_format(o->command, sizeof o->command, "%s",
		    json_string_value(json_object_get(options, "Command")) ?: "");
	return 0;
}

static void options_free(struct session_options *o)
{
	json_decref(o->require);
	json_decref(o->exclude);
	json_decref(o->include);
}

struct creation {
	struct coordinator *coordinator;
	struct bus_call *call;
	uid_t uid;
};

static void create_with_pid(const struct bus_reply *reply, void *data)
{
	struct creation *k = data;
	struct coordinator *c = k->coordinator;
	struct session_options options = { 0 };
	struct session *session;
	struct err err = { 0 };
	pid_t pid = (pid_t)json_integer_value(json_array_get(reply->args, 0));

	if (read_create_options(c, call_options(k->call), &options, &err) < 0) {
		options_free(&options);
		bus_call_error(k->call, &err);
	} else if (session_new(&session, &c->sessions, &options, bus_call_sender(k->call), k->uid, pid, &err) < 0) {
		bus_call_error(k->call, &err);
	} else {
		struct session_face *face = face_new(c, session);
		if (face)
			bus_call_reply(k->call, json_pack("[s]", face->path));
		else
			call_fail(k->call, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	}
	free(k);
}

static void create_allowed(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	struct creation *k = err->code ? NULL : malloc(sizeof *k);
	struct err failure = *err;

	if (k) {
		*k = (struct creation){ c, call, uid };
		if (bus_call(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
			     "GetConnectionUnixProcessID", "s", json_pack("[s]", bus_call_sender(call)), NULL, 0,
			     clock_now() + 5 * USEC_PER_SEC, create_with_pid, k, NULL, &failure) == 0)
			return;
		free(k);
	}
	if (!failure.code)
		err_set(&failure, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	bus_call_error(call, &failure);
}

void face_create_session(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, create_rules))
		authority_check(c->authority, call, VSS_ACTION_CREATE, NULL, create_allowed, c);
}

struct adoption {
	struct coordinator *coordinator;
	struct bus_call *call;
};

static void adopt_uid_known(uid_t uid, void *data)
{
	struct adoption *a = data;
	const char *token = call_text(a->call, 0);
	struct session_face *face = a->coordinator->session_faces;
	struct err err = { 0 };

	while (face && (!*face->session->token || strcmp(face->session->token, token) != 0))
		face = face->next;
	if (!face)
		call_fail(a->call, VSS_E_OBJECT_NOT_FOUND, "No detached session has this token: its lease may be over");
	else if (session_adopt(face->session, bus_call_sender(a->call), uid, 0, &err) < 0)
		bus_call_error(a->call, &err);
	else
		bus_call_reply(a->call, json_pack("[s]", face->path));
	if (face && !err.code)
		watch_owner(face);
	free(a);
}

void face_adopt(struct bus_call *call, void *object)
{
	struct adoption *a;

	if (!options_accept(call, no_options))
		return;
	a = malloc(sizeof *a);
	if (!a) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a call");
		return;
	}
	*a = (struct adoption){ object, call };
	bus_peer_uid(bus_call_bus(call), bus_call_sender(call), adopt_uid_known, a);
}

static void list_sessions(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	json_t *rows;

	if (err->code) {
		bus_call_error(call, err);
		return;
	}
	rows = json_array();
	for (const struct session *s = c->sessions.sessions; s; s = s->next)
		json_array_append_new(rows, session_row(s));
	bus_call_reply(call, json_pack("[o]", rows));
}

void face_list_sessions(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, no_options))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_sessions, c);
}

/* ---- after a restart ---- */

struct restoration {
	struct coordinator *coordinator;
	size_t asked;
	void (*done)(struct coordinator *coordinator);
};

struct restored_session {
	struct restoration *restoration;
	json_t *stored;
};

static void restoration_step(struct restoration *r)
{
	if (--r->asked > 0)
		return;
	r->done(r->coordinator);
	free(r);
}

static void owner_uid_known(uid_t uid, void *data)
{
	struct restored_session *k = data;
	struct coordinator *c = k->restoration->coordinator;
	bool lives = uid != (uid_t)-1 && (json_int_t)uid == json_integer_value(json_object_get(k->stored, "Uid"));
	const char *id = json_string_value(json_object_get(k->stored, "Id")) ?: "";
	struct session *session;
	struct err err = { 0 };

	if (session_restore(&c->sessions, k->stored, &err) < 0) {
		log_warning("a session was not taken up again: %s", err.text);
	} else if ((session = session_find(&c->sessions, id))) {
		log_notice("session %s: taken up again in the phase %s", id, session_state_name(session->state));
		face_new(c, session);
		session_resume(session, lives);
	}
	json_decref(k->stored);
	restoration_step(k->restoration);
	free(k);
}

void session_faces_restore(struct coordinator *coordinator, void (*done)(struct coordinator *coordinator))
{
	autojson json_t *all = sessions_stored(&coordinator->sessions);
	struct restoration *r = malloc(sizeof *r);
	const char *name;
	json_t *stored;

	if (!r) {
		done(coordinator);
		return;
	}
	*r = (struct restoration){ coordinator, 1, done };
	json_object_foreach(all, name, stored) {
		struct restored_session *k = malloc(sizeof *k);
		const char *owner = json_string_value(json_object_get(stored, "Owner"));
		if (!k)
			continue;
		*k = (struct restored_session){ r, json_incref(stored) };
		r->asked++;
		if (owner && *owner)
			bus_peer_uid(coordinator->bus, owner, owner_uid_known, k);
		else /* detached: its lease decides */
			owner_uid_known((uid_t)json_integer_value(json_object_get(stored, "Uid")), k);
	}
	restoration_step(r);
}
