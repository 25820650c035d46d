/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exported objects: methods, properties and signals by tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bus-internal.h"
#include "common/bus-value.h"
#include "common/cleanup.h"

#define OBJECT_CHANGES_MAX 32

struct bus_object {
	struct bus *bus;
	struct bus_object *prev, *next;
	char *path;
	const struct bus_interface *const *interfaces;
	void *object;

	struct bus_object *next_changed;
	bool is_changed;
	const struct bus_property *changes[OBJECT_CHANGES_MAX];
	size_t n_changes;
};

struct bus_call {
	struct bus *bus;
	struct bus_call *prev, *next;
	DBusMessage *message;
	const char *out;
	json_t *args;
	int fds[BUS_VALUE_FDS_MAX];
	size_t n_fds;
};

/* ---- incoming calls ---- */

const char *bus_call_sender(const struct bus_call *call)
{
	const char *sender = dbus_message_get_sender(call->message);

	return sender ? sender : "";
}

const char *bus_call_path(const struct bus_call *call)
{
	return dbus_message_get_path(call->message);
}

struct bus *bus_call_bus(const struct bus_call *call)
{
	return call->bus;
}

json_t *bus_call_args(const struct bus_call *call)
{
	return call->args;
}

int bus_call_take_fd(struct bus_call *call, json_int_t index)
{
	if (index < 0 || (size_t)index >= call->n_fds)
		return -1;
	return steal_fd(call->fds[index]);
}

size_t bus_calls_kept(const struct bus *bus)
{
	size_t n = 0;

	for (const struct bus_call *call = bus->calls; call; call = call->next)
		n++;
	return n;
}

uint64_t bus_calls_received(const struct bus *bus)
{
	return bus->n_received;
}

static void call_free(struct bus_call *call)
{
	if (call->prev)
		call->prev->next = call->next;
	else
		call->bus->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	for (size_t i = 0; i < call->n_fds; i++)
		if (call->fds[i] >= 0)
			close(call->fds[i]);
	json_decref(call->args);
	dbus_message_unref(call->message);
	free(call);
}

static void send_error(struct bus *bus, DBusMessage *to, const char *name, const char *text)
{
	DBusMessage *reply;

	if (dbus_message_get_no_reply(to))
		return;
	reply = dbus_message_new_error(to, name, text);
	if (!reply)
		return;
	bus_send(bus, reply);
	dbus_message_unref(reply);
}

void bus_call_error(struct bus_call *call, const struct err *err)
{
	char text[sizeof err->text + 32];
	const char *valid = dbus_validate_utf8(err->text, NULL) ? err->text : error_text(err->code);

	snprintf(text, sizeof text, "%s (0x%08x)", valid, error_code(err->code));
	send_error(call->bus, call->message, error_dbus_name(err->code), text);
	call_free(call);
}

void bus_call_reply_fds(struct bus_call *call, json_t *args, const int *fds, size_t n_fds)
{
	autojson json_t *owned = args;
	struct err err = { 0 };
	DBusMessage *reply;

	if (dbus_message_get_no_reply(call->message)) {
		call_free(call);
		return;
	}
	reply = dbus_message_new_method_return(call->message);
	if (reply && bus_value_append(reply, call->out, owned, fds, n_fds, &err) == 0)
		bus_send(call->bus, reply);
	else
		send_error(call->bus, call->message, error_dbus_name(VSS_E_UNEXPECTED),
			   *err.text ? err.text : "Out of memory for the answer");
	if (reply)
		dbus_message_unref(reply);
	call_free(call);
}

void bus_call_reply(struct bus_call *call, json_t *args)
{
	bus_call_reply_fds(call, args, NULL, 0);
}

void bus_incoming_free(struct bus *bus)
{
	struct err err = { 0 };

	err_set(&err, VSS_E_CANCELLED, "The service is ending");
	while (bus->calls)
		bus_call_error(bus->calls, &err);
}

/* What an answer needs. The message itself goes: libdbus reads no more while many or large ones are kept, and then nobody's
 * calls, nor the answers that those wait for, would arrive. */
static DBusMessage *header_of(DBusMessage *message)
{
	DBusMessage *header = dbus_message_new_method_call(NULL, dbus_message_get_path(message),
							   dbus_message_get_interface(message),
							   dbus_message_get_member(message));

	if (!header)
		return NULL;
	dbus_message_set_serial(header, dbus_message_get_serial(message));
	dbus_message_set_no_reply(header, dbus_message_get_no_reply(message));
	if (dbus_message_set_sender(header, dbus_message_get_sender(message)))
		return header;
	dbus_message_unref(header);
	return NULL;
}

static int check_room(const struct bus *bus, DBusMessage *message, struct err *err)
{
	const char *sender = dbus_message_get_sender(message);
	size_t n = 0;

	/* The bus counts calls that want no answer for nobody. */
	for (const struct bus_call *call = bus->calls; call; call = call->next)
		n += sender && strcmp(bus_call_sender(call), sender) == 0;
	if (n < BUS_CALLS_PER_SENDER)
		return 0;
	return err_set(err, VSS_E_LIMITS_EXCEEDED, "%zu calls of this connection are waiting for their answer already", n);
}

static struct bus_call *call_new(struct bus *bus, DBusMessage *message, const char *out, struct err *err)
{
	struct bus_call *call;

	if (check_room(bus, message, err) < 0)
		return NULL;
	call = calloc(1, sizeof *call);
	if (!call) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the call");
		return NULL;
	}
	if (bus_value_read(message, &call->args, call->fds, &call->n_fds, err) < 0) {
		free(call);
		return NULL;
	}
	call->bus = bus;
	call->message = header_of(message);
	if (!call->message)
		call->message = dbus_message_ref(message);
	call->out = out;
	bus->n_received++;
	call->next = bus->calls;
	if (call->next)
		call->next->prev = call;
	bus->calls = call;
	return call;
}

/* ---- properties ---- */

static const struct bus_interface *find_interface(const struct bus_object *o, const char *name)
{
	for (const struct bus_interface *const *i = o->interfaces; i && *i; i++)
		if (strcmp((*i)->name, name) == 0)
			return *i;
	return NULL;
}

static json_t *interface_properties(const struct bus_object *o, const struct bus_interface *interface)
{
	json_t *all = json_object();

	for (const struct bus_property *p = interface->properties; p && p->name; p++)
		json_object_set_new(all, p->name, p->get(o->object));
	return all;
}

/* {interface: {property: value}}, as ObjectManager sends it. */
static json_t *object_properties(const struct bus_object *o)
{
	json_t *all = json_object();

	for (const struct bus_interface *const *i = o->interfaces; i && *i; i++)
		json_object_set_new(all, (*i)->name, interface_properties(o, *i));
	return all;
}

void bus_reply_values(struct bus *bus, DBusMessage *to, const char *signature, json_t *args)
{
	autojson json_t *owned = args;
	struct err err = { 0 };
	DBusMessage *reply;

	if (dbus_message_get_no_reply(to))
		return;
	reply = dbus_message_new_method_return(to);

	if (reply && bus_value_append(reply, signature, owned, NULL, 0, &err) == 0)
		bus_send(bus, reply);
	else
		send_error(bus, to, error_dbus_name(VSS_E_UNEXPECTED), *err.text ? err.text : "Out of memory");
	if (reply)
		dbus_message_unref(reply);
}

static DBusHandlerResult handle_properties(struct bus *bus, struct bus_object *o, DBusMessage *message)
{
	const char *interface_name, *name, *member = dbus_message_get_member(message);
	const struct bus_interface *interface;

	if (strcmp(member, "Set") == 0) {
		send_error(bus, message, DBUS_ERROR_PROPERTY_READ_ONLY, "The properties of vssd are read-only");
		return DBUS_HANDLER_RESULT_HANDLED;
	}
	if (strcmp(member, "GetAll") == 0 &&
	    dbus_message_get_args(message, NULL, DBUS_TYPE_STRING, &interface_name, DBUS_TYPE_INVALID)) {
		interface = find_interface(o, interface_name);
		bus_reply_values(bus, message, "a{sv}",
			    json_pack("[o]", interface ? interface_properties(o, interface) : json_object()));
		return DBUS_HANDLER_RESULT_HANDLED;
	}
	if (strcmp(member, "Get") != 0 || !dbus_message_get_args(message, NULL, DBUS_TYPE_STRING, &interface_name,
								  DBUS_TYPE_STRING, &name, DBUS_TYPE_INVALID)) {
		send_error(bus, message, DBUS_ERROR_INVALID_ARGS, "Get takes an interface and a property");
		return DBUS_HANDLER_RESULT_HANDLED;
	}
	interface = find_interface(o, interface_name);
	for (const struct bus_property *p = interface ? interface->properties : NULL; p && p->name; p++) {
		if (strcmp(p->name, name) != 0)
			continue;
		bus_reply_values(bus, message, "v", json_pack("[o]", p->get(o->object)));
		return DBUS_HANDLER_RESULT_HANDLED;
	}
	send_error(bus, message, DBUS_ERROR_UNKNOWN_PROPERTY, "There is no such property");
	return DBUS_HANDLER_RESULT_HANDLED;
}

/* ---- object manager ---- */

bool bus_is_manager(const struct bus *bus, const char *path)
{
	return bus->manager_path && strcmp(bus->manager_path, path) == 0;
}

static bool is_below(const char *path, const char *parent)
{
	size_t n = strlen(parent);

	return strncmp(path, parent, n) == 0 && path[n] == '/';
}

static void handle_managed_objects(struct bus *bus, DBusMessage *message)
{
	json_t *objects = json_object();

	for (struct bus_object *o = bus->objects; o; o = o->next)
		if (is_below(o->path, bus->manager_path))
			json_object_set_new(objects, o->path, object_properties(o));
	bus_reply_values(bus, message, "a{oa{sa{sv}}}", json_pack("[o]", objects));
}

static void announce(struct bus_object *o, bool added)
{
	json_t *what;

	if (!o->bus->manager_path || !is_below(o->path, o->bus->manager_path))
		return;
	if (added) {
		what = object_properties(o);
	} else {
		what = json_array();
		for (const struct bus_interface *const *i = o->interfaces; i && *i; i++)
			json_array_append_new(what, json_string((*i)->name));
	}
	bus_emit(o->bus, o->bus->manager_path, BUS_INTERFACE_OBJECT_MANAGER, added ? "InterfacesAdded" : "InterfacesRemoved",
		 added ? "oa{sa{sv}}" : "oas", json_pack("[so]", o->path, what));
}

/* ---- methods ---- */

static const struct bus_method *find_method(const struct bus_object *o, const char *interface, const char *name)
{
	for (const struct bus_interface *const *i = o->interfaces; i && *i; i++) {
		if (interface && strcmp((*i)->name, interface) != 0)
			continue;
		for (const struct bus_method *m = (*i)->methods; m && m->name; m++)
			if (strcmp(m->name, name) == 0)
				return m;
	}
	return NULL;
}

static void handle_method(struct bus *bus, struct bus_object *o, DBusMessage *message)
{
	const char *name = dbus_message_get_member(message), *interface = dbus_message_get_interface(message);
	const struct bus_method *method = find_method(o, interface, name);
	struct err err = { 0 };
	char text[512];

	if (!method) {
		snprintf(text, sizeof text, "%s has no method %s%s%s", o->path, interface ? interface : "",
			 interface ? "." : "", name);
		send_error(bus, message, DBUS_ERROR_UNKNOWN_METHOD, text);
		return;
	}
	if (!dbus_message_has_signature(message, method->in)) {
		snprintf(text, sizeof text, "%s takes arguments of the types \"%s\", not \"%s\"", name, method->in,
			 dbus_message_get_signature(message));
		send_error(bus, message, DBUS_ERROR_INVALID_ARGS, text);
		return;
	}
	struct bus_call *call = call_new(bus, message, method->out, &err);
	if (!call) {
		send_error(bus, message, error_dbus_name(err.code), err.text);
		return;
	}
	method->fn(call, o->object);
}

static bool only_reads(const char *interface)
{
	return interface && (strcmp(interface, DBUS_INTERFACE_PROPERTIES) == 0 ||
			     strcmp(interface, DBUS_INTERFACE_INTROSPECTABLE) == 0 ||
			     strcmp(interface, BUS_INTERFACE_OBJECT_MANAGER) == 0);
}

DBusHandlerResult bus_object_message(struct bus *bus, struct bus_object *o, DBusMessage *message)
{
	const char *interface = dbus_message_get_interface(message), *member = dbus_message_get_member(message);

	if (dbus_message_get_type(message) != DBUS_MESSAGE_TYPE_METHOD_CALL)
		return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
	/* Many of these can be sent at no cost, and each costs us as much as the objects that there are. */
	if (only_reads(interface) && dbus_message_get_no_reply(message))
		return DBUS_HANDLER_RESULT_HANDLED;
	if (interface && strcmp(interface, DBUS_INTERFACE_PROPERTIES) == 0)
		return handle_properties(bus, o, message);
	if (interface && strcmp(interface, DBUS_INTERFACE_INTROSPECTABLE) == 0 && strcmp(member, "Introspect") == 0)
		bus_introspect(bus, message, o->interfaces);
	else if (interface && strcmp(interface, BUS_INTERFACE_OBJECT_MANAGER) == 0 && bus_is_manager(bus, o->path) &&
		 strcmp(member, "GetManagedObjects") == 0)
		handle_managed_objects(bus, message);
	else
		handle_method(bus, o, message);
	return DBUS_HANDLER_RESULT_HANDLED;
}

static DBusHandlerResult object_message(DBusConnection *connection, DBusMessage *message, void *data)
{
	struct bus_object *o = data;

	return bus_object_message(o->bus, o, message);
}

/* ---- exporting ---- */

static struct bus_object *find_object(struct bus *bus, const char *path)
{
	void *object = NULL;

	return dbus_connection_get_object_path_data(bus->connection, path, &object) ? object : NULL;
}

int bus_export(struct bus *bus, const char *path, const struct bus_interface *const *interfaces, void *object,
	       struct err *err)
{
	static const DBusObjectPathVTable vtable = { .message_function = object_message };
	struct bus_object *o = calloc(1, sizeof *o);

	if (!o || !(o->path = strdup(path)) ||
	    !dbus_connection_try_register_object_path(bus->connection, path, &vtable, o, NULL)) {
		if (o)
			free(o->path);
		free(o);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "The object %s cannot be exported", path);
	}
	o->bus = bus;
	o->interfaces = interfaces;
	o->object = object;
	o->next = bus->objects;
	if (o->next)
		o->next->prev = o;
	bus->objects = o;
	announce(o, true);
	return 0;
}

static void object_free(struct bus_object *o)
{
	struct bus *bus = o->bus;

	for (struct bus_object **link = &bus->changed; o->is_changed && *link; link = &(*link)->next_changed) {
		if (*link == o) {
			*link = o->next_changed;
			break;
		}
	}
	if (o->prev)
		o->prev->next = o->next;
	else
		bus->objects = o->next;
	if (o->next)
		o->next->prev = o->prev;
	dbus_connection_unregister_object_path(bus->connection, o->path);
	free(o->path);
	free(o);
}

void bus_unexport(struct bus *bus, const char *path)
{
	struct bus_object *o = find_object(bus, path);

	if (!o)
		return;
	announce(o, false);
	object_free(o);
}

void bus_objects_free(struct bus *bus)
{
	while (bus->objects)
		object_free(bus->objects);
}

int bus_export_manager(struct bus *bus, const char *path, struct err *err)
{
	bus->manager_path = strdup(path);
	return bus->manager_path ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the object manager");
}

/* ---- signals ---- */

void bus_emit(struct bus *bus, const char *path, const char *interface, const char *signal, const char *signature,
	      json_t *args)
{
	autojson json_t *owned = args;
	DBusMessage *message = dbus_message_new_signal(path, interface, signal);

	if (!message)
		return;
	if (bus_value_append(message, signature, owned, NULL, 0, NULL) == 0)
		bus_send(bus, message);
	dbus_message_unref(message);
}

void bus_changed(struct bus *bus, const char *path, const char *interface_name, const char *property)
{
	struct bus_object *o = find_object(bus, path);
	const struct bus_interface *interface = o ? find_interface(o, interface_name) : NULL;
	const struct bus_property *p = interface ? interface->properties : NULL;

	while (p && p->name && strcmp(p->name, property) != 0)
		p++;
	if (!p || !p->name || p->silent)
		return;
	for (size_t i = 0; i < o->n_changes; i++)
		if (o->changes[i] == p)
			return;
	if (o->n_changes < OBJECT_CHANGES_MAX)
		o->changes[o->n_changes++] = p;
	if (o->is_changed)
		return;
	o->is_changed = true;
	o->next_changed = bus->changed;
	bus->changed = o;
	if (!bus->dispatching)
		bus_kick(bus);
}

static bool has_property(const struct bus_interface *interface, const struct bus_property *property)
{
	for (const struct bus_property *p = interface->properties; p && p->name; p++)
		if (p == property)
			return true;
	return false;
}

static void flush_interface(struct bus_object *o, const struct bus_interface *interface)
{
	json_t *changed = json_object();

	for (size_t i = 0; i < o->n_changes; i++)
		if (has_property(interface, o->changes[i]))
			json_object_set_new(changed, o->changes[i]->name, o->changes[i]->get(o->object));
	if (json_object_size(changed) == 0) {
		json_decref(changed);
		return;
	}
	bus_emit(o->bus, o->path, DBUS_INTERFACE_PROPERTIES, "PropertiesChanged", "sa{sv}as",
		 json_pack("[so[]]", interface->name, changed));
}

void bus_objects_flush(struct bus *bus)
{
	while (bus->changed) {
		struct bus_object *o = bus->changed;
		bus->changed = o->next_changed;
		o->is_changed = false;
		for (const struct bus_interface *const *i = o->interfaces; i && *i; i++)
			flush_interface(o, *i);
		o->n_changes = 0;
	}
}
