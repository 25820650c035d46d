/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/event-name.h"

#include <string.h>

static const char *const hook_names[SCRIPT_EVENTS] = {
	[VSS_EVENT_PREPARE_BACKUP] = "prepare-backup",
	[VSS_EVENT_PREPARE_SNAPSHOT] = "prepare-snapshot",
	[VSS_EVENT_FREEZE] = "freeze",
	[VSS_EVENT_THAW] = "thaw",
	[VSS_EVENT_POST_SNAPSHOT] = "post-snapshot",
	[VSS_EVENT_BACKUP_COMPLETE] = "backup-complete",
	[VSS_EVENT_BACKUP_SHUTDOWN] = "backup-shutdown",
	[VSS_EVENT_ABORT] = "abort",
	[VSS_EVENT_PRE_RESTORE] = "pre-restore",
	[VSS_EVENT_POST_RESTORE] = "post-restore",
};

const char *event_hook_name(enum vss_event event)
{
	return (unsigned)event < SCRIPT_EVENTS ? hook_names[event] : NULL;
}

int event_from_hook_name(const char *name)
{
	for (int event = 0; event < SCRIPT_EVENTS; event++)
		if (hook_names[event] && strcmp(hook_names[event], name) == 0)
			return event;
	return -1;
}

int event_from_key(const char *key)
{
	for (int event = 0; event < SCRIPT_EVENTS; event++)
		if (hook_names[event] && strcmp(vss_event_name((enum vss_event)event), key) == 0)
			return event;
	return -1;
}
