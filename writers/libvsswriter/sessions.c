/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/libvsswriter/sessions.h"

#include <stdio.h>
#include <string.h>

struct session_row *sessions_find(struct sessions *sessions, const char *id)
{
	for (size_t i = 0; i < sessions->n; i++)
		if (strcmp(sessions->rows[i].id, id) == 0)
			return &sessions->rows[i];
	return NULL;
}

static bool phase_is_held(enum phase phase)
{
	return phase == PHASE_FROZEN || phase == PHASE_FAILED || phase == PHASE_THAWING;
}

struct session_row *sessions_held(struct sessions *sessions)
{
	for (size_t i = 0; i < sessions->n; i++)
		if (phase_is_held(sessions->rows[i].phase))
			return &sessions->rows[i];
	return NULL;
}

void sessions_remove(struct sessions *sessions, struct session_row *row)
{
	*row = sessions->rows[--sessions->n];
}

/* Sessions that vssd forgot (it was killed) would fill the table; those in which nothing is due may go. */
static struct session_row *row_evict(struct sessions *sessions)
{
	struct session_row *oldest = NULL;

	for (size_t i = 0; i < sessions->n; i++) {
		struct session_row *row = &sessions->rows[i];
		if (phase_is_held(row->phase) || row->phase == PHASE_PREPARED || row->abort_due)
			continue;
		if (!oldest || row->used < oldest->used)
			oldest = row;
	}
	return oldest;
}

static struct session_row *row_get(struct sessions *sessions, const char *id, struct err *err)
{
	struct session_row *row = sessions_find(sessions, id);

	if (!row)
		row = sessions->n < SESSIONS_MAX ? &sessions->rows[sessions->n++] : row_evict(sessions);
	if (!row) {
		err_set(err, VSS_E_LIMITS_EXCEEDED, "The writer is preparing for %d sessions already", SESSIONS_MAX);
		return NULL;
	}
	if (strcmp(row->id, id) != 0) {
		*row = (struct session_row){ 0 };
		memcpy(row->id, id, ID_SIZE);
	}
	row->used = ++sessions->uses;
	return row;
}

bool sessions_must_wait(struct sessions *sessions, enum vss_event event, const char *id)
{
	const struct session_row *held = sessions_held(sessions);

	if (!held || strcmp(held->id, id) == 0)
		return false;
	return event != VSS_EVENT_IDENTIFY && event != VSS_EVENT_PREPARE_SNAPSHOT && event != VSS_EVENT_FREEZE &&
	       event != VSS_EVENT_THAW;
}

static bool event_needs_set(enum vss_event event)
{
	return event == VSS_EVENT_PREPARE_SNAPSHOT || event == VSS_EVENT_FREEZE || event == VSS_EVENT_THAW ||
	       event == VSS_EVENT_POST_SNAPSHOT;
}

static int check_ids(enum vss_event event, const char *id, const char *set, struct err *err)
{
	if (!id_is_valid(id))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s names no session: \"%s\" is not an id",
			       vss_event_name(event), id);
	if (*set ? !id_is_valid(set) : event_needs_set(event))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s names no set: \"%s\" is not an id",
			       vss_event_name(event), set);
	return 0;
}

/* Nothing may begin while the application is frozen, least of all a second freeze. */
static int check_not_held(struct sessions *sessions, enum vss_event event, const char *id, struct err *err)
{
	const struct session_row *held = sessions_held(sessions);

	if (!held)
		return 0;
	return err_set(err, strcmp(held->id, id) == 0 ? VSS_E_BAD_STATE : VSS_E_SNAPSHOT_SET_IN_PROGRESS,
		       "%s refused: the writer is frozen for set %s of session %s", vss_event_name(event), held->set,
		       held->id);
}

static int check_freeze(struct sessions *sessions, const char *id, const char *set, struct err *err)
{
	const struct session_row *row = sessions_find(sessions, id);
	bool same = row && strcmp(row->set, set) == 0;

	if (sessions->wants_prepare && !(same && row->phase == PHASE_PREPARED))
		return err_set(err, VSS_E_BAD_STATE, "Freeze refused: no PrepareSnapshot came before it for set %s", set);
	if (same && row->phase > PHASE_PREPARED)
		return err_set(err, VSS_E_BAD_STATE, "Freeze refused: set %s was frozen already", set);
	return 0;
}

static int check_in_phase(struct sessions *sessions, enum vss_event event, const char *id, const char *set,
			  struct err *err)
{
	const struct session_row *row = sessions_find(sessions, id);
	bool fits;

	if (!row || strcmp(row->set, set) != 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "%s refused: set %s of session %s is not under way here",
			       vss_event_name(event), set, id);
	if (event == VSS_EVENT_THAW)
		fits = row->phase == PHASE_FROZEN || row->phase == PHASE_FAILED || row->phase == PHASE_BROKEN;
	else
		fits = row->phase == PHASE_THAWED;
	return fits ? 0 : err_set(err, VSS_E_BAD_STATE, "%s refused: set %s is not %s", vss_event_name(event), set,
				  event == VSS_EVENT_THAW ? "frozen" : "thawed");
}

static int check_not_frozen_here(struct sessions *sessions, enum vss_event event, const char *id, struct err *err)
{
	const struct session_row *row = sessions_find(sessions, id);

	if (!row || !phase_is_held(row->phase))
		return 0;
	return err_set(err, VSS_E_BAD_STATE, "%s refused: the writer is frozen for set %s of this session",
		       vss_event_name(event), row->set);
}

static int check_abort(struct sessions *sessions, const char *id, const char *set, struct err *err)
{
	const struct session_row *row = sessions_find(sessions, id);

	if (!row || !phase_is_held(row->phase) || !*set || strcmp(row->set, set) == 0)
		return 0;
	return err_set(err, VSS_E_BAD_STATE, "Abort of set %s refused: the writer is frozen for set %s", set, row->set);
}

static int check_event(struct sessions *sessions, enum vss_event event, const char *id, const char *set,
		       struct err *err)
{
	switch (event) {
	case VSS_EVENT_IDENTIFY:
		return 0;
	case VSS_EVENT_PREPARE_SNAPSHOT:
		return check_not_held(sessions, event, id, err);
	case VSS_EVENT_FREEZE:
		if (check_not_held(sessions, event, id, err) < 0)
			return -1;
		return check_freeze(sessions, id, set, err);
	case VSS_EVENT_THAW:
	case VSS_EVENT_POST_SNAPSHOT:
		return check_in_phase(sessions, event, id, set, err);
	case VSS_EVENT_ABORT:
		return check_abort(sessions, id, set, err);
	case VSS_EVENT_PREPARE_BACKUP:
	case VSS_EVENT_BACKUP_COMPLETE:
	case VSS_EVENT_BACKUP_SHUTDOWN:
	case VSS_EVENT_PRE_RESTORE:
	case VSS_EVENT_POST_RESTORE:
		return check_not_frozen_here(sessions, event, id, err);
	}
	return err_set(err, VSS_E_UNEXPECTED, "Event %d is not known", (int)event);
}

static enum phase phase_of_event(enum vss_event event)
{
	if (event == VSS_EVENT_PREPARE_BACKUP)
		return PHASE_BACKUP_PREPARED;
	return event == VSS_EVENT_PREPARE_SNAPSHOT ? PHASE_PREPARED : PHASE_FROZEN;
}

static int begin(struct sessions *sessions, enum vss_event event, const char *id, const char *set,
		 struct session_row **ret_row, struct err *err)
{
	struct session_row *row = row_get(sessions, id, err);

	if (!row)
		return -1;
	snprintf(row->set, sizeof row->set, "%s", set);
	row->phase = phase_of_event(event);
	row->unbroken = false;
	row->why[0] = '\0';
	if (event == VSS_EVENT_FREEZE)
		row->sequence = ++sessions->last_sequence;
	*ret_row = row;
	return 0;
}

int sessions_admit(struct sessions *sessions, enum vss_event event, const char *id, const char *set,
		   struct session_row **ret_row, struct err *err)
{
	*ret_row = NULL;
	if (event == VSS_EVENT_IDENTIFY)
		return 0;
	if (check_ids(event, id, set, err) < 0 || check_event(sessions, event, id, set, err) < 0)
		return -1;
	if (event == VSS_EVENT_PREPARE_BACKUP || event == VSS_EVENT_PREPARE_SNAPSHOT || event == VSS_EVENT_FREEZE)
		return begin(sessions, event, id, set, ret_row, err);
	*ret_row = sessions_find(sessions, id);
	if (event == VSS_EVENT_THAW && (*ret_row)->phase != PHASE_BROKEN)
		(*ret_row)->phase = PHASE_THAWING;
	return 0;
}

static void thaw_answered(struct session_row *row, bool ok)
{
	if (row->phase == PHASE_BROKEN)
		return;
	if (!ok)
		row->phase = PHASE_FAILED;
	else
		row->phase = row->unbroken ? PHASE_THAWED : PHASE_KNOWN;
}

void sessions_answered(struct sessions *sessions, struct session_row *row, enum vss_event event, bool ok)
{
	if (!row)
		return;
	if (event == VSS_EVENT_PREPARE_SNAPSHOT && !ok && row->phase == PHASE_PREPARED)
		row->phase = PHASE_BACKUP_PREPARED;
	if (event == VSS_EVENT_FREEZE && row->phase == PHASE_FROZEN) {
		row->unbroken = ok;
		row->phase = ok ? PHASE_FROZEN : PHASE_FAILED;
	}
	if (event == VSS_EVENT_THAW)
		thaw_answered(row, ok);
	if (event == VSS_EVENT_ABORT || event == VSS_EVENT_BACKUP_SHUTDOWN)
		sessions_remove(sessions, row);
}

void sessions_break(struct session_row *row, const char *why)
{
	row->phase = PHASE_BROKEN;
	row->unbroken = false;
	snprintf(row->why, sizeof row->why, "%s", why);
}

void sessions_coordinator_lost(struct sessions *sessions, const char *why)
{
	for (size_t i = 0; i < sessions->n; i++) {
		struct session_row *row = &sessions->rows[i];
		switch (row->phase) {
		case PHASE_FROZEN:
		case PHASE_FAILED:
			sessions_break(row, why);
			row->abort_due = true;
			break;
		case PHASE_BACKUP_PREPARED:
		case PHASE_PREPARED:
			row->phase = PHASE_KNOWN;
			row->abort_due = true;
			break;
		case PHASE_THAWING: /* the application is resuming as it is */
		case PHASE_KNOWN:
		case PHASE_BROKEN:
		case PHASE_THAWED: /* the copy is complete, and vssd keeps such sessions over its restart */
			break;
		}
	}
}
