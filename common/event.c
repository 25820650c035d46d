/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/event.h"

#include <stddef.h>
#include <string.h>

#define SAME -1 /* the event leaves the state as it is */

static const struct {
	const char *name;
	int after, failed; /* enum writer_state, or SAME */
} events[WRITER_EVENT_COUNT] = {
	[WRITER_EVENT_IDENTIFY] = { "Identify", SAME, WRITER_STATE_FAILED_AT_IDENTIFY },
	[WRITER_EVENT_PREPARE_BACKUP] = { "PrepareBackup", WRITER_STATE_STABLE, WRITER_STATE_FAILED_AT_PREPARE_BACKUP },
	[WRITER_EVENT_PREPARE_SNAPSHOT] = { "PrepareSnapshot", WRITER_STATE_WAITING_FOR_FREEZE,
					    WRITER_STATE_FAILED_AT_PREPARE_SNAPSHOT },
	[WRITER_EVENT_FREEZE] = { "Freeze", WRITER_STATE_WAITING_FOR_THAW, WRITER_STATE_FAILED_AT_FREEZE },
	[WRITER_EVENT_THAW] = { "Thaw", WRITER_STATE_WAITING_FOR_POST_SNAPSHOT, WRITER_STATE_FAILED_AT_THAW },
	[WRITER_EVENT_POST_SNAPSHOT] = { "PostSnapshot", WRITER_STATE_WAITING_FOR_BACKUP_COMPLETE,
					 WRITER_STATE_FAILED_AT_POST_SNAPSHOT },
	[WRITER_EVENT_BACKUP_COMPLETE] = { "BackupComplete", WRITER_STATE_STABLE,
					   WRITER_STATE_FAILED_AT_BACKUP_COMPLETE },
	[WRITER_EVENT_BACKUP_SHUTDOWN] = { "BackupShutdown", WRITER_STATE_STABLE,
					   WRITER_STATE_FAILED_AT_BACKUP_SHUTDOWN },
	[WRITER_EVENT_ABORT] = { "Abort", WRITER_STATE_STABLE, SAME },
	[WRITER_EVENT_PRE_RESTORE] = { "PreRestore", WRITER_STATE_STABLE, WRITER_STATE_FAILED_AT_PRE_RESTORE },
	[WRITER_EVENT_POST_RESTORE] = { "PostRestore", WRITER_STATE_STABLE, WRITER_STATE_FAILED_AT_POST_RESTORE },
};

static const char *const level_names[WRITER_LEVEL_COUNT] = {
	[WRITER_LEVEL_FRONT_END] = "front-end",
	[WRITER_LEVEL_BACK_END] = "back-end",
	[WRITER_LEVEL_SYSTEM] = "system",
};

const char *writer_event_name(enum writer_event event)
{
	return events[event].name;
}

int writer_event_from_name(const char *name)
{
	for (int i = 0; i < WRITER_EVENT_COUNT; i++)
		if (strcmp(events[i].name, name) == 0)
			return i;
	return -1;
}

enum writer_state writer_state_after(enum writer_event event, enum writer_state before)
{
	return events[event].after == SAME ? before : (enum writer_state)events[event].after;
}

enum writer_state writer_state_failed_at(enum writer_event event, enum writer_state before)
{
	return events[event].failed == SAME ? before : (enum writer_state)events[event].failed;
}

const char *writer_state_text(enum writer_state state)
{
	static const char *const texts[] = { "Unknown", "Stable", "Waiting for freeze", "Frozen",
					     "Waiting for completion", "Waiting for completion" };

	return (size_t)state < sizeof texts / sizeof *texts ? texts[state] : "Failed";
}

const char *writer_level_name(enum writer_level level)
{
	return level_names[level];
}

int writer_level_from_name(const char *name)
{
	for (int i = 0; i < WRITER_LEVEL_COUNT; i++)
		if (strcmp(level_names[i], name) == 0)
			return i;
	return -1;
}
