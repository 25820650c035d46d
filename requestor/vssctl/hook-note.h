/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `hook freeze` leaves for `hook thaw`: a file on /run for each name, root's alone, and locked while somebody
 * works on it, so that a thaw that comes while a freeze is under way waits for its end. An empty one: nothing is held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HOOK_DIRECTORY "/run/vss-hook"
#define HOOK_TOKEN_SIZE 64

struct hook_note {
	int fd; /* -1: not open */
	bool held;
	char session[37], token[HOOK_TOKEN_SIZE]; /* token "": the freeze has not ended, or never will */
	int64_t since;				  /* epoch */
};
#define HOOK_NOTE_INIT                                                                                                 \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

/* Opens, locks (waits until the absolute time at most) and reads. -1: why says it for people. */
int hook_note_open(struct hook_note *note, const char *directory, const char *name, uint64_t until, char why[512]);
/* Writes what the note says; clears it. -1 with errno. */
int hook_note_write(struct hook_note *note);
int hook_note_clear(struct hook_note *note);
void hook_note_close(struct hook_note *note); /* accepts one that is not open */
