/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writers on the bus: registration, their records as objects, lists. Probing: probe-bus.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/faces.h"
#include "coordinator/log.h"

/* A connection that owns writers: watched, so that its end is known. */
struct writer_name {
	struct writer_name *next;
	struct coordinator *coordinator;
	char *name;
	struct bus_watch *watch;
	unsigned writers;
};

/* ---- the record as an object ---- */

static json_t *row_member(struct writer *writer, const char *name)
{
	autojson json_t *row = writer_row(writer);

	return json_incref(json_object_get(row, name));
}

#define GETTER(name)                                   \
	static json_t *get_##name(void *object)        \
	{                                              \
		return row_member(object, #name);      \
	}
GETTER(Name)
GETTER(WriterId)
GETTER(InstanceId)
GETTER(Instance)
GETTER(Version)
GETTER(Level)
GETTER(State)
GETTER(StateText)
GETTER(Code)
GETTER(LastError)
GETTER(Message)
GETTER(Phase)
GETTER(FailedAt)
GETTER(ElapsedUsec)
GETTER(Unit)
GETTER(BusName)
GETTER(Uid)
GETTER(Pid)
GETTER(Present)
GETTER(Expected)
GETTER(AgeUsec)
GETTER(Components)
GETTER(Scope)
GETTER(FreezeLimitUsec)
GETTER(Timings)
#undef GETTER

/* The state changes with every event of every writer and is silent; a failure is announced. */
static const struct bus_property record_properties[] = {
	{ "Name", "s", get_Name, false },
	{ "WriterId", "s", get_WriterId, false },
	{ "InstanceId", "s", get_InstanceId, false },
	{ "Instance", "s", get_Instance, false },
	{ "Version", "s", get_Version, false },
	{ "Level", "s", get_Level, false },
	{ "State", "u", get_State, true },
	{ "StateText", "s", get_StateText, true },
	{ "Code", "u", get_Code, false },
	{ "LastError", "s", get_LastError, false },
	{ "Message", "s", get_Message, false },
	{ "Phase", "s", get_Phase, false },
	{ "FailedAt", "t", get_FailedAt, false },
	{ "ElapsedUsec", "t", get_ElapsedUsec, false },
	{ "Unit", "s", get_Unit, false },
	{ "BusName", "s", get_BusName, false },
	{ "Uid", "x", get_Uid, false },
	{ "Pid", "u", get_Pid, true },
	{ "Present", "b", get_Present, false },
	{ "Expected", "b", get_Expected, false },
	{ "AgeUsec", "t", get_AgeUsec, true },
	{ "Components", "aa{sv}", get_Components, true },
	{ "Scope", "s", get_Scope, false },
	{ "FreezeLimitUsec", "t", get_FreezeLimitUsec, false },
	{ "Timings", "a{sv}", get_Timings, true },
	{ NULL },
};

const struct bus_interface writer_record_interface = { VSS_IFACE_WRITER_RECORD, NULL, record_properties, NULL };

static const struct bus_interface *const record_interfaces[] = { &writer_record_interface, NULL };

/* ---- what the registry tells ---- */

static void added(struct writer *writer, void *data)
{
	struct coordinator *c = data;
	autofree char *path = face_path(VSS_WRITER_PATH, writer->instance);

	bus_export(c->bus, path, record_interfaces, writer, NULL);
	bus_changed(c->bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Writers");
	if (writer->present)
		sessions_writer_added(&c->sessions, writer);
}

static void removed(struct writer *writer, void *data)
{
	struct coordinator *c = data;
	autofree char *path = face_path(VSS_WRITER_PATH, writer->instance);

	bus_unexport(c->bus, path);
	bus_changed(c->bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Writers");
}

static void changed(struct writer *writer, void *data)
{
	struct coordinator *c = data;
	autofree char *path = face_path(VSS_WRITER_PATH, writer->instance);

	for (const char **p = (const char *[]){ "Code", "LastError", "Message", "Phase", "FailedAt", "Present", NULL };
	     *p; p++)
		bus_changed(c->bus, path, VSS_IFACE_WRITER_RECORD, *p);
}

static void name_unwatch(struct writer_name *name)
{
	for (struct writer_name **link = &name->coordinator->writer_names; *link; link = &(*link)->next) {
		if (*link == name) {
			*link = name->next;
			break;
		}
	}
	bus_watch_free(name->watch);
	free(name->name);
	free(name);
}

static struct writer_name *name_find(struct coordinator *c, const char *bus_name)
{
	for (struct writer_name *n = c->writer_names; n; n = n->next)
		if (strcmp(n->name, bus_name) == 0)
			return n;
	return NULL;
}

static void lost(struct writer *writer, void *data)
{
	struct coordinator *c = data;
	struct writer_name *name = name_find(c, writer->bus_name);

	log_info("writer '%s' {%s} is gone", writer->name, writer->instance);
	if (name && --name->writers == 0)
		name_unwatch(name);
	sessions_writer_lost(&c->sessions, writer);
}

struct registry_listener writer_face_listener(struct coordinator *coordinator)
{
	return (struct registry_listener){ added, removed, changed, lost, coordinator };
}

static void connection_changed(const char *name, bool owned, void *data)
{
	struct writer_name *n = data;
	struct coordinator *c = n->coordinator;
	autofree char *copy = strdup(name); /* n goes with its last writer */

	if (!owned && copy)
		registry_connection_lost(c->registry, copy);
}

static void name_watch(struct coordinator *c, const char *bus_name)
{
	struct writer_name *name = name_find(c, bus_name);

	if (!name) {
		name = calloc(1, sizeof *name);
		if (!name || !(name->name = strdup(bus_name))) {
			free(name);
			return;
		}
		name->coordinator = c;
		name->watch = bus_watch_name(c->bus, bus_name, connection_changed, name);
		name->next = c->writer_names;
		c->writer_names = name;
	}
	name->writers++;
}

void writer_faces_free(struct coordinator *coordinator)
{
	while (coordinator->writer_names)
		name_unwatch(coordinator->writer_names);
}

/* ---- starting writers ---- */

struct start {
	struct coordinator *coordinator;
	char session[ID_SIZE];
	char *bus_name;
};

static void start_answered(const struct bus_reply *reply, void *data)
{
	struct start *start = data;
	struct session *session = session_find(&start->coordinator->sessions, start->session);

	if (reply->error)
		log_notice("%s cannot be started: %s", start->bus_name, reply->message);
	if (reply->error && session)
		session_activation_failed(session, start->bus_name);
	free(start->bus_name);
	free(start);
}

void writer_face_activate(const char *session, const char *bus_name, void *data)
{
	struct coordinator *c = data;
	struct start *start = calloc(1, sizeof *start);

	if (!start || !(start->bus_name = strdup(bus_name))) {
		free(start);
		return;
	}
	start->coordinator = c;
	memcpy(start->session, session, ID_SIZE);
	if (bus_call(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "StartServiceByName",
		     "su", json_pack("[si]", bus_name, 0), NULL, 0, clock_now() + 30 * USEC_PER_SEC, start_answered, start,
		     NULL, NULL) == 0)
		return;
	free(start->bus_name);
	free(start);
}

/* ---- registration ---- */

static struct writer *same_registration(struct coordinator *c, const char *bus_name, json_t *metadata)
{
	const char *instance = json_string_value(json_object_get(metadata, "Instance"));
	struct writer *w = instance ? registry_find_instance(c->registry, instance) : NULL;

	return w && w->present && strcmp(w->bus_name, bus_name) == 0 ? w : NULL;
}

static void pid_known(const struct bus_reply *reply, void *data)
{
	struct writer *writer = data;

	if (!reply->error)
		writer->pid = (pid_t)json_integer_value(json_array_get(reply->args, 0));
	writer_unref(writer);
}

static void ask_pid(struct coordinator *c, struct writer *writer)
{
	writer_ref(writer);
	if (bus_call(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
		     "GetConnectionUnixProcessID", "s", json_pack("[s]", writer->bus_name), NULL, 0,
		     clock_now() + 30 * USEC_PER_SEC, pid_known, writer, NULL, NULL) < 0)
		writer_unref(writer);
}

static int register_writer(struct coordinator *c, const char *bus_name, uid_t uid, const char *path, json_t *metadata,
			   struct writer **ret, struct err *err)
{
	bool again = same_registration(c, bus_name, metadata) != NULL;

	if (registry_register(c->registry, bus_name, uid, path, metadata, ret, err) < 0)
		return -1;
	if (!again)
		name_watch(c, bus_name);
	ask_pid(c, *ret);
	return 0;
}

static void register_allowed(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	struct err failure = *err;
	struct writer *writer;

	if (failure.code || register_writer(c, bus_call_sender(call), uid, call_text(call, 0),
					    json_array_get(bus_call_args(call), 1), &writer, &failure) < 0) {
		log_notice("a writer of %s was refused: %s", bus_call_sender(call), failure.text);
		bus_call_error(call, &failure);
		return;
	}
	log_info("writer '%s' {%s} registered by %s, uid %u", writer->name, writer->instance, bus_call_sender(call),
		 (unsigned)uid);
	autofree char *path = face_path(VSS_WRITER_PATH, writer->instance);
	bus_call_reply(call, json_pack("[s]", path));
}

struct registration {
	struct coordinator *coordinator;
	struct bus_call *call;
};

static void register_uid_known(uid_t uid, void *data)
{
	struct registration *r = data;
	struct err none = { 0 };

	if (uid != (uid_t)-1 && registry_manifest_allows(r->coordinator->registry,
							 json_array_get(bus_call_args(r->call), 1), uid))
		register_allowed(r->call, uid, &none, r->coordinator);
	else
		authority_check(r->coordinator->authority, r->call, VSS_ACTION_REGISTER, NULL, register_allowed,
				r->coordinator);
	free(r);
}

void face_register_writer(struct bus_call *call, void *object)
{
	struct registration *r = malloc(sizeof *r);

	if (!r) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for a writer");
		return;
	}
	*r = (struct registration){ object, call };
	bus_peer_uid(bus_call_bus(call), bus_call_sender(call), register_uid_known, r);
}

void face_unregister_writer(struct bus_call *call, void *object)
{
	struct coordinator *c = object;
	struct err err = { 0 };

	if (!options_accept(call, no_options))
		return;
	if (registry_unregister(c->registry, bus_call_sender(call), call_text(call, 0), &err) < 0)
		bus_call_error(call, &err);
	else
		bus_call_reply(call, json_array());
}

void face_keep_alive(struct bus_call *call, void *object)
{
	struct coordinator *c = object;
	struct session *session = session_find(&c->sessions, call_text(call, 0));

	if (!session || !session_keep_alive(session, bus_call_sender(call)))
		call_fail(call, VSS_E_OBJECT_NOT_FOUND,
			  "No PrepareBackup or PrepareSnapshot of that session is under way with this writer");
	else
		bus_call_reply(call, json_array());
}

/* ---- after a restart ---- */

struct restoration {
	struct coordinator *coordinator;
	size_t asked;
	void (*done)(struct coordinator *coordinator);
};

struct restored_writer {
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

static void restored_uid_known(uid_t uid, void *data)
{
	struct restored_writer *w = data;
	struct coordinator *c = w->restoration->coordinator;
	struct writer *writer = NULL;
	struct err err = { 0 };

	if (uid != (uid_t)-1 && (json_int_t)uid == json_integer_value(json_object_get(w->stored, "Uid"))) {
		if (register_writer(c, json_string_value(json_object_get(w->stored, "BusName")), uid,
				    json_string_value(json_object_get(w->stored, "Path")),
				    json_object_get(w->stored, "Metadata"), &writer, &err) == 0)
			registry_restore_record(writer, w->stored);
		else
			log_warning("a writer known before the restart was not taken up again: %s", err.text);
	}
	json_decref(w->stored);
	restoration_step(w->restoration);
	free(w);
}

void writer_faces_restore(struct coordinator *coordinator, void (*done)(struct coordinator *coordinator))
{
	autojson json_t *list = registry_stored(coordinator->registry);
	struct restoration *r = malloc(sizeof *r);
	json_t *stored;
	size_t i;

	if (!r) {
		done(coordinator);
		return;
	}
	*r = (struct restoration){ coordinator, 1, done };
	json_array_foreach(list, i, stored) {
		const char *name = json_string_value(json_object_get(stored, "BusName"));
		struct restored_writer *w = name ? malloc(sizeof *w) : NULL;
		if (!w)
			continue;
		*w = (struct restored_writer){ r, json_incref(stored) };
		r->asked++;
		bus_peer_uid(coordinator->bus, name, restored_uid_known, w);
	}
	restoration_step(r);
}

/* ---- lists ---- */

static void reply_rows(struct coordinator *c, struct bus_call *call)
{
	bus_call_reply(call, json_pack("[o]", registry_rows(c->registry)));
}

static void list_writers(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code)
		bus_call_error(call, err);
	else
		reply_rows(data, call);
}

void face_list_writers(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, no_options))
		authority_check(c->authority, call, VSS_ACTION_LIST, NULL, list_writers, c);
}

static void reset_writer(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct coordinator *c = data;
	const char *text = call_text(call, 0);
	size_t found = 0;

	if (err->code) {
		bus_call_error(call, err);
		return;
	}
	for (struct writer *w = registry_first(c->registry), *next; w; w = next) {
		next = w->next;
		if (!writer_matches(w, text))
			continue;
		found++;
		writer_reset(w);
	}
	if (found == 0)
		call_fail(call, VSS_E_OBJECT_NOT_FOUND, "There is no writer '%.100s'", text);
	else
		bus_call_reply(call, json_array());
}

void face_reset_writer(struct bus_call *call, void *object)
{
	struct coordinator *c = object;

	if (options_accept(call, no_options))
		authority_check(c->authority, call, VSS_ACTION_CREATE, NULL, reset_writer, c);
}
