/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a writer remembers of backup sessions, and the rules by which an event fits them. Knows no bus and no clock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"
#include "writers/vsswriter.h"

#define SESSIONS_MAX 64 /* as many as vssd has */

enum phase {
	PHASE_KNOWN,           /* nothing is due */
	PHASE_BACKUP_PREPARED, /* PrepareBackup was delivered */
	PHASE_PREPARED,        /* PrepareSnapshot was delivered and did not fail */
	PHASE_FROZEN,          /* Freeze was delivered (entered before the application is called) */
	PHASE_FAILED,          /* Freeze or Thaw failed: the application's state is unknown until Thaw or Abort */
	PHASE_THAWING,         /* Thaw was delivered */
	PHASE_BROKEN,          /* the freeze ended by itself; a Thaw is answered, not delivered */
	PHASE_THAWED,          /* Thaw succeeded */
};

struct session_row {
	char id[ID_SIZE];
	char set[ID_SIZE]; /* "" before there is one */
	enum phase phase;
	bool unbroken;     /* Freeze succeeded, and nothing has broken it */
	bool abort_due;    /* the library owes the application a call of abort */
	uint64_t sequence; /* of the freeze */
	uint64_t used;     /* for eviction */
	char why[160];     /* why the freeze broke */
};

struct sessions {
	struct session_row rows[SESSIONS_MAX];
	size_t n;
	bool wants_prepare;     /* the writer has PrepareSnapshot in its mask, so that Freeze comes after it */
	uint64_t last_sequence; /* start it at a time, so that a restarted writer repeats none */
	uint64_t uses;
};

struct session_row *sessions_find(struct sessions *sessions, const char *id);
/* The one session for which the application is frozen, or may be; NULL if none is. */
struct session_row *sessions_held(struct sessions *sessions);
void sessions_remove(struct sessions *sessions, struct session_row *row);

/* Is the event one to deliver only when another session's freeze is over? Its callback could write or thaw. */
bool sessions_must_wait(struct sessions *sessions, enum vss_event event, const char *id);

/* Checks the event against the rules and enters its phase. *ret_row is NULL for an event that needs no memory
 * (Identify, and events of unknown sessions that are allowed at any time). */
int sessions_admit(struct sessions *sessions, enum vss_event event, const char *id, const char *set,
		   struct session_row **ret_row, struct err *err);
/* Enters the phase that follows the application's answer. row may be gone afterwards. */
void sessions_answered(struct sessions *sessions, struct session_row *row, enum vss_event event, bool ok);

/* The freeze no longer holds; why is told with the answer to Thaw. */
void sessions_break(struct session_row *row, const char *why);
/* vssd is gone: every session whose set was not complete gets an abort. */
void sessions_coordinator_lost(struct sessions *sessions, const char *why);
