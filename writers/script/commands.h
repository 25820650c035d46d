/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which executables serve an event. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "writers/script/config.h"

#define COMMANDS_MAX 64

struct command {
	char *path;  /* without symbolic links; what is executed */
	char **argv; /* ends with the event's name */
};

/* How they are run; all zero is our own way. */
struct conduct {
	uint64_t limit; /* usec, for all tries together; 0: the event's */
	unsigned retries;
	bool interpreted;      /* argv[0] is an interpreter: people know argv[1] */
	bool two_is_warning;   /* exit code 2 is success */
	bool failure_is_doubt; /* a failure does not fail the set, it lowers its label */
};

/* In the order in which they run. A zeroed one is empty. */
struct commands {
	struct command items[COMMANDS_MAX];
	size_t n;
	struct conduct conduct;
};

/* The event's own command, else what the hook directory has for it: EVENT, then EVENT.d/ by name (run-parts' names:
 * letters, digits, - and _); for thaw and abort in reverse. Each one is judged (trust.h). No command at all is no
 * error. */
int commands_find(struct commands *commands, const struct config *config, enum vss_event event, struct err *err);
/* A command given by its argv (without the event's name), alone. */
int commands_find_one(struct commands *commands, char *const *argv, struct err *err);
/* For those who find them. argv is followed by the event's name, unless that is NULL; argv[0] is judged. */
int commands_add(struct commands *commands, char *const *argv, const char *event, struct err *err);
void commands_reverse(struct commands *commands);
void commands_keep(struct commands *commands, char *const *paths); /* these alone */
void commands_done(struct commands *commands);

bool commands_name_counts(const char *name); /* is this the name of a hook, not an editor's or a package's leftover? */
