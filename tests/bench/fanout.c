/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One event to all registered writers: the Freeze phase of vssd's sets, as their timelines tell it, against a bare libdbus
 * program that sends the same message to the same processes, all at once.
 *   fanout ROUNDS VOLUME [SLOW-PID]
 * With SLOW-PID (see responders), sets with a writer that takes half a second are measured instead, against those without. */
#include <dbus/dbus.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bus-value.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "requestor/vssrequestor.h"
#include "tests/bench/samples.h"

#define REST (50 * USEC_PER_MSEC)
#define SLOW_USEC 500000
#define RATIO 1.3
#define SLACK 100

struct bench {
	struct vss_connection *vssd;
	DBusConnection *bus;
	json_t *writers;
	const char *volume;
	size_t unanswered;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "fanout: %s: %s\n", what, why);
	exit(2);
}

/* ---- vssd ---- */

static uint64_t phase_usec(json_t *properties, const char *name)
{
	json_t *row, *rows = json_object_get(properties, "Timeline");
	size_t i;

	json_array_foreach(rows, i, row) {
		const char *phase = json_string_value(json_object_get(row, "Phase"));
		if (phase && strcmp(phase, name) == 0)
			return (uint64_t)(json_integer_value(json_object_get(row, "EndUsec")) -
					  json_integer_value(json_object_get(row, "BeginUsec")));
	}
	die("the timeline", "it lacks the phase");
	return 0;
}

static uint64_t measure_vssd(struct bench *b)
{
	struct vss_failure failure = { 0 };
	struct vss_backup *backup = NULL;
	autojson json_t *properties = NULL;

	usleep(REST);
	if (vss_backup_new(&backup, b->vssd, NULL, &failure) < 0 ||
	    vss_backup_add(backup, b->volume, -1, NULL, &failure) < 0 ||
	    vss_backup_snapshot(backup, NULL, &failure) < 0 ||
	    vss_backup_properties(backup, &properties, &failure) < 0)
		die("a set", failure.text);
	vss_backup_free(backup);
	return phase_usec(properties, "FreezingFrontEnd");
}

/* ---- libdbus alone ---- */

static DBusMessage *event_message(const char *volume)
{
	DBusMessage *message =
		dbus_message_new_method_call(NULL, VSS_WRITER_DEFAULT_PATH, VSS_IFACE_WRITER, "Freeze");
	autojson json_t *args = json_pack("[ssI{sssbs[{sssssi}]s[]}]", "00000000-0000-4000-8000-000000000000",
					  "00000000-0000-4000-8000-000000000000", (json_int_t)clock_now(), "BackupType",
					  "copy", "Persistent", 0, "Volumes", "Path", volume, "Id",
					  "btrfs:00000000-0000-4000-8000-000000000000:256", "InstantGroup", 1,
					  "Components");

	if (!message || !args || bus_value_append(message, "ssta{sv}", args, NULL, 0, NULL) < 0)
		die("a message", "out of memory");
	return message;
}

static void answered(DBusPendingCall *call, void *data)
{
	struct bench *b = data;

	b->unanswered--;
	dbus_pending_call_unref(call);
}

static void send_to(struct bench *b, const DBusMessage *event, const char *name)
{
	DBusMessage *message = dbus_message_copy(event);
	DBusPendingCall *call = NULL;

	if (!message || !dbus_message_set_destination(message, name) ||
	    !dbus_connection_send_with_reply(b->bus, message, &call, DBUS_TIMEOUT_INFINITE) || !call ||
	    !dbus_pending_call_set_notify(call, answered, b, NULL))
		die("a message", "it cannot be sent");
	b->unanswered++;
	dbus_message_unref(message);
}

static uint64_t measure_libdbus(struct bench *b)
{
	DBusMessage *event = event_message(b->volume);
	uint64_t begin;
	json_t *row;
	size_t i;

	usleep(REST);
	begin = clock_now();
	json_array_foreach(b->writers, i, row)
		send_to(b, event, json_string_value(json_object_get(row, "BusName")));
	while (b->unanswered > 0)
		dbus_connection_read_write_dispatch(b->bus, -1);
	uint64_t end = clock_now();
	dbus_message_unref(event);
	return end - begin;
}

/* ---- both ---- */

static int compare(struct bench *b, unsigned rounds)
{
	struct samples vssd = { .name = "vssd: the Freeze phase of a set" };
	struct samples libdbus = { .name = "libdbus alone: as many calls in flight" };
	char title[80];

	for (unsigned round = 0; round <= rounds; round++) {
		uint64_t mine = measure_vssd(b), theirs = measure_libdbus(b);
		if (round == 0)
			continue; /* warms up */
		samples_add(&vssd, mine);
		samples_add(&libdbus, theirs);
	}
	snprintf(title, sizeof title, "fanout, one event to %zu writers", json_array_size(b->writers));
	samples_print_heading(title, rounds);
	samples_print(&vssd);
	samples_print(&libdbus);
	return samples_judge(&vssd, &libdbus, RATIO, SLACK) ? 0 : 1;
}

static int compare_slow(struct bench *b, unsigned rounds, pid_t slow)
{
	struct samples with = { .name = "with one that takes 500 ms" }, without = { .name = "without" };
	char title[80];
	uint64_t limit;

	for (unsigned round = 0; round <= rounds; round++) {
		uint64_t quick = measure_vssd(b);
		kill(slow, SIGUSR1);
		uint64_t held = measure_vssd(b);
		kill(slow, SIGUSR1);
		if (round == 0)
			continue;
		samples_add(&without, quick);
		samples_add(&with, held);
	}
	snprintf(title, sizeof title, "fanout, the Freeze phase of %zu writers", json_array_size(b->writers));
	samples_print_heading(title, rounds);
	samples_print(&with);
	samples_print(&without);
	limit = SLOW_USEC + 2 * samples_median(&without);
	bool met = samples_median(&with) <= limit;
	printf("  target %.1f ms (500 ms and twice the other): %s\n", (double)limit / 1000, met ? "met" : "MISSED");
	return met ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct vss_failure failure = { 0 };
	DBusError error = DBUS_ERROR_INIT;
	struct bench b = { .volume = argc > 2 ? argv[2] : NULL };

	if (argc != 3 && argc != 4)
		return 2;
	if (vss_connect(&b.vssd, NULL, &failure) < 0 ||
	    vss_query(b.vssd, "ListWriters", NULL, 0, &b.writers, &failure) < 0)
		die("vssd", failure.text);
	b.bus = dbus_connection_open_private(getenv("DBUS_SYSTEM_BUS_ADDRESS"), &error);
	if (!b.bus || !dbus_bus_register(b.bus, &error))
		die("the bus", error.message);
	return argc == 4 ? compare_slow(&b, (unsigned)atoi(argv[1]), (pid_t)atoi(argv[3])) :
			   compare(&b, (unsigned)atoi(argv[1]));
}
