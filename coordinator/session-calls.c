/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a requestor asks of its session: checked against the table, then posted as an event. Owner and lease. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/log.h"
#include "coordinator/session-internal.h"

#define WAIT_MAX (24 * 3600 * USEC_PER_SEC)
#define SELECTIONS_MAX 4096
#define SELECTION_TEXT_MAX 1024 /* bytes; longer than any writer's and component's name can be */

/* ---- the requestor's calls ---- */

static int refuse_state(const struct session *s, const char *call, struct err *err)
{
	return err_set(err, VSS_E_BAD_STATE, "%s is not possible now: the session is %s%s%s", call,
		       session_state_name(s->state), *s->operation ? ", busy with " : "", s->operation);
}

void session_renew_wait(struct session *s)
{
	s->wait_deadline = clock_now() + (s->options.wait < WAIT_MAX ? s->options.wait : WAIT_MAX);
}

static int begin_later(struct session *s, const char *operation, enum session_event event, struct err *err)
{
	if (*s->operation || s->closing || session_next(s->state, event) == SESSION_NONE)
		return refuse_state(s, operation, err);
	text_format(s->operation, sizeof s->operation, "%s", operation);
	session_renew_wait(s);
	return 0;
}

static int begin(struct session *s, const char *operation, enum session_event event, struct err *err)
{
	if (begin_later(s, operation, event, err) < 0)
		return -1;
	session_post(s, event);
	return 0;
}

int session_gather(struct session *s, struct err *err)
{
	return begin(s, "GatherWriterMetadata", SESSION_EVENT_GATHER, err);
}

int session_prepare(struct session *s, struct err *err)
{
	return begin(s, "PrepareForBackup", SESSION_EVENT_PREPARE, err);
}

/* From Idle, or from Prepared: all the way, without another word of the requestor. */
static int begin_set(struct session *s, const char *operation, struct err *err)
{
	bool wanted = s->want_snapshot;

	s->want_snapshot = true;
	if (begin(s, operation, SESSION_EVENT_SNAPSHOT, err) == 0)
		return 0;
	s->want_snapshot = wanted;
	return -1;
}

int session_snapshot(struct session *s, struct err *err)
{
	if (s->options.verify || s->options.hold)
		return err_set(err, VSS_E_BAD_STATE, "This session was made to %s: it makes no copies",
			       s->options.hold ? "hold" : "verify");
	return begin_set(s, "DoSnapshotSet", err);
}

int session_start_hold(struct session *s, struct err *err)
{
	if (!s->options.hold)
		return err_set(err, VSS_E_BAD_STATE, "This session was not made to hold: CreateSession's option Hold is missing");
	return hold_check(s, err) < 0 ? -1 : begin_set(s, "Hold", err);
}

int session_release(struct session *s, struct err *err)
{
	bool let_go = s->state == SESSION_FAILED || s->state == SESSION_ABORTING_WRITERS || s->state == SESSION_ABORTING_COPIES;

	if (s->options.hold && let_go && s->error.code) {
		*err = s->error;
		return -1;
	}
	if (s->options.hold != HOLD_VOLUMES)
		return begin(s, "Release", SESSION_EVENT_RELEASE, err);
	/* The volumes before the writers. */
	if (begin_later(s, "Release", SESSION_EVENT_RELEASE, err) < 0)
		return -1;
	hold_release(s);
	return 0;
}

int session_complete(struct session *s, struct err *err)
{
	return begin(s, "BackupComplete", SESSION_EVENT_COMPLETE, err);
}

int session_select(struct session *s, const char *writer, const char *component, struct err *err)
{
	if (s->state != SESSION_IDLE)
		return refuse_state(s, "AddComponent", err);
	const struct writer *found = registry_find(s->context->registry, writer);
	if (!found)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "There is no writer '%.100s'", writer);
	if (found->present && !writer_has_component(found, component))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The writer '%s' has no component '%.200s'", found->name, component);
	if (strlen(writer) > SELECTION_TEXT_MAX || strlen(component) > SELECTION_TEXT_MAX)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The name of a component is too long");
	if (json_array_size(s->selected) >= SELECTIONS_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "A session selects at most %d components", SELECTIONS_MAX);
	json_array_append_new(s->selected, json_pack("{ss ss}", "Writer", writer, "Component", component));
	return 0;
}

static const struct member *find_member(const struct session *s, json_t *volume)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (json_equal(json_object_get(s->members[i].volume, "Id"), json_object_get(volume, "Id")))
			return &s->members[i];
	return NULL;
}

int session_add_volume(struct session *s, json_t *volume, struct err *err)
{
	const char *path = json_string_value(json_object_get(volume, "Path"));
	const char *provider = json_string_value(json_object_get(volume, "Provider"));
	const char *why = json_string_value(json_object_get(volume, "Why"));
	struct member *m;

	if (s->state != SESSION_IDLE && s->state != SESSION_PLANNING)
		return refuse_state(s, "AddToSnapshotSet", err);
	if (!path || (!s->options.hold && (!provider || !*provider)))
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "No provider can copy %s: %s", path ? path : "the volume",
			       why ? why : "its kind is not known");
	if (find_member(s, volume))
		return 0;
	if (s->n_members >= s->context->config->max_volumes || s->n_members >= SESSION_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
			       "%s cannot be added: a set holds at most %u volumes (MaxVolumes in vssd.conf)", path,
			       s->context->config->max_volumes);
	m = &s->members[s->n_members++];
	*m = (struct member){ .volume = json_incref(volume), .source = -1, .store = -1, .directory = -1 };
	m->below = json_object_get(volume, "Below");
	m->below = m->below ? json_incref(m->below) : json_array();
	id_new(m->copy);
	session_save(s);
	return 0;
}

int session_set_succeeded(struct session *s, bool succeeded, const char *writer, const char *component, struct err *err)
{
	if (s->state != SESSION_CREATED)
		return refuse_state(s, "SetBackupSucceeded", err);
	if (!writer) {
		s->succeeded = succeeded;
	} else if (!succeeded) {
		if (strlen(writer) > SELECTION_TEXT_MAX || (component && strlen(component) > SELECTION_TEXT_MAX))
			return err_set(err, VSS_E_INVALID_ARGUMENT, "The name of a component is too long");
		if (json_array_size(s->failed_components) >= SELECTIONS_MAX)
			return err_set(err, VSS_E_LIMITS_EXCEEDED, "At most %d components can be reported", SELECTIONS_MAX);
		json_array_append_new(s->failed_components,
				      json_sprintf("%s%s%s", writer, component ? "/" : "", component ? component : ""));
	}
	session_save(s);
	return 0;
}

void session_close(struct session *s, bool discard)
{
	s->closing = true;
	s->discard = s->discard || discard;
	session_post(s, SESSION_EVENT_CANCEL);
}

/* ---- owner and lease ---- */

static int lease_over(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *s = data;

	log_notice("session %s: its lease is over", s->id);
	s->lease = sd_event_source_disable_unref(s->lease);
	session_close(s, false);
	return 0;
}

void session_arm_lease(struct session *s)
{
	s->lease = sd_event_source_disable_unref(s->lease);
	sd_event_add_time(s->context->event, &s->lease, CLOCK_MONOTONIC, s->lease_until, 1000, lease_over, s);
}

int session_detach(struct session *s, uint64_t seconds, char token[ID_SIZE], struct err *err)
{
	if (s->closing)
		return refuse_state(s, "Detach", err);
	if (seconds == 0 || seconds > 7 * 24 * 3600)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "A lease lasts from one second to seven days");
	free(s->owner);
	s->owner = NULL;
	id_new(s->token);
	s->lease_until = clock_now() + seconds * USEC_PER_SEC;
	session_arm_lease(s);
	memcpy(token, s->token, ID_SIZE);
	session_save(s);
	return 0;
}

int session_adopt(struct session *s, const char *owner, uid_t uid, pid_t pid, struct err *err)
{
	char *copy;

	if (s->owner || s->uid != uid)
		return err_set(err, VSS_E_ACCESS_DENIED, "The session belongs to somebody else");
	copy = strdup(owner);
	if (!copy)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	s->owner = copy;
	s->pid = pid;
	s->token[0] = '\0';
	s->lease = sd_event_source_disable_unref(s->lease);
	session_save(s);
	return 0;
}

void session_owner_lost(struct session *s)
{
	log_notice("session %s: its requestor is gone", s->id);
	session_close(s, false);
}
