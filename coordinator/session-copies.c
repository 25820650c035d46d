/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The copies' side of a session: jobs for the provider's worker. The descriptors that the provider hands out live here
 * from prepare to seal, so that whatever happens to vssd or the worker, no private mount outlives the set. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/catalogue.h"
#include "coordinator/log.h"
#include "coordinator/session-internal.h"

#define RECORD_ROOM (900u << 10) /* of the 1 MiB that a provider keeps; the rest is the member's own */

struct fd_slots {
	int fds[SESSION_MEMBERS_MAX * 2];
	size_t n;
};

static json_t *slot(struct fd_slots *slots, int fd)
{
	if (fd < 0)
		return json_null();
	slots->fds[slots->n] = fd;
	return json_integer((json_int_t)slots->n++);
}

/* All providers of a set would have a job each; there is one provider that copies without a window, so there is one job. */
static const char *set_role(const struct session *s)
{
	return s->n_members ? json_string_value(json_object_get(s->members[0].volume, "Provider")) : "";
}

static void drop_nulls(json_t *object)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
		if (json_is_null(value))
			json_object_del(object, key);
}

static void run_job(struct session *s, const char *op, json_t *members, const struct fd_slots *slots, uint64_t deadline,
		    job_done_fn fn)
{
	struct err err = { 0 };
	size_t i;
	json_t *member;

	json_array_foreach(members, i, member)
		drop_nulls(member);
	s->job = workers_run(s->context->workers, set_role(s), op,
			     json_pack("{ss ss si so}", "Set", s->set, "Host", s->context->machine_id, "MaxCopies",
				       (int)s->context->config->max_copies, "Members", members),
			     slots->fds, slots->n, deadline, fn, s, &err);
	if (!s->job)
		session_fail(s, &err);
}

static json_t *answered_member(const struct session *s, json_t *answer, size_t i)
{
	json_t *row = json_array_get(json_object_get(answer, "Members"), i);
	const char *copy = json_string_value(json_object_get(row, "Copy"));

	return copy && strcmp(copy, s->members[i].copy) == 0 ? row : NULL;
}

static int take_fd(json_t *row, const char *name, int *fds, size_t n_fds)
{
	json_t *index = json_object_get(row, name);
	json_int_t i = json_integer_value(index);

	if (!json_is_integer(index) || i < 0 || (size_t)i >= n_fds)
		return -1;
	return steal_fd(fds[i]);
}

static void bad_answer(struct session *s, const char *op)
{
	struct err err = { 0 };

	err_set(&err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The provider's answer to %s does not fit the request", op);
	session_fail(s, &err);
}

/* The common end of a job: false if the set has failed. */
static bool job_ended(struct session *s, const char *op, const struct err *err)
{
	s->job = NULL;
	session_timeline(s, op, "", s->state_began, clock_now(), err->code ? err->text : "ok");
	if (!err->code)
		return true;
	session_fail(s, err);
	return false;
}

/* ---- prepare ---- */

static void prepared(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;

	if (!job_ended(s, "prepare", err))
		return;
	for (size_t i = 0; i < s->n_members; i++) {
		json_t *row = answered_member(s, answer, i);
		s->members[i].source = take_fd(row, "Source", fds, n_fds);
		s->members[i].store = take_fd(row, "Store", fds, n_fds);
		if (s->members[i].source < 0 || s->members[i].store < 0) {
			bad_answer(s, "prepare");
			return;
		}
	}
	s->flushed = s->outstanding == 0; /* no writer has worked since: nothing to flush again */
	participants_done(s);
}

void copies_prepare(struct session *s)
{
	struct fd_slots none = { .n = 0 };
	json_t *members = json_array();

	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		json_array_append_new(members, json_pack("{ss sO sb}", "Copy", m->copy, "Volume", m->volume, "Repair",
							 m->repair));
	}
	s->created_copies = s->n_members > 0;
	session_save(s); /* a restarted vssd has to know what may be half made */
	if (s->n_members == 0) {
		json_decref(members);
		participants_done(s);
		return;
	}
	run_job(s, "prepare", members, &none, clock_now() + s->context->config->prepare_copies, prepared);
}

/* ---- flush, cut ---- */

static json_t *member_places(struct session *s, struct fd_slots *slots)
{
	json_t *members = json_array();

	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		json_array_append_new(members, json_pack("{ss so so sb}", "Copy", m->copy, "Source",
							 slot(slots, m->source), "Store", slot(slots, m->store),
							 "Repair", m->repair));
	}
	return members;
}

static void flushed(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;

	if (job_ended(s, "flush", err))
		session_post(s, SESSION_EVENT_DONE);
}

void copies_flush(struct session *s)
{
	struct fd_slots slots = { .n = 0 };
	json_t *members;

	if (s->flushed || s->n_members == 0) {
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	members = member_places(s, &slots);
	run_job(s, "flush", members, &slots, clock_now() + s->context->config->prepare_copies, flushed);
}

static void cut_done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;
	struct err late = *err;

	if (err->code == VSS_E_TIMED_OUT)
		err_set(&late, VSS_E_HOLD_WRITES_TIMEOUT, "The copies were not made in time: %.900s", err->text);
	if (!job_ended(s, "cut", &late))
		return;
	for (size_t i = 0; i < s->n_members; i++) {
		json_t *row = answered_member(s, answer, i);
		if (!row) {
			bad_answer(s, "cut");
			return;
		}
		json_decref(s->members[i].cut);
		s->members[i].cut = json_incref(row);
		/* A provider says so where the filesystem in the copy is not clean by itself. */
		if (json_is_false(json_object_get(row, "Clean"))) {
			s->clean = false;
			plan_doubt(s, "The filesystem in the copy of %s is not clean",
				   json_string_value(json_object_get(s->members[i].volume, "Path")));
		}
	}
	session_post(s, SESSION_EVENT_DONE);
}

void copies_cut(struct session *s)
{
	struct fd_slots slots = { .n = 0 };
	uint64_t deadline = clock_now() + s->context->config->cut;
	json_t *members;

	if (s->n_members == 0) {
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	members = member_places(s, &slots);
	run_job(s, "cut", members, &slots, deadline < s->hold_deadline ? deadline : s->hold_deadline, cut_done);
}

/* ---- open, seal ---- */

static void opened(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;
	size_t answered = 0;

	if (!job_ended(s, "open", err))
		return;
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		if (!m->repair)
			continue;
		m->directory = take_fd(json_array_get(json_object_get(answer, "Members"), answered++), "Directory", fds,
				       n_fds);
		if (m->directory < 0) {
			bad_answer(s, "open");
			return;
		}
	}
	session_post(s, SESSION_EVENT_DONE);
}

void copies_open(struct session *s)
{
	struct fd_slots slots = { .n = 0 };
	json_t *members = json_array();

	for (size_t i = 0; i < s->n_members; i++)
		if (s->members[i].repair)
			json_array_append_new(members, json_pack("{ss so}", "Copy", s->members[i].copy, "Store",
								 slot(&slots, s->members[i].store)));
	if (json_array_size(members) == 0) {
		json_decref(members);
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	run_job(s, "open", members, &slots, clock_now() + s->context->config->finish_copies, opened);
}

/* The document that is kept with each copy: the whole set's story, and which of its copies this one is. */
static json_t *member_record(const struct session *s, const struct member *m, json_t *set)
{
	json_t *record = json_copy(set);

	json_object_update_new(record, json_pack("{ss sO so sO*}", "Shadow", m->copy, "Volume", m->volume, "NotIncluded",
						 session_not_included(s), "Cut", m->cut));
	return record;
}

static json_t *writer_documents(const struct session *s)
{
	json_t *writers = session_participant_rows(s);

	for (size_t i = 0; i < s->n_participants; i++) {
		json_t *row = json_array_get(writers, i);
		if (!s->participants[i].takes_part)
			continue;
		json_object_set(row, "Metadata", s->participants[i].writer->metadata);
		json_object_set(row, "Documents", s->participants[i].documents);
	}
	return writers;
}

static json_t *set_document(const struct session *s)
{
	json_t *document = json_pack("{si ss sI sI ss ss ss sb ss ss}", "Version", 1, "Set", s->set, "SetCount",
				     (json_int_t)s->n_members, "Created",
				     (json_int_t)(clock_usec(CLOCK_REALTIME) / USEC_PER_SEC), "Host",
				     s->context->machine_id, "HostName", s->context->host_name, "Session", s->id,
				     "Persistent", s->options.persistent, "Context",
				     s->options.persistent ? "app-rollback" : "backup", "BackupType",
				     s->options.backup_type);

	json_object_update_new(document, plan_label(s));
	json_object_update_new(document, json_pack("{ss so sO sO sO sI}", "Software", "vssd " VSSD_VERSION, "Writers",
						   writer_documents(s), "Timeline", s->timeline, "Attempts",
						   s->attempts, "Warnings", s->warnings, "HoldUsec",
						   (json_int_t)s->hold));
	return document;
}

/* A record that is larger than the provider keeps would fail the set for the sake of what the writers still have: their
 * metadata. Their documents stay. */
static void shorten(json_t *document)
{
	json_t *writer;
	size_t i;

	if (json_dumpb(document, NULL, 0, JSON_COMPACT) < RECORD_ROOM)
		return;
	json_array_foreach(json_object_get(document, "Writers"), i, writer)
		json_object_del(writer, "Metadata");
	json_object_set_new(document, "MetadataOmitted", json_true());
}

static void sealed(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;

	if (!job_ended(s, "seal", err))
		return;
	for (size_t i = 0; i < s->n_members; i++)
		catalogue_add(s->context->catalogue, s->members[i].volume, s->records[i]);
	session_post(s, SESSION_EVENT_DONE);
}

void copies_seal(struct session *s)
{
	struct fd_slots slots = { .n = 0 };
	autojson json_t *set = set_document(s);
	json_t *members = json_array();

	shorten(set);
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		cleanup_close(&m->directory); /* the writers' repairs are over */
		m->directory = -1;
		cleanup_close(&m->source);
		m->source = -1;
		json_decref(s->records[i]);
		s->records[i] = member_record(s, m, set);
		json_array_append_new(members, json_pack("{ss so sb sO}", "Copy", m->copy, "Store",
							 slot(&slots, m->store), "Repair", m->repair, "Record",
							 s->records[i]));
	}
	if (s->n_members == 0) {
		json_decref(members);
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	run_job(s, "seal", members, &slots, clock_now() + s->context->config->finish_copies, sealed);
}

/* ---- abort, remove ---- */

void copies_close_fds(struct session *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		for (int *fd[] = { &m->source, &m->store, &m->directory, NULL }, **f = fd; *f; f++) {
			cleanup_close(*f);
			**f = -1;
		}
	}
}

void copies_cancel(struct session *s)
{
	if (s->job)
		job_cancel(steal_pointer(s->job));
}

static void aborted(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;

	s->job = NULL;
	session_timeline(s, "abort", "", s->state_began, clock_now(), err->code ? err->text : "ok");
	copies_close_fds(s);
	if (err->code)
		json_array_append_new(s->warnings,
				      json_sprintf("Unfinished copies could not be removed and will be later: %s", err->text));
	s->created_copies = err->code != VSS_OK;
	session_post(s, err->code ? SESSION_EVENT_FAIL : SESSION_EVENT_DONE);
}

void copies_abort(struct session *s)
{
	struct fd_slots slots = { .n = 0 };
	json_t *members = json_array();
	struct err err = { 0 };

	if (!s->created_copies) {
		json_decref(members);
		copies_close_fds(s);
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		json_t *row = json_pack("{ss sO so}", "Copy", m->copy, "Volume", m->volume, "Store",
					slot(&slots, m->store));
		drop_nulls(row);
		json_array_append_new(members, row);
		catalogue_forget(s->context->catalogue, m->copy);
	}
	s->job = workers_run(s->context->workers, set_role(s), "abort",
			     json_pack("{ss ss so}", "Set", s->set, "Host", s->context->machine_id, "Members", members),
			     slots.fds, slots.n, clock_now() + s->context->config->finish_copies, aborted, s, &err);
	if (!s->job)
		aborted(&err, NULL, NULL, 0, s);
}

/* vssd may end, and the session with it, before the copy is gone: the session is found by its id. */
struct removal {
	struct session_context *context;
	char session[ID_SIZE];
};

static void removed(const struct err *err, void *data)
{
	autofree struct removal *removal = data;
	struct session *s = session_find(removal->context, removal->session);

	if (err->code)
		log_warning("session %s: a copy stays for now: %s", removal->session, err->text);
	if (!s)
		return;
	s->removing--;
	if (s->state == SESSION_CLOSED) {
		session_post(s, SESSION_EVENT_DONE); /* it waits for this only, to be freed */
		return;
	}
	s->outstanding--;
	participants_done(s);
}

static void remove_copy(struct session *s, const char *copy)
{
	struct removal *removal = malloc(sizeof *removal);

	if (!removal)
		return; /* the next reading of storage sweeps it */
	removal->context = s->context;
	memcpy(removal->session, s->id, ID_SIZE);
	s->outstanding++;
	s->removing++;
	catalogue_remove(s->context->catalogue, copy, removed, removal);
}

/* At the session's end: its volatile copies, and on abort the persistent ones too. */
void copies_remove(struct session *s)
{
	if (s->options.persistent && !s->discard)
		return;
	for (size_t i = 0; i < s->n_members && s->created_copies; i++)
		if (catalogue_has(s->context->catalogue, s->members[i].copy))
			remove_copy(s, s->members[i].copy);
}

/* Of a session taken up after a restart the catalogue may hear only after the session has ended its copies. */
bool copies_remain(const struct session *s)
{
	for (size_t i = 0; i < s->n_members && s->created_copies && !s->options.persistent; i++)
		if (catalogue_has(s->context->catalogue, s->members[i].copy))
			return true;
	return false;
}

json_t *copies_rows(const struct session *s)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < s->n_members; i++) {
		json_t *row = catalogue_row(s->context->catalogue, s->members[i].copy);
		if (row)
			json_array_append_new(rows, row);
	}
	return rows;
}
