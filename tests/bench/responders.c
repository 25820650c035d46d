/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writers that do nothing, each a process with a connection of its own: responders COUNT
 * Prints the first one's pid when all are registered. SIGUSR1 makes that one take half a second for its Freeze, or stop
 * doing so. All end with the parent. */
#include <dbus/dbus.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/id.h"
#include "common/names.h"

#define SLOW_USEC 500000

static volatile sig_atomic_t slow;
static dbus_uint64_t sequence;

static void on_toggle(int signal)
{
	slow = !slow;
}

static void add_variant(DBusMessageIter *dict, const char *key, int type, const char *signature, const void *value)
{
	DBusMessageIter entry, variant;

	dbus_message_iter_open_container(dict, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
	dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, signature, &variant);
	if (type == DBUS_TYPE_ARRAY) { /* an empty list of strings */
		DBusMessageIter array;
		dbus_message_iter_open_container(&variant, DBUS_TYPE_ARRAY, "s", &array);
		dbus_message_iter_close_container(&variant, &array);
	} else {
		dbus_message_iter_append_basic(&variant, type, value);
	}
	dbus_message_iter_close_container(&entry, &variant);
	dbus_message_iter_close_container(dict, &entry);
}

static DBusHandlerResult answer(DBusConnection *connection, DBusMessage *message, void *data)
{
	dbus_bool_t yes = TRUE;
	DBusMessageIter it, dict;
	DBusMessage *reply;

	if (dbus_message_get_type(message) != DBUS_MESSAGE_TYPE_METHOD_CALL)
		return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
	if (strcmp(dbus_message_get_member(message), "Freeze") == 0) {
		sequence++;
		if (slow)
			usleep(SLOW_USEC);
	}
	reply = dbus_message_new_method_return(message);
	dbus_message_iter_init_append(reply, &it);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &dict);
	if (strcmp(dbus_message_get_member(message), "Identify") != 0) {
		add_variant(&dict, "Sequence", DBUS_TYPE_UINT64, "t", &sequence);
		add_variant(&dict, "Unbroken", DBUS_TYPE_BOOLEAN, "b", &yes);
	}
	dbus_message_iter_close_container(&it, &dict);
	dbus_connection_send(connection, reply, NULL);
	dbus_message_unref(reply);
	return DBUS_HANDLER_RESULT_HANDLED;
}

/* All volumes, and no events but those that every writer gets: a set means one Freeze and one Thaw. */
static DBusMessage *registration(unsigned number)
{
	static const char path[] = VSS_WRITER_DEFAULT_PATH, *const object = path;
	DBusMessage *call =
		dbus_message_new_method_call(VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter");
	char id[ID_SIZE], instance[ID_SIZE], name[64];
	const char *texts[] = { id, instance, name, "all-volumes" };
	DBusMessageIter it, dict;

	id_new(id);
	id_new(instance);
	snprintf(name, sizeof name, "Bench Writer %04u", number);
	dbus_message_iter_init_append(call, &it);
	dbus_message_iter_append_basic(&it, DBUS_TYPE_OBJECT_PATH, &object);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{sv}", &dict);
	add_variant(&dict, "Id", DBUS_TYPE_STRING, "s", &texts[0]);
	add_variant(&dict, "Instance", DBUS_TYPE_STRING, "s", &texts[1]);
	add_variant(&dict, "Name", DBUS_TYPE_STRING, "s", &texts[2]);
	add_variant(&dict, "Scope", DBUS_TYPE_STRING, "s", &texts[3]);
	add_variant(&dict, "Events", DBUS_TYPE_ARRAY, "as", NULL);
	dbus_message_iter_close_container(&it, &dict);
	return call;
}

static int respond(unsigned number, int ready)
{
	DBusError error = DBUS_ERROR_INIT;
	DBusConnection *connection = dbus_connection_open_private(getenv("DBUS_SYSTEM_BUS_ADDRESS"), &error);
	DBusMessage *call, *reply = NULL;

	if (connection && dbus_bus_register(connection, &error)) {
		dbus_connection_add_filter(connection, answer, NULL, NULL);
		call = registration(number);
		reply = dbus_connection_send_with_reply_and_block(connection, call, 60000, &error);
		dbus_message_unref(call);
	}
	if (!reply) {
		fprintf(stderr, "responders: %s\n", error.message);
		return 1;
	}
	dbus_message_unref(reply);
	if (write(ready, "", 1) != 1)
		return 1;
	close(ready);
	while (dbus_connection_read_write_dispatch(connection, -1))
		;
	return 0;
}

int main(int argc, char **argv)
{
	unsigned count = argc == 2 ? (unsigned)atoi(argv[1]) : 0, n = 0;
	pid_t first = 0;
	int ready[2];
	char byte;

	if (count == 0 || pipe(ready) < 0)
		return 2;
	signal(SIGUSR1, on_toggle);
	for (unsigned i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(ready[0]);
			return respond(i, ready[1]);
		}
		first = first ? first : pid;
	}
	close(ready[1]);
	while (n < count && read(ready[0], &byte, 1) == 1)
		n++;
	if (n < count)
		return 1;
	printf("%d\n", (int)first);
	fflush(stdout);
	for (;;)
		pause();
}
