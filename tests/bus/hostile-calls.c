/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of every method of every object that vssd has, with arguments that fit and that do not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "hostile.h"

#define METHODS_MAX 256
#define OBJECTS_MAX 128
#define REFRESH_AFTER 150 /* calls: sessions come and go */

struct method {
	char path[128], interface[80], name[64], signature[64];
};

struct target {
	struct bus *bus;
	DBusConnection *connection;
	struct method methods[METHODS_MAX];
	size_t n;
};

/* The value of an attribute in [text, end); "" without it. */
static void read_attribute(const char *text, const char *end, const char *name, char *value, size_t size)
{
	const char *found = strstr(text, name);
	size_t n;

	*value = '\0';
	if (!found || found >= end)
		return;
	found += strlen(name);
	n = strcspn(found, "\"");
	snprintf(value, size, "%.*s", (int)n, found);
}

static void read_method(struct target *t, const char *path, const char *interface, const char *text, const char *end)
{
	struct method *m = &t->methods[t->n];

	if (t->n == METHODS_MAX)
		return;
	t->n++;
	snprintf(m->path, sizeof m->path, "%s", path);
	snprintf(m->interface, sizeof m->interface, "%s", interface);
	read_attribute(text, end, "name=\"", m->name, sizeof m->name);
	m->signature[0] = '\0';
	for (const char *arg = text; (arg = strstr(arg, "<arg ")) && arg < end; arg++) {
		const char *close = strchr(arg, '>');
		char type[32];
		read_attribute(arg, close, "type=\"", type, sizeof type);
		if (strstr(arg, "direction=\"in\"") && strstr(arg, "direction=\"in\"") < close)
			snprintf(m->signature + strlen(m->signature), sizeof m->signature - strlen(m->signature), "%s",
				 type);
	}
}

static void read_object(struct target *t, const char *path)
{
	autojson json_t *xml =
	    victim_call(t->bus, path, "org.freedesktop.DBus.Introspectable", "Introspect", "", json_array(), NULL);
	const char *text = json_string_value(xml);
	char interface[80] = "";

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += strspn(line, "\n ");
		const char *end = strchr(line, '>');
		if (strncmp(line, "<interface ", 11) == 0)
			read_attribute(line, end, "name=\"", interface, sizeof interface);
		const char *method_end = strncmp(line, "<method ", 8) == 0 ? strstr(line, "</method>") : NULL;
		if (method_end)
			read_method(t, path, interface, line, method_end);
	}
}

static void read_objects(struct target *t)
{
	autojson json_t *objects = victim_call(t->bus, VSS_ROOT_PATH, "org.freedesktop.DBus.ObjectManager",
					       "GetManagedObjects", "", json_array(), NULL);
	const char *path;
	json_t *unused;
	size_t n = 0;

	t->n = 0;
	read_object(t, VSS_ROOT_PATH);
	json_object_foreach (objects, path, unused)
		if (n++ < OBJECTS_MAX)
			read_object(t, path);
}

static void call_something(struct target *t, struct dice *dice)
{
	static const char *const nowhere[] = { "/", "/org", "/org/vssd/session", "/org/vssd/writer/x",
					       "/org/vssd/shadow" };
	const struct method *m = &t->methods[dice_roll(dice, (uint32_t)t->n)];
	bool lost = dice_one_in(dice, 40), blind = dice_one_in(dice, 20);
	DBusMessage *message =
	    dbus_message_new_method_call(VSS_BUS_NAME, lost ? nowhere[dice_roll(dice, ARRAY_SIZE(nowhere))] : m->path,
					 blind ? NULL : m->interface, m->name);

	append_random(dice, message, dice_one_in(dice, 5) ? random_signature(dice) : m->signature);
	dbus_message_set_no_reply(message, dice_one_in(dice, 4));
	dbus_connection_send(t->connection, message, NULL);
	dbus_message_unref(message);
}

static void read_answers(DBusConnection *connection, int timeout)
{
	DBusMessage *message;

	dbus_connection_read_write(connection, timeout);
	while ((message = dbus_connection_pop_message(connection)))
		dbus_message_unref(message);
}

bool attack_with_calls(void *data)
{
	struct attack *a = data;
	struct target t = { 0 };

	if (bus_open(&t.bus, NULL, NULL) < 0)
		return false;
	t.connection = connect_raw();
	for (unsigned i = 0; i < a->size; i++) {
		if (i % REFRESH_AFTER == 0)
			read_objects(&t);
		if (t.n == 0)
			return false;
		call_something(&t, &a->dice);
		if (dice_one_in(&a->dice, 8))
			read_answers(t.connection, 0);
		if (!dbus_connection_get_is_connected(t.connection) || dice_one_in(&a->dice, 400)) {
			disconnect_raw(t.connection);
			t.connection = connect_raw();
		}
	}
	/* What is on its way arrives; whether it is answered is looked at no more. */
	dbus_connection_flush(t.connection);
	read_answers(t.connection, 200);
	disconnect_raw(t.connection);
	bus_free(t.bus);
	return true;
}
