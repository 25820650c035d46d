/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requestors that open too much, leave too early, read nothing, or reach for others' sessions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "hostile.h"
#include "requestor/vssrequestor.h"

#define SESSIONS_MAX 64
#define CONNECTIONS 7

static struct bus *open_bus(void)
{
	struct bus *bus = NULL;

	return bus_open(&bus, NULL, NULL) < 0 ? NULL : bus;
}

static json_t *create_session(struct bus *bus, struct err *err)
{
	return victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "CreateSession", "a{sv}", json_pack("[{}]"), err);
}

static enum vss_error session_call(struct bus *bus, const char *path, const char *method)
{
	struct err err = { 0 };
	bool detach = strcmp(method, "Detach") == 0;

	json_decref(victim_call(bus, path, VSS_IFACE_SESSION, method, detach ? "ua{sv}" : "a{sv}",
				detach ? json_pack("[i{}]", 1) : json_pack("[{}]"), &err));
	return err.code;
}

bool attack_with_sessions(void *data)
{
	static const char *const methods[] = {
		"GatherWriterMetadata", "PrepareForBackup", "DoSnapshotSet", "GatherWriterStatus",
		"BackupComplete",	"Detach",	    "Abort",	     "Close"
	};
	struct attack *a = data;
	struct bus *buses[CONNECTIONS];
	struct err err = { 0 };
	int n = 0;

	for (size_t i = 0; i < CONNECTIONS; i++)
		buses[i] = open_bus();
	for (; n <= SESSIONS_MAX && !err.code; n++) {
		struct bus *bus = buses[n % CONNECTIONS];
		autojson json_t *path = create_session(bus, &err);
		for (unsigned i = 0; path && i < a->size; i++)
			session_call(bus, json_string_value(path),
				     methods[dice_roll(&a->dice, ARRAY_SIZE(methods) - (n % 4 ? 2 : 0))]);
		if (path && dice_one_in(&a->dice, 3))
			json_decref(victim_call(bus, json_string_value(path), VSS_IFACE_SESSION, "AddToSnapshotSet",
						"va{sv}", json_pack("[s{}]", "/data"), NULL));
	}
	for (size_t i = 0; i < CONNECTIONS; i++)
		bus_free(buses[i]);
	return err.code == VSS_OK || err.code == VSS_E_LIMITS_EXCEEDED;
}

bool attack_by_leaving(void *data)
{
	static const char *const methods[] = { "CreateSession", "RegisterWriter", "ListShadows", "ProbeWriters",
					       "ListVolumes" };
	struct attack *a = data;

	for (unsigned i = 0; i < a->size; i++) {
		DBusConnection *connection = connect_raw();
		for (uint32_t n = dice_roll(&a->dice, 3) + 1; n > 0; n--) {
			const char *method = methods[dice_roll(&a->dice, ARRAY_SIZE(methods))];
			DBusMessage *message =
			    dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, method);
			bool registers = strcmp(method, "RegisterWriter") == 0;
			append_random(&a->dice, message, registers ? "oa{sv}" : "");
			if (!registers) {
				DBusMessageIter it, array;
				dbus_message_iter_init_append(message, &it);
				dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
				dbus_message_iter_close_container(&it, &array);
			}
			dbus_message_set_no_reply(message, dice_one_in(&a->dice, 2));
			dbus_connection_send(connection, message, NULL);
			dbus_message_unref(message);
		}
		dbus_connection_flush(connection);
		disconnect_raw(connection);
	}
	return true;
}

static void send_often(DBusConnection *connection, const char *interface, const char *method, bool options, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		DBusMessage *message = dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, interface, method);
		DBusMessageIter it, array;
		if (options) {
			dbus_message_iter_init_append(message, &it);
			dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
			dbus_message_iter_close_container(&it, &array);
		}
		dbus_connection_send(connection, message, NULL);
		dbus_message_unref(message);
	}
}

bool attack_with_deafness(void *data)
{
	struct attack *a = data;
	DBusConnection *connection = connect_raw();

	send_often(connection, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", false, a->size);
	send_often(connection, VSS_IFACE_COORDINATOR, "ListWriters", true, a->size);
	send_often(connection, VSS_IFACE_COORDINATOR, "ListShadows", true, a->size);
	dbus_connection_flush(connection);
	usleep(200000);
	disconnect_raw(connection);
	return true;
}

/* ---- probes ---- */

static size_t identified;

static DBusHandlerResult probed(DBusConnection *connection, DBusMessage *message, void *data)
{
	identified += dbus_message_is_method_call(message, VSS_IFACE_WRITER, "Identify");
	return DBUS_HANDLER_RESULT_HANDLED;
}

static void register_silent(DBusConnection *connection)
{
	struct bus_text {
		const char *key, *value;
	} texts[] = { { "Id", "44444444-4444-4444-8444-444444444444" },
		      { "Instance", "44444444-4444-4444-8444-444444444445" },
		      { "Name", "Silent" } };
	DBusMessage *message =
	    dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter");
	const char *path = VSS_WRITER_DEFAULT_PATH;
	DBusMessageIter it, array, entry, variant;

	dbus_message_iter_init_append(message, &it);
	dbus_message_iter_append_basic(&it, DBUS_TYPE_OBJECT_PATH, &path);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		dbus_message_iter_open_container(&array, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
		dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &texts[i].key);
		dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, "s", &variant);
		dbus_message_iter_append_basic(&variant, DBUS_TYPE_STRING, &texts[i].value);
		dbus_message_iter_close_container(&entry, &variant);
		dbus_message_iter_close_container(&array, &entry);
	}
	dbus_message_iter_close_container(&it, &array);
	dbus_message_unref(dbus_connection_send_with_reply_and_block(connection, message, 10000, NULL));
	dbus_message_unref(message);
}

/* Probes at the same time are one probe: else a few strangers' would use up the calls that a set needs. */
bool attack_with_probes(void *data)
{
	struct attack *a = data;
	DBusConnection *writer = connect_raw(), *prober = connect_raw();
	uint64_t end = clock_now() + 150 * USEC_PER_MSEC; /* a probe here lasts for 200 ms */

	dbus_connection_add_filter(writer, probed, NULL, NULL);
	register_silent(writer);
	send_often(prober, VSS_IFACE_COORDINATOR, "ProbeWriters", true, a->size);
	dbus_connection_flush(prober);
	while (clock_now() < end)
		dbus_connection_read_write_dispatch(writer, 10);
	disconnect_raw(prober);
	disconnect_raw(writer);
	if (identified <= 2)
		return true;
	fprintf(stderr, "%u probes at once: the writer was asked %zu times\n", a->size, identified);
	return false;
}

/* ---- others' sessions ---- */

/* Runs as nobody: root's session is there, and everything about it is refused. */
static bool reach_for(void *data)
{
	static const char *const methods[] = { "Abort", "Close", "Detach", "DoSnapshotSet", "GatherWriterStatus" };
	const char *path = data;
	struct bus *bus = open_bus();
	struct err err = { 0 };

	json_decref(create_session(bus, &err));
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		enum vss_error error = session_call(bus, path, methods[i]);
		if (error == VSS_E_ACCESS_DENIED && err.code == VSS_E_ACCESS_DENIED)
			continue;
		fprintf(stderr, "%s of another's session: %s\n", methods[i], error_text(error));
		return false;
	}
	bus_free(bus);
	return true;
}

static bool adopt_token(void *data)
{
	struct bus *bus = open_bus();
	struct err err = { 0 };

	json_decref(victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Adopt", "sa{sv}",
				json_pack("[s{}]", (char *)data), &err));
	bus_free(bus);
	return err.code == VSS_E_ACCESS_DENIED;
}

bool attack_sessions_of_others(void *data)
{
	struct bus *bus = open_bus();
	autojson json_t *path = create_session(bus, NULL), *token = NULL;
	bool well = path && attack_as(NOBODY, reach_for, (char *)json_string_value(path));

	token = victim_call(bus, json_string_value(path), VSS_IFACE_SESSION, "Detach", "ua{sv}", json_pack("[i{}]", 20),
			    NULL);
	well = token && attack_as(NOBODY, adopt_token, (char *)json_string_value(token)) && well;
	well = session_call(bus, json_string_value(path), "Close") == VSS_OK && well;
	bus_free(bus);
	return well;
}

/* ---- signals ---- */

/* A client of the library that gathers: a silent writer makes that last for 200 ms. */
static bool gather(void *data)
{
	struct vss_failure failure = { 0 };
	struct vss_connection *connection = NULL;
	struct vss_backup *backup = NULL;
	int r;

	if (vss_connect(&connection, NULL, &failure) < 0 || vss_backup_new(&backup, connection, NULL, &failure) < 0)
		return false;
	r = vss_backup_gather(backup, NULL, &failure);
	vss_backup_free(backup);
	vss_disconnect(connection);
	return r == 0;
}

static void fake_finished(DBusConnection *liar, const char *owner, const char *path)
{
	DBusMessage *signal = dbus_message_new_signal(path, VSS_IFACE_SESSION, "Finished");
	DBusMessageIter it, array, entry, variant;
	const char *operation = "GatherWriterMetadata", *key = "Success";
	dbus_bool_t failed = FALSE;

	dbus_message_set_destination(signal, owner);
	dbus_message_iter_init_append(signal, &it);
	dbus_message_iter_append_basic(&it, DBUS_TYPE_STRING, &operation);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &array);
	dbus_message_iter_open_container(&array, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
	dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, "b", &variant);
	dbus_message_iter_append_basic(&variant, DBUS_TYPE_BOOLEAN, &failed);
	dbus_message_iter_close_container(&entry, &variant);
	dbus_message_iter_close_container(&array, &entry);
	dbus_message_iter_close_container(&it, &array);
	dbus_connection_send(liar, signal, NULL);
	dbus_connection_flush(liar);
	dbus_message_unref(signal);
}

/* Tells everybody who has a session that it has failed, until the client has ended. */
static void lie_until(struct bus *bus, DBusConnection *liar, DBusConnection *writer, pid_t client, int *status)
{
	while (waitpid(client, status, WNOHANG) == 0) {
		autojson json_t *rows = victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "ListSessions", "a{sv}",
						    json_pack("[{}]"), NULL);
		json_t *row;
		size_t i;
		json_array_foreach (rows, i, row) {
			char hex[ID_HEX_SIZE], path[128];
			id_to_hex(json_string_value(json_object_get(row, "Id")), hex);
			snprintf(path, sizeof path, VSS_SESSION_PATH "/%s", hex);
			fake_finished(liar, json_string_value(json_object_get(row, "Owner")), path);
		}
		dbus_connection_read_write_dispatch(writer, 1);
	}
}

bool attack_with_fake_signals(void *data)
{
	struct bus *bus = open_bus();
	DBusConnection *liar = connect_raw(), *writer = connect_raw();
	int status = -1;
	pid_t client;

	dbus_connection_add_filter(writer, probed, NULL, NULL);
	register_silent(writer);
	client = fork();
	if (client == 0) {
		alarm(30);
		_exit(gather(NULL) ? 0 : 1);
	}
	lie_until(bus, liar, writer, client, &status);
	disconnect_raw(writer);
	disconnect_raw(liar);
	bus_free(bus);
	if (status != 0)
		fprintf(stderr, "a requestor believed a signal that vssd had not sent\n");
	return status == 0;
}
