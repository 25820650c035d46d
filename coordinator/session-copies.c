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

json_t *copies_member_row(struct session *s, struct member *m, struct fd_slots *slots)
{
	return json_pack("{ss sO so so sb}", "Copy", m->copy, "Volume", m->volume, "Source", fd_slot(slots, m->source),
			 "Store", fd_slot(slots, m->store), "Repair", m->repair);
}

static void go_on(struct session *s, const struct err *err)
{
	if (err->code)
		session_fail(s, err);
	else
		session_post(s, SESSION_EVENT_DONE);
}

/* ---- prepare ---- */

static int take_places(struct session *s, struct member *m, json_t *row, int *fds, size_t n_fds)
{
	m->source = answer_fd(row, "Source", fds, n_fds);
	m->store = answer_fd(row, "Store", fds, n_fds);
	/* A provider that holds its volumes finds them, and its copies, by their devices. */
	return (m->source >= 0 && m->store >= 0) || member_role(m)->window ? 0 : -1;
}

static void prepared(struct session *s, const struct err *err)
{
	if (err->code) {
		session_fail(s, err);
		return;
	}
	s->flushed &= s->outstanding == 0; /* no writer has worked since: nothing to flush again */
	participants_done(s);
}

static json_t *ask_prepare(struct session *s, struct member *m, struct fd_slots *slots)
{
	json_t *row = copies_member_row(s, m, slots);

	json_object_set(row, "StoreSize", json_object_get(m->place, "StoreSize"));
	json_object_set(row, "Pvs", json_object_get(m->place, "Pvs"));
	json_object_set_new(row, "Flush", json_boolean(s->flushed));
	return row;
}

static const struct copies_op prepare_op = {
	.name = "prepare", .ask = ask_prepare, .take = take_places, .done = prepared
};

/* Of its own, which may fill; those of btrfs fill with their filesystem. */
static bool has_stores(const struct session *s)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (strcmp(json_string_value(json_object_get(s->members[i].volume, "Provider")) ?: "", "lvm") == 0)
			return true;
	return false;
}

void copies_prepare(struct session *s)
{
	s->created_copies = s->n_members > 0 && !s->options.hold;
	session_save(s); /* a restarted vssd has to know what may be half made */
	/* Applications at work wait for each flush: one that writers make stale is left to the op of that name. */
	s->flushed = !writers_hear(s, WRITER_EVENT_PREPARE_SNAPSHOT);
	if (s->created_copies && s->context->watch_storage && has_stores(s))
		s->context->watch_storage(s->context->watch_data);
	copies_run(s, &prepare_op, clock_now() + s->context->config->prepare_copies);
}

/* ---- flush, cut ---- */

/* A set that holds volumes while the copy of a btrfs is made holds them for as long as that takes, which under a heavy
 * stream of writes is long; how long the filesystem takes to flush now is the best sign of it. */
static bool is_too_slow_to_hold_for(const struct session *s, struct err *err)
{
	const struct config *config = s->context->config;

	for (size_t i = 0; i < n_roles && window_is_needed(s); i++) {
		const struct role_job *j = &s->role_jobs[i];
		if (j->n_members == 0 || roles[i].window || j->elapsed <= config->mixed_hold)
			continue;
		err_set(err, VSS_E_HOLD_WRITES_TIMEOUT,
			"%s is written to so much that its copy would hold the set's other volumes for too long: it took %llu ms to "
			"flush, the limit (MixedHoldLimit in vssd.conf) is %llu ms. Copy it in a set of its own, or when there is "
			"less to do",
			json_string_value(json_object_get(j->members[0]->volume, "Path")),
			(unsigned long long)(j->elapsed / USEC_PER_MSEC),
			(unsigned long long)(config->mixed_hold / USEC_PER_MSEC));
		return true;
	}
	return false;
}

static void flushed(struct session *s, const struct err *err)
{
	struct err slow = *err;

	if (!err->code)
		is_too_slow_to_hold_for(s, &slow);
	go_on(s, &slow);
}

static const struct copies_op flush_op = { .name = "flush", .ask = copies_member_row, .done = flushed };

static bool is_mixed(const struct session *s)
{
	for (size_t i = 1; i < s->n_members; i++)
		if (member_role(&s->members[i]) != member_role(&s->members[0]))
			return true;
	return false;
}

void copies_flush(struct session *s)
{
	if (s->flushed && !is_mixed(s))
		session_post(s, SESSION_EVENT_DONE);
	else
		copies_run(s, &flush_op, clock_now() + s->context->config->prepare_copies);
}

/* A provider says so where the filesystem in the copy is not clean by itself. */
static void note_cleanness(struct session *s, const struct member *m, json_t *row)
{
	if (!json_is_false(json_object_get(row, "Clean")))
		return;
	s->clean = false;
	plan_doubt(s, "The filesystem in the copy of %s is not clean",
		   json_string_value(json_object_get(m->volume, "Path")));
}

static int take_cut(struct session *s, struct member *m, json_t *row, int *fds, size_t n_fds)
{
	note_cleanness(s, m, row);
	json_decref(m->cut);
	m->cut = json_incref(row);
	return 0;
}

static void cut_done(struct session *s, const struct err *err)
{
	struct err late = *err;

	if (err->code == VSS_E_TIMED_OUT)
		err_set(&late, VSS_E_HOLD_WRITES_TIMEOUT, "The copies were not made in time: %.900s", err->text);
	go_on(s, &late);
}

static const struct copies_op cut_op = { .name = "cut", .ask = copies_member_row, .take = take_cut, .done = cut_done };

void copies_cut(struct session *s)
{
	uint64_t deadline = clock_now() + s->context->config->cut;

	if (window_is_needed(s))
		window_cut(s);
	else
		copies_run(s, &cut_op, deadline < s->hold_deadline ? deadline : s->hold_deadline);
}

/* ---- open, seal ---- */

/* What has been cut in a window is looked at for the first time now. */
static json_t *ask_open(struct session *s, struct member *m, struct fd_slots *slots)
{
	return m->repair || window_is_needed(s) ? copies_member_row(s, m, slots) : NULL;
}

static int take_opened(struct session *s, struct member *m, json_t *row, int *fds, size_t n_fds)
{
	m->directory = m->repair ? answer_fd(row, "Directory", fds, n_fds) : -1;
	if (json_is_integer(json_object_get(row, "Generation")) && m->cut)
		json_object_set(m->cut, "Generation", json_object_get(row, "Generation"));
	note_cleanness(s, m, row);
	/* What is encrypted above the volume is so in its copy: nobody can look into it, the writers neither. */
	return m->repair && m->directory < 0 && json_is_true(json_object_get(m->volume, "Mounted")) &&
			       !json_object_get(m->volume, "Top")
		   ? -1
		   : 0;
}

static const struct copies_op open_op = { .name = "open", .ask = ask_open, .take = take_opened, .done = go_on };

void copies_open(struct session *s)
{
	copies_run(s, &open_op, clock_now() + s->context->config->finish_copies);
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
	if (window_is_needed(s))
		json_object_set_new(document, "WritesHeldUsec", json_integer((json_int_t)s->writes_held));
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

static json_t **member_slot(struct session *s, const struct member *m)
{
	return &s->records[m - s->members];
}

static json_t *ask_seal(struct session *s, struct member *m, struct fd_slots *slots)
{
	json_t *row = copies_member_row(s, m, slots);

	json_object_set(row, "Record", *member_slot(s, m));
	return row;
}

static struct member *find_member(struct session *s, const char *copy)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (copy && strcmp(s->members[i].copy, copy) == 0)
			return &s->members[i];
	return NULL;
}

/* Where the copies can be reached, if the provider did not know before. */
static int take_sealed(struct session *s, json_t *answer, int *fds, size_t n_fds)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(answer, "Members"), i, row) {
		const struct member *m = find_member(s, json_string_value(json_object_get(row, "Copy")));
		if (m && json_is_string(json_object_get(row, "Device")))
			json_object_set(*member_slot(s, m), "Device", json_object_get(row, "Device"));
	}
	return 0;
}

static void sealed(struct session *s, const struct err *err)
{
	for (size_t i = 0; i < s->n_members && !err->code && !s->options.hold; i++)
		catalogue_add(s->context->catalogue, s->members[i].volume, s->records[i]);
	go_on(s, err);
}

static const struct copies_op seal_op = { .name = "seal", .ask = ask_seal, .take_whole = take_sealed, .done = sealed };

void copies_seal(struct session *s)
{
	autojson json_t *set = set_document(s);

	shorten(set);
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		cleanup_close(&m->directory); /* the writers' repairs are over */
		m->directory = -1;
		cleanup_close(&m->source);
		m->source = -1;
		json_decref(s->records[i]);
		s->records[i] = member_record(s, m, set);
	}
	copies_run(s, &seal_op, clock_now() + s->context->config->finish_copies);
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

static json_t *ask_abort(struct session *s, struct member *m, struct fd_slots *slots)
{
	return json_pack("{ss sO so}", "Copy", m->copy, "Volume", m->volume, "Store", fd_slot(slots, m->store));
}

static void aborted(struct session *s, const struct err *err)
{
	copies_close_fds(s);
	if (err->code)
		json_array_append_new(s->warnings,
				      json_sprintf("Unfinished copies could not be removed and will be later: %s", err->text));
	s->created_copies = err->code != VSS_OK;
	session_post(s, err->code ? SESSION_EVENT_FAIL : SESSION_EVENT_DONE);
}

static const struct copies_op abort_op = { .name = "abort", .patient = true, .ask = ask_abort, .done = aborted };

void copies_abort(struct session *s)
{
	if (!s->created_copies) {
		copies_close_fds(s);
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	for (size_t i = 0; i < s->n_members; i++)
		catalogue_forget(s->context->catalogue, s->members[i].copy);
	copies_run(s, &abort_op, clock_now() + s->context->config->finish_copies);
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
