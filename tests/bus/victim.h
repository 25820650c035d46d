/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vssd on a bus of its own, under attack: started with short limits, a harmless worker, and one manifest whose
 * writers belong to uid 65534; checked after each round. */
#pragma once

#include <dbus/dbus.h>
#include <stdint.h>

#include "bus-harness.h"
#include "common/id.h"

#define NOBODY 65534
#define NOBODYS_WRITER "11111111-1111-4111-8111-111111111111" /* its manifest's Id */
#define ABSENT_WRITER "22222222-2222-4222-8222-222222222222"  /* expected, of root, never there */

struct victim {
	struct bus_harness *harness;
	struct bus *bus;
	pid_t pid;
	char log[96];
	size_t fds; /* after the first round: more must never stay open */
};

/* VSSD and HOSTILE_WORKER name the programs. NULL: the reason is on stderr. */
struct victim *victim_start(void);
/* SIGTERM; it has to end with 0 (a sanitizer's finding is another code). True if it did. */
bool victim_stop(struct victim *victim);
/* It answers within a second, no session is open, no descriptor more than before; within ten seconds. Prints what is
 * not so, with the end of vssd's log. */
bool victim_is_well(struct victim *victim, const char *round);
/* Without sessions and descriptors: it only answers. */
bool victim_answers(struct victim *victim);
void victim_print_log(const struct victim *victim);

/* Calls with a patience of 10 s; the answer's first argument (owned), NULL with err. */
json_t *victim_call(struct bus *bus, const char *path, const char *interface, const char *method, const char *signature,
		    json_t *args, struct err *err);
/* Runs fn in a process of its own, as uid; true if it returned true. It is killed after a minute. */
bool attack_as(uid_t uid, bool (*fn)(void *data), void *data);

/* Random numbers that are the same for the same seed. */
struct dice {
	uint64_t state;
};
uint32_t dice_roll(struct dice *dice, uint32_t sides); /* 0 to sides - 1 */
bool dice_one_in(struct dice *dice, uint32_t sides);

/* hostile-values.c: appends one random value for each type of the signature. */
void append_random(struct dice *dice, DBusMessage *message, const char *signature);
/* A signature of up to four types, any. */
const char *random_signature(struct dice *dice);

DBusConnection *connect_raw(void); /* exits the process if that fails */
void disconnect_raw(DBusConnection *connection);
