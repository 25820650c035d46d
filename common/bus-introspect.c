/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Introspection XML, made from the tables of the exported objects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bus-internal.h"
#include "common/cleanup.h"

static const char *next_word(const char **words, char *word, size_t size)
{
	size_t n = strcspn(*words, " ");

	snprintf(word, size, "%.*s", (int)n, *words);
	*words += n;
	*words += strspn(*words, " ");
	return word;
}

static void write_args(FILE *out, const char *signature, const char *names, const char *direction)
{
	DBusSignatureIter sig;
	char word[64];

	if (!signature || !*signature)
		return;
	names = names ? names : "";
	dbus_signature_iter_init(&sig, signature);
	do {
		char *type = dbus_signature_iter_get_signature(&sig);
		fprintf(out, "      <arg name=\"%s\" type=\"%s\"%s%s%s/>\n", next_word(&names, word, sizeof word), type,
			direction ? " direction=\"" : "", direction ? direction : "", direction ? "\"" : "");
		dbus_free(type);
	} while (dbus_signature_iter_next(&sig));
}

static void write_interface(FILE *out, const struct bus_interface *interface)
{
	fprintf(out, "  <interface name=\"%s\">\n", interface->name);
	for (const struct bus_method *m = interface->methods; m && m->name; m++) {
		fprintf(out, "    <method name=\"%s\">\n", m->name);
		write_args(out, m->in, m->in_names, "in");
		write_args(out, m->out, m->out_names, "out");
		fprintf(out, "    </method>\n");
	}
	for (const struct bus_signal *s = interface->signals; s && s->name; s++) {
		fprintf(out, "    <signal name=\"%s\">\n", s->name);
		write_args(out, s->signature, s->arg_names, NULL);
		fprintf(out, "    </signal>\n");
	}
	for (const struct bus_property *p = interface->properties; p && p->name; p++) {
		fprintf(out, "    <property name=\"%s\" type=\"%s\" access=\"read\"%s>\n", p->name, p->signature,
			p->silent ? "" : "/");
		if (p->silent)
			fprintf(out, "      <annotation name=\"org.freedesktop.DBus.Property.EmitsChangedSignal\" "
				     "value=\"false\"/>\n    </property>\n");
	}
	fprintf(out, "  </interface>\n");
}

char *bus_interface_xml(const struct bus_interface *interface)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	write_interface(out, interface);
	fclose(out);
	return text;
}

static const char standard_interfaces[] =
	"  <interface name=\"org.freedesktop.DBus.Introspectable\">\n"
	"    <method name=\"Introspect\"><arg name=\"xml\" type=\"s\" direction=\"out\"/></method>\n"
	"  </interface>\n"
	"  <interface name=\"org.freedesktop.DBus.Properties\">\n"
	"    <method name=\"Get\"><arg name=\"interface\" type=\"s\" direction=\"in\"/>"
	"<arg name=\"property\" type=\"s\" direction=\"in\"/><arg name=\"value\" type=\"v\" direction=\"out\"/></method>\n"
	"    <method name=\"GetAll\"><arg name=\"interface\" type=\"s\" direction=\"in\"/>"
	"<arg name=\"properties\" type=\"a{sv}\" direction=\"out\"/></method>\n"
	"    <signal name=\"PropertiesChanged\"><arg name=\"interface\" type=\"s\"/><arg name=\"changed\" type=\"a{sv}\"/>"
	"<arg name=\"invalidated\" type=\"as\"/></signal>\n"
	"  </interface>\n";

static const char manager_interface[] =
	"  <interface name=\"" BUS_INTERFACE_OBJECT_MANAGER "\">\n"
	"    <method name=\"GetManagedObjects\"><arg name=\"objects\" type=\"a{oa{sa{sv}}}\" direction=\"out\"/></method>\n"
	"    <signal name=\"InterfacesAdded\"><arg name=\"path\" type=\"o\"/>"
	"<arg name=\"interfaces\" type=\"a{sa{sv}}\"/></signal>\n"
	"    <signal name=\"InterfacesRemoved\"><arg name=\"path\" type=\"o\"/><arg name=\"interfaces\" type=\"as\"/></signal>\n"
	"  </interface>\n";

static void write_children(FILE *out, struct bus *bus, const char *path)
{
	char **children = NULL;

	if (!dbus_connection_list_registered(bus->connection, path, &children))
		return;
	for (char **child = children; *child; child++)
		fprintf(out, "  <node name=\"%s\"/>\n", *child);
	dbus_free_string_array(children);
}

/* For exported objects; libdbus itself answers for the paths that lead to them. */
void bus_introspect(struct bus *bus, DBusMessage *message, const struct bus_interface *const *interfaces)
{
	autofree char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return;
	fputs(DBUS_INTROSPECT_1_0_XML_DOCTYPE_DECL_NODE "<node>\n", out);
	fputs(standard_interfaces, out);
	if (bus_is_manager(bus, dbus_message_get_path(message)))
		fputs(manager_interface, out);
	for (const struct bus_interface *const *i = interfaces; i && *i; i++)
		write_interface(out, *i);
	write_children(out, bus, dbus_message_get_path(message));
	fputs("</node>\n", out);
	fclose(out);
	bus_reply_values(bus, message, "s", json_pack("[s]", text));
}
