/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The events that writers get, the levels in which they are frozen, and VSS's writer states (vss.h of the Windows SDK). */
#pragma once

#include <stdint.h>

/* In the order of enum vss_event (vsswriter.h). */
enum writer_event {
	WRITER_EVENT_IDENTIFY,
	WRITER_EVENT_PREPARE_BACKUP,
	WRITER_EVENT_PREPARE_SNAPSHOT,
	WRITER_EVENT_FREEZE,
	WRITER_EVENT_THAW,
	WRITER_EVENT_POST_SNAPSHOT,
	WRITER_EVENT_BACKUP_COMPLETE,
	WRITER_EVENT_BACKUP_SHUTDOWN,
	WRITER_EVENT_ABORT,
	WRITER_EVENT_PRE_RESTORE,
	WRITER_EVENT_POST_RESTORE,
	WRITER_EVENT_COUNT
};

/* Frozen from the first to the last, thawed in reverse. */
enum writer_level { WRITER_LEVEL_FRONT_END, WRITER_LEVEL_BACK_END, WRITER_LEVEL_SYSTEM, WRITER_LEVEL_COUNT };

/* VSS_WRITER_STATE, number for number. */
enum writer_state {
	WRITER_STATE_UNKNOWN = 0,
	WRITER_STATE_STABLE = 1,
	WRITER_STATE_WAITING_FOR_FREEZE = 2,
	WRITER_STATE_WAITING_FOR_THAW = 3,
	WRITER_STATE_WAITING_FOR_POST_SNAPSHOT = 4,
	WRITER_STATE_WAITING_FOR_BACKUP_COMPLETE = 5,
	WRITER_STATE_FAILED_AT_IDENTIFY = 6,
	WRITER_STATE_FAILED_AT_PREPARE_BACKUP = 7,
	WRITER_STATE_FAILED_AT_PREPARE_SNAPSHOT = 8,
	WRITER_STATE_FAILED_AT_FREEZE = 9,
	WRITER_STATE_FAILED_AT_THAW = 10,
	WRITER_STATE_FAILED_AT_POST_SNAPSHOT = 11,
	WRITER_STATE_FAILED_AT_BACKUP_COMPLETE = 12,
	WRITER_STATE_FAILED_AT_PRE_RESTORE = 13,
	WRITER_STATE_FAILED_AT_POST_RESTORE = 14,
	WRITER_STATE_FAILED_AT_BACKUP_SHUTDOWN = 15,
};

const char *writer_event_name(enum writer_event event);        /* "PrepareBackup" */
int writer_event_from_name(const char *name);                  /* -1: unknown */
enum writer_state writer_state_after(enum writer_event event, enum writer_state before);
enum writer_state writer_state_failed_at(enum writer_event event, enum writer_state before);
const char *writer_state_text(enum writer_state state);        /* as vssadmin prints it: "Waiting for freeze" */
const char *writer_level_name(enum writer_level level);        /* "front-end" */
int writer_level_from_name(const char *name);                  /* -1: unknown */
