/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* idle-caller TRIES: calls vssd again and again in the very moment in which it ends for having nothing to do (with
 * IdleTimeoutSec=1), over a bus that starts it when it is called. Every call has to be served. Prints how many calls
 * found vssd alive and how many started it anew; 1 if one failed.
 *
 * The event loop lets such timers expire at one point of each second, the same for the machine until it is booted
 * again: that point is found out first, then calls are made around it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"

#define IDLE USEC_PER_SEC
#define LIMIT (20 * USEC_PER_SEC)
#define AROUND (24 * USEC_PER_MSEC) /* calls are made so long before and after the moment */

static void sleep_until(uint64_t usec)
{
	const struct timespec until = { .tv_sec = (time_t)(usec / USEC_PER_SEC),
					.tv_nsec = (long)(usec % USEC_PER_SEC * 1000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
		;
}

static json_t *ask_bus(struct bus *bus, const char *method)
{
	struct err err = { 0 };
	json_t *args = NULL;

	if (bus_call_sync(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", method, "s",
			  json_pack("[s]", VSS_BUS_NAME), NULL, 0, clock_now() + LIMIT, &args, NULL, 0, NULL, &err) < 0)
		return NULL;
	return args;
}

static bool is_there(struct bus *bus)
{
	autojson json_t *args = ask_bus(bus, "NameHasOwner");

	return json_is_true(json_array_get(args, 0));
}

static int call(struct bus *bus, struct err *err)
{
	autojson json_t *args = NULL;

	return bus_call_sync(bus, VSS_BUS_NAME, VSS_ROOT_PATH, "org.freedesktop.DBus.Properties", "Get", "ss",
			     json_pack("[ss]", VSS_IFACE_COORDINATOR, "Version"), NULL, 0, clock_now() + LIMIT, &args,
			     NULL, 0, NULL, err);
}

/* The point of a second, in usec, in which vssd goes. */
static uint64_t find_moment(struct bus *bus)
{
	while (is_there(bus))
		sleep_until(clock_now() + 300);
	return clock_now() % USEC_PER_SEC;
}

static uint64_t next_moment(uint64_t from, uint64_t moment)
{
	uint64_t second = from - from % USEC_PER_SEC + moment;

	return second >= from ? second : second + USEC_PER_SEC;
}

static int try_calls(struct bus *bus, unsigned tries)
{
	unsigned alive = 0, started = 0;
	struct err err = { 0 };
	char *owner = strdup("");

	if (call(bus, &err) < 0) {
		fprintf(stderr, "the first call failed: %s\n", err.text);
		return 1;
	}
	uint64_t moment = find_moment(bus);
	for (unsigned i = 0; i < tries; i++) {
		if (call(bus, &err) < 0) {
			fprintf(stderr, "call %u of %u failed: %s\n", i + 1, tries, err.text);
			return 1;
		}
		autojson json_t *answer = ask_bus(bus, "GetNameOwner");
		const char *now = json_string_value(json_array_get(answer, 0));
		if (now && strcmp(now, owner) == 0)
			alive++;
		else
			started++;
		free(owner);
		owner = strdup(now ? now : "");
		uint64_t offset = (uint64_t)i * 7919 % (2 * AROUND);
		sleep_until(next_moment(clock_now() + IDLE, moment) - AROUND + offset);
	}
	printf("%u calls found it, %u started it\n", alive, started);
	free(owner);
	return 0;
}

int main(int argc, char **argv)
{
	struct bus *bus = NULL;
	struct err err = { 0 };

	if (argc != 2 || bus_open(&bus, NULL, &err) < 0) {
		fprintf(stderr, "usage: idle-caller TRIES %s\n", err.text);
		return 2;
	}
	int r = try_calls(bus, (unsigned)strtoul(argv[1], NULL, 10));
	bus_free(bus);
	return r;
}
