/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How sessions come to be on the bus: CreateSession, Adopt, and what a restart finds on /run. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "common/text.h"
#include "coordinator/log.h"
#include "coordinator/session-face.h"

#define NAMES_MAX 256     /* in each of the options that name writers */
#define NAME_SIZE_MAX 256 /* bytes; a writer's name has at most 80 */

static const struct option_rule create_rules[] = {
	{ "Context", JSON_STRING },	  { "BackupType", JSON_STRING },      { "Recursive", JSON_TRUE },
	{ "AddMissingVolumes", JSON_TRUE }, { "RequireWriters", JSON_ARRAY }, { "ExcludeWriters", JSON_ARRAY },
	{ "IncludeWriters", JSON_ARRAY }, { "OnWriterFailure", JSON_STRING }, { "Retries", JSON_INTEGER },
	{ "WaitUsec", JSON_INTEGER },	  { "Command", JSON_STRING },	      { "Verify", JSON_TRUE },
	{ "Hold", JSON_STRING },		  { "HoldLimitUsec", JSON_INTEGER },
	{ NULL, JSON_NULL },
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
		if (!json_is_string(value) || json_string_length(value) > NAME_SIZE_MAX)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "The option %s is not a list of names", name);
	*ret = names ? json_incref(names) : json_array();
	return 0;
}

static int read_create_options(struct coordinator *c, json_t *options, struct session_options *o, struct err *err)
{
	static const char *const contexts[] = { "backup", "app-rollback", NULL };
	static const char *const types[] = { "copy", "full", "incremental", "differential", "log", "other", NULL };
	static const char *const policies[] = { "fail", "degrade", NULL };
	static const char *const holds[] = { [HOLD_NOTHING] = "", [HOLD_WRITERS] = "writers", [HOLD_VOLUMES] = "volumes", NULL };
	const char *context, *type, *policy, *hold;
	json_t *wait = json_object_get(options, "WaitUsec");

	if (options_check(options, create_rules, err) < 0 ||
	    read_choice(options, "Context", contexts, &context, err) < 0 ||
	    read_choice(options, "BackupType", types, &type, err) < 0 ||
	    read_choice(options, "OnWriterFailure", policies, &policy, err) < 0 ||
	    read_choice(options, "Hold", holds, &hold, err) < 0 ||
	    read_names(options, "RequireWriters", &o->require, err) < 0 ||
	    read_names(options, "ExcludeWriters", &o->exclude, err) < 0 ||
	    read_names(options, "IncludeWriters", &o->include, err) < 0)
		return -1;
	if (json_integer_value(json_object_get(options, "Retries")) > 100)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "At most 100 retries can be asked for");
	o->hold = !*hold ? HOLD_NOTHING : strcmp(hold, "writers") == 0 ? HOLD_WRITERS : HOLD_VOLUMES;
	o->hold_limit = (uint64_t)json_integer_value(json_object_get(options, "HoldLimitUsec"));
	o->persistent = strcmp(context, "app-rollback") == 0;
	o->recursive = json_is_true(json_object_get(options, "Recursive"));
	o->add_missing_volumes = json_is_true(json_object_get(options, "AddMissingVolumes"));
	o->verify = json_is_true(json_object_get(options, "Verify"));
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

	if (reply->error) {
		call_fail(k->call, VSS_E_NOT_AVAILABLE, "The caller is gone, or vssd is ending");
	} else if (read_create_options(c, call_options(k->call), &options, &err) < 0) {
		options_free(&options);
		bus_call_error(k->call, &err);
	} else if (session_new(&session, &c->sessions, &options, bus_call_sender(k->call), k->uid, pid, &err) < 0) {
		bus_call_error(k->call, &err);
	} else {
		struct session_face *face = session_face_new(c, session);
		if (face) {
			bus_call_reply(k->call, json_pack("[s]", face->path));
		} else {
			session_close(session, true);
			call_fail(k->call, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
		}
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
		session_face_watch_owner(face);
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
		session_face_new(c, session);
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
