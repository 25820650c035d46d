/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writers that lie, hang, babble and vanish. An honest one takes part in each set: whatever the other does, neither may
 * be left frozen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "hostile.h"

#define SET_PATIENCE (20 * USEC_PER_SEC)

enum manner {
	HONEST,
	SILENT,
	VANISHING,
	WILD_ERROR,  /* an error of a name and body that nobody knows */
	KNOWN_ERROR, /* one of vssd's, with a body that is no text */
	OTHER_TYPES, /* an answer of random types */
	HUGE_TEXT,
	HUGE_LIST, /* more values than a message may hold */
	TWO_ANSWERS,
	ANSWERS_ANOTHER, /* call than the one it got */
	LATE,
	LIES,	     /* about the sequence, in wrong types */
	KEEPS_ALIVE, /* for ever, in every event */
	REGISTERS_AGAIN,
	MANNERS
};

static const char *const manner_names[MANNERS] = {
	"honest",    "silent",	    "vanishing",       "wild error", "known error", "other types", "huge text",
	"huge list", "two answers", "answers another", "late",	     "lies",	    "keeps alive", "registers again",
};
static const char *const events[] = { "Identify",     "PrepareBackup",	"PrepareSnapshot", "Freeze", "Thaw",
				      "PostSnapshot", "BackupComplete", "BackupShutdown",  "Abort" };

struct writer {
	DBusConnection *connection; /* NULL once it has vanished */
	struct dice *dice;
	char id[ID_SIZE], instance[ID_SIZE], name[32];
	enum manner manner;
	const char *event; /* in which it misbehaves */
	bool misbehaved, frozen;
	DBusMessage *late;
};

/* ---- calls ---- */

static void append_json(DBusMessageIter *array, const char *key, const char *text)
{
	DBusMessageIter entry, variant;

	dbus_message_iter_open_container(array, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
	dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, "s", &variant);
	dbus_message_iter_append_basic(&variant, DBUS_TYPE_STRING, &text);
	dbus_message_iter_close_container(&entry, &variant);
	dbus_message_iter_close_container(array, &entry);
}

static void send_registration(const struct writer *w)
{
	DBusMessage *call =
	    dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter");
	const char *path = VSS_WRITER_DEFAULT_PATH;
	DBusMessageIter it, array;

	dbus_message_iter_init_append(call, &it);
	dbus_message_iter_append_basic(&it, DBUS_TYPE_OBJECT_PATH, &path);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
	append_json(&array, "Id", w->id);
	append_json(&array, "Instance", w->instance);
	append_json(&array, "Name", w->name);
	append_json(&array, "Scope", "all-volumes");
	dbus_message_iter_close_container(&it, &array);
	dbus_connection_send(w->connection, call, NULL);
	dbus_message_unref(call);
}

static void keep_alive(struct writer *w, DBusMessage *call)
{
	const char *session = "";

	dbus_message_get_args(call, NULL, DBUS_TYPE_STRING, &session, DBUS_TYPE_INVALID);
	for (int i = 0; i < 20; i++) {
		DBusMessage *message =
		    dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "KeepAlive");
		DBusMessageIter it, array;
		dbus_message_iter_init_append(message, &it);
		dbus_message_iter_append_basic(&it, DBUS_TYPE_STRING, &session);
		dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
		dbus_message_iter_close_container(&it, &array);
		dbus_connection_send(w->connection, message, NULL);
		dbus_message_unref(message);
	}
}

/* ---- answers ---- */

static void send_and_forget(DBusConnection *connection, DBusMessage *message)
{
	dbus_connection_send(connection, message, NULL);
	dbus_message_unref(message);
}

static void append_number(DBusMessageIter *array, const char *key, int type, const char *signature, uint64_t number)
{
	DBusMessageIter entry, variant;

	dbus_message_iter_open_container(array, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
	dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, signature, &variant);
	dbus_message_iter_append_basic(&variant, type, &(DBusBasicValue){ .u64 = number });
	dbus_message_iter_close_container(&entry, &variant);
	dbus_message_iter_close_container(array, &entry);
}

static void answer_well(struct writer *w, DBusMessage *call, bool lies)
{
	DBusMessage *reply = dbus_message_new_method_return(call);
	DBusMessageIter it, array;

	dbus_message_iter_init_append(reply, &it);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
	if (strcmp(dbus_message_get_member(call), "Identify") == 0)
		append_json(&array, "Version", lies ? "\x7F" : "1");
	else if (lies)
		append_json(&array, "Sequence", "seven");
	else
		append_number(&array, "Sequence", DBUS_TYPE_UINT64, "t", 7);
	if (strcmp(dbus_message_get_member(call), "Identify") != 0)
		append_number(&array, "Unbroken", DBUS_TYPE_BOOLEAN, "b", !lies);
	dbus_message_iter_close_container(&it, &array);
	send_and_forget(w->connection, reply);
}

static DBusMessage *huge_answer(DBusMessage *call, bool list)
{
	DBusMessage *reply = dbus_message_new_method_return(call);
	DBusMessageIter it, array;

	dbus_message_iter_init_append(reply, &it);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, list ? "s" : "{sv}", &array);
	if (list) {
		for (int i = 0; i < 250000; i++)
			dbus_message_iter_append_basic(&array, DBUS_TYPE_STRING, &(const char *){ "" });
	} else {
		autofree char *text = calloc(1, 8 << 20);
		memset(text, 'x', (8 << 20) - 1);
		append_json(&array, "Message", text);
		append_json(&array, "Document", text);
	}
	dbus_message_iter_close_container(&it, &array);
	return reply;
}

static void answer_with_error(struct writer *w, DBusMessage *call, const char *name)
{
	DBusMessage *reply = dbus_message_new_error(call, name, NULL);

	append_random(w->dice, reply, random_signature(w->dice));
	send_and_forget(w->connection, reply);
}

static void answer_another(struct writer *w, DBusMessage *call)
{
	DBusMessage *reply = dbus_message_new_method_return(call);

	dbus_message_set_reply_serial(reply, dbus_message_get_serial(call) + 1);
	send_and_forget(w->connection, reply);
}

static void answer_other_types(struct writer *w, DBusMessage *call)
{
	DBusMessage *reply = dbus_message_new_method_return(call);

	append_random(w->dice, reply, random_signature(w->dice));
	send_and_forget(w->connection, reply);
}

static void misbehave(struct writer *w, DBusMessage *call)
{
	w->misbehaved = true;
	switch (w->manner) {
	case SILENT:
		return;
	case VANISHING:
		dbus_connection_close(w->connection);
		return;
	case WILD_ERROR:
		answer_with_error(w, call, "com.example.Wild");
		return;
	case KNOWN_ERROR:
		answer_with_error(w, call, VSS_ERROR_PREFIX "WriterRetryable");
		return;
	case OTHER_TYPES:
		answer_other_types(w, call);
		return;
	case HUGE_TEXT:
	case HUGE_LIST:
		send_and_forget(w->connection, huge_answer(call, w->manner == HUGE_LIST));
		return;
	case TWO_ANSWERS:
		answer_well(w, call, false);
		answer_well(w, call, false);
		return;
	case ANSWERS_ANOTHER:
		answer_another(w, call);
		return;
	case LATE:
		if (!w->late)
			w->late = dbus_message_ref(call);
		return;
	case LIES:
		answer_well(w, call, true);
		return;
	case KEEPS_ALIVE:
		keep_alive(w, call);
		return;
	case REGISTERS_AGAIN:
		send_registration(w);
		answer_well(w, call, false);
		return;
	case HONEST:
	case MANNERS:
		return;
	}
}

static DBusHandlerResult called(DBusConnection *connection, DBusMessage *message, void *data)
{
	struct writer *w = data;
	const char *member = dbus_message_get_member(message);

	if (!dbus_message_has_interface(message, VSS_IFACE_WRITER))
		return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
	w->frozen =
	    strcmp(member, "Freeze") == 0 || (w->frozen && strcmp(member, "Thaw") != 0 && strcmp(member, "Abort") != 0);
	if (w->manner != HONEST && strcmp(member, w->event) == 0)
		misbehave(w, message);
	else
		answer_well(w, message, false);
	return DBUS_HANDLER_RESULT_HANDLED;
}

/* ---- a set ---- */

static void writer_start(struct writer *w, struct dice *dice, const char *name, enum manner manner, const char *event)
{
	*w = (struct writer){ .dice = dice, .manner = manner, .event = event };
	snprintf(w->id, ID_SIZE, "00000000-0000-4000-8000-0000000000%02x", 0xA0 + manner);
	id_new(w->instance);
	snprintf(w->name, sizeof w->name, "%s", name);
	w->connection = connect_raw();
	dbus_connection_add_filter(w->connection, called, w, NULL);
	send_registration(w);
}

static void writer_turn(struct writer *w)
{
	if (!dbus_connection_get_is_connected(w->connection))
		w->frozen = false; /* its process is gone, and its freeze with it */
	dbus_connection_read_write(w->connection, 0);
	while (dbus_connection_dispatch(w->connection) == DBUS_DISPATCH_DATA_REMAINS)
		;
	if (w->late && w->misbehaved) {
		/* Answered when nobody waits for it any more. */
		static unsigned turns;
		if (++turns % 100 == 0) {
			answer_well(w, w->late, false);
			dbus_message_unref(steal_pointer(w->late));
		}
	}
}

static void writer_end(struct writer *w)
{
	if (w->late)
		dbus_message_unref(w->late);
	if (dbus_connection_get_is_connected(w->connection))
		dbus_connection_close(w->connection);
	dbus_connection_unref(w->connection);
}

struct set {
	struct bus *bus;
	struct writer honest, hostile;
	char *path; /* the session's */
	bool ended;
	unsigned finished;
};

static void turn(struct set *s)
{
	bus_dispatch(s->bus);
	writer_turn(&s->honest);
	writer_turn(&s->hostile);
	usleep(500);
}

static void set_finished(const char *path, const char *member, json_t *args, void *data)
{
	struct set *s = data;

	if (s->path && strcmp(path, s->path) == 0 && strcmp(member, "Finished") == 0)
		s->finished++;
}

static void answered(const struct bus_reply *reply, void *data)
{
	*(int *)data = reply->error ? -1 : 1;
}

static void session_made(const struct bus_reply *reply, void *data)
{
	const char *path = json_string_value(json_array_get(reply->args, 0));

	*(char **)data = !reply->error && path ? strdup(path) : NULL;
}

/* Calls and turns until the answer is there. */
static int call(struct set *s, const char *method, const char *signature, json_t *args)
{
	uint64_t end = clock_now() + SET_PATIENCE;
	int result = 0;

	if (bus_call(s->bus, VSS_BUS_NAME, s->path, VSS_IFACE_SESSION, method, signature, args, NULL, 0, end, answered,
		     &result, NULL, NULL) < 0)
		return -1;
	while (!result)
		turn(s);
	return result;
}

static void wait_finished(struct set *s, unsigned n)
{
	uint64_t end = clock_now() + SET_PATIENCE;

	while (s->finished < n && clock_now() < end)
		turn(s);
}

static bool open_session(struct set *s)
{
	uint64_t end = clock_now() + SET_PATIENCE;

	bus_call(s->bus, VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "CreateSession", "a{sv}",
		 json_pack("[{}]"), NULL, 0, end, session_made, &s->path, NULL, NULL);
	while (!s->path && clock_now() < end)
		turn(s);
	return s->path;
}

/* In the midst: called in the wrong order, left, or waited for. */
static void go_through(struct set *s, struct dice *dice)
{
	static const char *const wrong[] = { "PrepareForBackup", "BackupComplete", "GatherWriterMetadata",
					     "DoSnapshotSet" };
	uint64_t leave = clock_now() + dice_roll(dice, 300) * USEC_PER_MSEC;

	call(s, "AddToSnapshotSet", "va{sv}", json_pack("[s{}]", "/data"));
	if (call(s, "DoSnapshotSet", "a{sv}", json_pack("[{}]")) < 0)
		return;
	call(s, wrong[dice_roll(dice, ARRAY_SIZE(wrong))], "a{sv}", json_pack("[{}]"));
	if (dice_one_in(dice, 4)) {
		while (clock_now() < leave && s->finished == 0)
			turn(s);
		if (dice_one_in(dice, 2))
			call(s, "Abort", "a{sv}", json_pack("[{}]"));
		return;
	}
	wait_finished(s, 1);
	if (call(s, "BackupComplete", "a{sv}", json_pack("[{}]")) > 0)
		wait_finished(s, 2);
	if (dice_one_in(dice, 2))
		call(s, "Close", "a{sv}", json_pack("[{}]"));
}

/* The session is over when it is listed no more; then nobody may be frozen. */
static void wait_until_gone(struct set *s)
{
	uint64_t end = clock_now() + SET_PATIENCE;
	int gone = 0;

	while (gone >= 0 && clock_now() < end) {
		gone = 0;
		bus_call(s->bus, VSS_BUS_NAME, s->path, "org.freedesktop.DBus.Properties", "Get", "ss",
			 json_pack("[ss]", VSS_IFACE_SESSION, "State"), NULL, 0, end, answered, &gone, NULL, NULL);
		while (!gone && clock_now() < end)
			turn(s);
	}
	for (int i = 0; i < 20; i++)
		turn(s);
}

static bool one_set(struct dice *dice, enum manner manner, const char *event)
{
	struct set s = { 0 };
	struct bus *watcher = NULL;
	bool well;

	if (bus_open(&s.bus, NULL, NULL) < 0 || bus_open(&watcher, NULL, NULL) < 0)
		return false;
	bus_watch_signals(s.bus, VSS_BUS_NAME, VSS_SESSION_PATH, VSS_IFACE_SESSION, set_finished, &s);
	writer_start(&s.honest, dice, "Honest", HONEST, "");
	writer_start(&s.hostile, dice, "Hostile", manner, event);
	for (int i = 0; i < 10; i++)
		turn(&s);
	if (open_session(&s))
		go_through(&s, dice);
	bus_free(s.bus); /* the requestor leaves */
	s.bus = watcher;
	if (s.path)
		wait_until_gone(&s);
	well = s.path && !s.honest.frozen && !s.hostile.frozen;
	if (!well)
		fprintf(stderr, "writer \"%s\" in %s: %s\n", manner_names[manner], event,
			!s.path		  ? "no session"
			: s.honest.frozen ? "the honest writer is left frozen"
					  : "it is left frozen");
	writer_end(&s.honest);
	writer_end(&s.hostile);
	bus_free(s.bus);
	free(s.path);
	return well;
}

bool attack_with_answers(void *data)
{
	struct attack *a = data;
	unsigned first = dice_roll(&a->dice, (MANNERS - 1) * ARRAY_SIZE(events));

	/* Each way in each event, from a place that the seed chooses; size says how many. 37 is prime to their number.
	 */
	for (unsigned i = 0; i < a->size; i++) {
		unsigned n = (first + i * 37) % ((MANNERS - 1) * (unsigned)ARRAY_SIZE(events));
		if (!one_set(&a->dice, (enum manner)(n / ARRAY_SIZE(events) + 1), events[n % ARRAY_SIZE(events)]))
			return false;
	}
	return true;
}
