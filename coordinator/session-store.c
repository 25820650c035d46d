/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions on /run and back, and as rows for the bus. Descriptors and calls under way are not kept: what needs them is
 * aborted after a restart. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/catalogue.h"
#include "coordinator/session-internal.h"

/* ---- views ---- */

json_t *session_participant_rows(const struct session *s)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < s->n_participants; i++) {
		const struct participant *p = &s->participants[i];
		const struct writer *w = p->writer;
		enum writer_state state = p->error ? writer_state_failed_at(p->failed_at, w->record.state) : w->record.state;
		json_t *row = json_pack("{ss ss ss sb sb ss si ss sI ss ss sI}", "Name", w->name, "WriterId", w->id,
					"InstanceId", w->instance, "Took", p->takes_part, "Unbroken",
					p->unbroken, "Why", p->why ? p->why : "",
					"State", (int)state, "StateText", writer_state_text(state), "Code",
					(json_int_t)error_code(p->error), "LastError", error_text(p->error), "Message",
					p->message, "ElapsedUsec", (json_int_t)p->elapsed);
		json_object_set(row, "Components", p->components);
		if (json_array_size(p->checks) > 0)
			json_object_set(row, "Checks", p->checks);
		json_array_append_new(rows, row);
	}
	return rows;
}

json_t *session_member_rows(const struct session *s)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = &s->members[i];
		json_t *row = json_copy(m->volume);
		json_object_set_new(row, "Shadow", json_string(m->copy));
		json_object_set_new(row, "InstantGroup", json_integer((json_int_t)m->instant_group));
		json_array_append_new(rows, row);
	}
	return rows;
}

json_t *session_row(const struct session *s)
{
	json_t *row = json_pack("{ss ss ss ss sO ss ss sI sI}", "Id", s->id, "State", session_state_name(s->state),
				"Operation", s->operation, "LastOperation", s->last_operation, "LastResult",
				s->last_result, "SetId", s->set, "Owner", s->owner ? s->owner : "", "Uid",
				(json_int_t)s->uid, "Pid", (json_int_t)s->pid);

	json_object_update_new(row, json_pack("{ss sI ss so so}", "Command", s->options.command, "Created",
					      (json_int_t)s->created, "Context",
					      s->options.persistent ? "app-rollback" : "backup", "Members",
					      session_member_rows(s), "WaitingFor", session_waiting_for(s)));
	return row;
}

/* ---- to /run ---- */

static json_t *options_to_json(const struct session_options *o)
{
	return json_pack("{sb sb sb sb ss si si si sI sI sO? sO? sO? ss}", "Persistent", o->persistent, "Recursive", o->recursive,
			 "AddMissingVolumes", o->add_missing_volumes, "Verify", o->verify, "BackupType", o->backup_type, "OnWriterFailure",
			 (int)o->on_writer_failure, "Retries", (int)o->retries, "Hold", (int)o->hold, "HoldLimit",
			 (json_int_t)o->hold_limit, "Wait", (json_int_t)o->wait, "Require",
			 o->require, "Exclude", o->exclude, "Include", o->include, "Command", o->command);
}

static json_t *members_to_json(const struct session *s)
{
	json_t *members = json_array();

	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = &s->members[i];
		json_array_append_new(members,
				      json_pack("{ss sO sO}", "Copy", m->copy, "Volume", m->volume, "Below", m->below));
	}
	return members;
}

static json_t *participants_to_json(const struct session *s)
{
	json_t *participants = json_array();

	for (size_t i = 0; i < s->n_participants; i++) {
		const struct participant *p = &s->participants[i];
		if (!p->told)
			continue;
		json_array_append_new(participants,
				      json_pack("{ss sI sO si si ss sO ss}", "Instance", p->writer->instance, "Members",
						(json_int_t)p->members, "Components", p->components, "Error",
						(int)p->error, "FailedAt", (int)p->failed_at, "Message", p->message,
						"Documents", p->documents, "Why", p->why ? p->why : ""));
	}
	return participants;
}

json_t *session_to_json(const struct session *s)
{
	json_t *value = json_pack("{ss ss ss so ss sI sI sI so so}", "Id", s->id, "Set", s->set, "State",
				  session_state_name(s->state), "Options", options_to_json(&s->options), "Owner",
				  s->owner ? s->owner : "", "Uid", (json_int_t)s->uid, "Pid", (json_int_t)s->pid,
				  "Created", (json_int_t)s->created, "Members", members_to_json(s), "Participants",
				  participants_to_json(s));

	json_object_update_new(value, json_pack("{sO sO sO ss ss sO sO si sb sb sO}", "Selected", s->selected, "Doubts",
						s->doubts, "Warnings", s->warnings, "Operation", s->operation,
						"LastOperation", s->last_operation, "LastResult", s->last_result,
						"Attempts", s->attempts, "Attempt", (int)s->attempt, "CreatedCopies",
						s->created_copies, "Succeeded", s->succeeded, "FailedComponents",
						s->failed_components));
	json_object_update_new(value, json_pack("{ss sI si ss sb sb sb sI sO}", "Token", s->token, "LeaseUntil",
						(json_int_t)s->lease_until, "Error", (int)s->error.code, "ErrorText",
						s->error.text, "Closing", s->closing, "Discard", s->discard, "Clean",
						s->clean, "Hold", (json_int_t)s->hold, "Timeline", s->timeline));
	return value;
}

/* ---- and back: our own files, but read with the care that a half-written or old one needs ---- */

static const char *text_of(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

static uint64_t number_of(json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static bool flag_of(json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

static void take_array(json_t **slot, json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value))
		return;
	json_decref(*slot);
	*slot = json_incref(value);
}

static void options_from_json(struct session_options *o, json_t *value)
{
	o->persistent = flag_of(value, "Persistent");
	o->recursive = flag_of(value, "Recursive");
	o->add_missing_volumes = flag_of(value, "AddMissingVolumes");
	o->verify = flag_of(value, "Verify");
	text_format(o->backup_type, sizeof o->backup_type, "%s", text_of(value, "BackupType"));
	o->on_writer_failure = (enum writer_failure_policy)number_of(value, "OnWriterFailure");
	o->retries = (unsigned)number_of(value, "Retries");
	o->hold = (enum session_hold)number_of(value, "Hold");
	o->hold_limit = number_of(value, "HoldLimit");
	o->wait = number_of(value, "Wait");
	take_array(&o->require, value, "Require");
	take_array(&o->exclude, value, "Exclude");
	take_array(&o->include, value, "Include");
	text_format(o->command, sizeof o->command, "%s", text_of(value, "Command"));
}

static void members_from_json(struct session *s, json_t *members)
{
	size_t i;
	json_t *row;

	json_array_foreach(members, i, row) {
		if (s->n_members == SESSION_MEMBERS_MAX || !id_is_valid(text_of(row, "Copy")))
			continue;
		struct member *m = &s->members[s->n_members++];
		*m = (struct member){ .source = -1, .store = -1, .directory = -1 };
		memcpy(m->copy, text_of(row, "Copy"), ID_SIZE);
		m->volume = json_incref(json_object_get(row, "Volume"));
		m->below = json_incref(json_object_get(row, "Below"));
	}
}

static void participants_from_json(struct session *s, json_t *participants)
{
	size_t i;
	json_t *row;

	s->participants = calloc(json_array_size(participants) + 1, sizeof *s->participants);
	if (!s->participants)
		return;
	json_array_foreach(participants, i, row) {
		struct writer *w = registry_find_instance(s->context->registry, text_of(row, "Instance"));
		if (!w)
			continue; /* it has gone meanwhile, and its freeze with it */
		struct participant *p = &s->participants[s->n_participants++];
		*p = (struct participant){ .session = s, .writer = writer_ref(w), .takes_part = true, .told = true };
		p->why = strdup(text_of(row, "Why"));
		p->members = number_of(row, "Members");
		p->error = (enum vss_error)number_of(row, "Error");
		p->failed_at = (enum writer_event)number_of(row, "FailedAt");
		text_format(p->message, sizeof p->message, "%s", text_of(row, "Message"));
		p->components = json_incref(json_object_get(row, "Components"));
		p->documents = json_incref(json_object_get(row, "Documents"));
	}
}

int session_from_json(struct session *s, json_t *value, struct err *err)
{
	int state = session_state_from_name(text_of(value, "State"));

	if (state < 0 || !id_is_valid(text_of(value, "Id")) || !id_is_valid(text_of(value, "Set")))
		return err_set(err, VSS_E_INVALID_DOCUMENT, "A session kept in the runtime directory cannot be read");
	s->state = (enum session_state)state;
	memcpy(s->id, text_of(value, "Id"), ID_SIZE);
	memcpy(s->set, text_of(value, "Set"), ID_SIZE);
	options_from_json(&s->options, json_object_get(value, "Options"));
	s->owner = *text_of(value, "Owner") ? strdup(text_of(value, "Owner")) : NULL;
	s->uid = (uid_t)number_of(value, "Uid");
	s->pid = (pid_t)number_of(value, "Pid");
	s->created = number_of(value, "Created");
	members_from_json(s, json_object_get(value, "Members"));
	participants_from_json(s, json_object_get(value, "Participants"));
	take_array(&s->selected, value, "Selected");
	take_array(&s->doubts, value, "Doubts");
	take_array(&s->warnings, value, "Warnings");
	take_array(&s->last_result, value, "LastResult");
	take_array(&s->attempts, value, "Attempts");
	take_array(&s->timeline, value, "Timeline");
	take_array(&s->failed_components, value, "FailedComponents");
	text_format(s->operation, sizeof s->operation, "%s", text_of(value, "Operation"));
	text_format(s->last_operation, sizeof s->last_operation, "%s", text_of(value, "LastOperation"));
	s->attempt = (unsigned)number_of(value, "Attempt");
	s->created_copies = flag_of(value, "CreatedCopies");
	s->succeeded = flag_of(value, "Succeeded");
	s->closing = flag_of(value, "Closing");
	s->discard = flag_of(value, "Discard");
	s->clean = flag_of(value, "Clean");
	s->hold = number_of(value, "Hold");
	s->want_snapshot = strcmp(s->operation, "DoSnapshotSet") == 0 || strcmp(s->operation, "Hold") == 0;
	text_format(s->token, sizeof s->token, "%s", text_of(value, "Token"));
	s->lease_until = number_of(value, "LeaseUntil");
	s->error.code = (enum vss_error)number_of(value, "Error");
	text_format(s->error.text, sizeof s->error.text, "%s", text_of(value, "ErrorText"));
	session_renew_wait(s);
	return 0;
}

json_t *sessions_stored(struct session_context *context)
{
	return state_store_all(context->store);
}

int session_restore(struct session_context *context, json_t *stored, struct err *err)
{
	struct session *s = session_alloc(context);

	if (!s)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	if (session_from_json(s, stored, err) < 0) {
		session_free(s);
		return -1;
	}
	session_link(s);
	return 0;
}
