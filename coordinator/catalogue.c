/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/catalogue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/names.h"
#include "common/text.h"
#include "coordinator/log.h"
#include "coordinator/roles.h"
#include "coordinator/shadow-row.h"
#include "coordinator/shadow-table.h"

#define SETTLE_TIME (1 * USEC_PER_SEC) /* a burst of mounts is read once */
#define PATIENCE_MAX (60 * USEC_PER_SEC) /* between attempts to remove a volatile copy that somebody uses */

struct waiter {
	struct waiter *next;
	catalogue_fn fn;
	void *data;
};

/* What one provider tells of its storage. */
struct reading {
	struct catalogue *catalogue;
	const struct role_info *role;
	struct job *job;
	json_t *answer; /* NULL: it could not tell */
	struct err err;
};

struct catalogue {
	struct workers *workers;
	const struct config *config;
	const char *machine_id;
	struct catalogue_listener listener;
	struct shadow_table table;
	struct reading readings[ROLES_MAX];
	size_t reading; /* jobs of the reading under way; 0: none is */
	struct waiter *waiters, *next_waiters; /* of this reading; of the one after it */
	sd_event_source *settle;
	uint64_t patience; /* until the next attempt to remove what is in use */
	size_t removals;
	json_t *tokens; /* {filesystem: token} of those that were read whole and hold nothing unfinished */
	bool brief;     /* the reading under way only asks which of them have changed */
	bool ending;
	bool added; /* a copy was made while storage was being read: what its tokens tell may be older */
	bool stale; /* a copy went, or was exposed, while storage was being read: what was read may be older */
};

static int settled(sd_event_source *source, uint64_t usec, void *data)
{
	struct catalogue *catalogue = data;

	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	catalogue_refresh(catalogue, NULL, NULL);
	return 0;
}

struct catalogue *catalogue_new(sd_event *event, struct workers *workers, const struct config *config,
				const char *machine_id, const struct catalogue_listener *listener)
{
	struct catalogue *catalogue = calloc(1, sizeof *catalogue);

	if (!catalogue)
		return NULL;
	*catalogue = (struct catalogue){
		.workers = workers, .config = config, .machine_id = machine_id, .listener = *listener, .patience = SETTLE_TIME
	};
	catalogue->tokens = json_object();
	if (!catalogue->tokens ||
	    sd_event_add_time(event, &catalogue->settle, CLOCK_MONOTONIC, USEC_INFINITY, 0, settled, catalogue) < 0)
		return catalogue_free(catalogue);
	sd_event_source_set_enabled(catalogue->settle, SD_EVENT_OFF);
	return catalogue;
}

static void tell(struct waiter **list, const struct err *err)
{
	while (*list) {
		struct waiter *w = *list;
		*list = w->next;
		w->fn(err, w->data);
		free(w);
	}
}

static void forget_answers(struct catalogue *catalogue)
{
	for (size_t i = 0; i < n_roles; i++) {
		json_decref(catalogue->readings[i].answer);
		catalogue->readings[i] = (struct reading){ 0 };
	}
}

struct catalogue *catalogue_free(struct catalogue *catalogue)
{
	struct err err = { 0 };

	if (!catalogue)
		return NULL;
	err_set(&err, VSS_E_CANCELLED, "vssd is ending");
	catalogue->ending = true;
	for (size_t i = 0; i < n_roles; i++)
		if (catalogue->readings[i].job)
			job_cancel(catalogue->readings[i].job);
	tell(&catalogue->waiters, &err);
	tell(&catalogue->next_waiters, &err);
	sd_event_source_disable_unref(catalogue->settle);
	forget_answers(catalogue);
	json_decref(catalogue->tokens);
	shadow_table_done(&catalogue->table);
	free(catalogue);
	return NULL;
}

/* ---- rows ---- */

static const char *text_of(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

static struct shadow *put_row(struct catalogue *catalogue, const char *copy, const char *token, json_t *row)
{
	bool is_new = !shadow_table_find(&catalogue->table, copy);
	struct shadow *s = shadow_table_put(&catalogue->table, copy, token, row);

	if (s && is_new)
		catalogue->listener.added(copy, catalogue->listener.data);
	return s;
}

void catalogue_add(struct catalogue *catalogue, json_t *volume, json_t *record)
{
	const char *copy = text_of(record, "Shadow");
	const struct role_info *role = role_find(text_of(volume, "Provider"));

	if (!role)
		return;
	/* A token tells what is there, not when: without this copy it will be again as it was before. */
	json_object_del(catalogue->tokens, text_of(volume, role->home));
	catalogue->added = catalogue->added || catalogue->reading > 0;
	put_row(catalogue, copy, NULL, shadow_row(catalogue->machine_id, role, copy, text_of(volume, role->home), record));
}

void catalogue_forget(struct catalogue *catalogue, const char *copy)
{
	struct shadow *s = shadow_table_find(&catalogue->table, copy);
	char id[ID_SIZE]; /* copy may be the row's own */

	if (!s)
		return;
	catalogue->stale = catalogue->stale || catalogue->reading > 0;
	memcpy(id, s->id, ID_SIZE);
	shadow_table_remove(&catalogue->table, s);
	catalogue->listener.removed(id, catalogue->listener.data);
}

bool catalogue_has(const struct catalogue *catalogue, const char *copy)
{
	return shadow_table_find(&catalogue->table, copy) != NULL;
}

size_t catalogue_count(const struct catalogue *catalogue)
{
	size_t n = 0;

	for (const struct shadow *s = catalogue->table.first; s; s = s->next)
		n++;
	return n;
}

json_t *catalogue_row(const struct catalogue *catalogue, const char *copy)
{
	struct shadow *s = shadow_table_find(&catalogue->table, copy);

	return s ? json_incref(s->row) : NULL;
}

json_t *catalogue_rows(const struct catalogue *catalogue, json_t *filter)
{
	json_t *rows = json_array();

	for (const struct shadow *s = catalogue->table.first; s; s = s->next)
		if (shadow_fits(s, filter))
			json_array_append(rows, s->row);
	return rows;
}

char *catalogue_text(const struct catalogue *catalogue, json_t *filter, bool brief)
{
	return shadow_table_text(&catalogue->table, filter, brief);
}

void catalogue_set_exposed(struct catalogue *catalogue, const char *copy, const char *path)
{
	struct shadow *s = shadow_table_find(&catalogue->table, copy);

	if (s)
		shadow_set_exposed(s, path);
	catalogue->stale = catalogue->stale || catalogue->reading > 0;
}

static bool is_of(const struct shadow *shadow, const struct role_info *role, const char *filesystem)
{
	return strcmp(text_of(shadow->row, "Provider"), role->name) == 0 &&
	       (!filesystem || strcmp(text_of(shadow->row, "Filesystem"), filesystem) == 0);
}

/* ---- clones: what was copied block by block has the same copies, by the same ids (vgimportclone leaves LVM's tags alone) ---- */

static const char *twin_of(const struct shadow *shadow)
{
	return text_of(shadow->twin, "Filesystem");
}

/* The provider has found it in the reading under way. */
static bool is_there(const struct catalogue *catalogue, const char *filesystem)
{
	json_t *entry;
	size_t i;

	for (size_t r = 0; r < n_roles; r++)
		json_array_foreach(json_object_get(catalogue->readings[r].answer, "Filesystems"), i, entry)
			if (strcmp(text_of(entry, "Uuid"), filesystem) == 0)
				return true;
	return false;
}

static void note_twin(struct shadow *shadow, const char *filesystem, json_t *record)
{
	const char *device = text_of(record, "Device");

	json_decref(shadow->twin);
	shadow->twin = json_pack("{ss ss}", "Filesystem", filesystem, "Device", *device ? device : filesystem);
	log_warning("there are two copies {%s}, %s and %s: one is a clone's", shadow->id, text_of(shadow->row, "Device"),
		    text_of(shadow->twin, "Device"));
}

/* Of filesystem; of all that are not there any more when it is NULL. */
static void forget_twins(struct catalogue *catalogue, const char *filesystem)
{
	for (struct shadow *s = catalogue->table.first; s; s = s->next) {
		if (!s->twin || (filesystem ? strcmp(twin_of(s), filesystem) != 0 : is_there(catalogue, twin_of(s))))
			continue;
		json_decref(s->twin);
		s->twin = NULL;
	}
}

/* ---- reading storage ---- */

static void forget_unseen(struct catalogue *catalogue)
{
	struct shadow *s = catalogue->table.first;

	while (s) {
		struct shadow *next = s->next;
		if (!s->seen && s->twin) /* the other one is listed when its storage is read the next time */
			json_object_del(catalogue->tokens, twin_of(s));
		if (!s->seen)
			catalogue_forget(catalogue, s->id);
		s = next;
	}
}

/* Unreadable now is not gone. filesystem NULL: all of the provider's. */
static void mark_seen(struct catalogue *catalogue, const struct role_info *role, const char *filesystem)
{
	for (struct shadow *s = catalogue->table.first; s; s = s->next)
		if (is_of(s, role, filesystem))
			s->seen = true;
}

static void read_copy(struct catalogue *catalogue, const struct role_info *role, const char *filesystem, json_t *entry)
{
	const char *copy = json_string_value(json_object_get(entry, "Copy"));
	json_t *record = json_object_get(entry, "Record");
	const char *error = json_string_value(json_object_get(entry, "Error"));
	struct shadow *s = copy ? shadow_table_find(&catalogue->table, copy) : NULL;
	json_t *row;

	if (!copy || !id_is_valid(copy))
		return;
	if (!record && !error) {
		if (s) {
			s->seen = true;
			shadow_set_exposed(s, text_of(entry, "Exposed"));
		}
		return;
	}
	if (s && strcmp(text_of(s->row, "Filesystem"), filesystem) != 0 &&
	    is_there(catalogue, text_of(s->row, "Filesystem"))) {
		note_twin(s, filesystem, record);
		return;
	}
	if (!error)
		row = shadow_row(catalogue->machine_id, role, copy, filesystem, record);
	else if (record)
		row = shadow_row_damaged(catalogue->machine_id, role, copy, filesystem, record, error);
	else
		row = shadow_row_broken(catalogue->machine_id, role, copy, filesystem, "", "", error);
	s = put_row(catalogue, copy, text_of(entry, "Token"), row);
	if (s)
		shadow_set_exposed(s, text_of(entry, "Exposed"));
}

static void swept(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct catalogue *catalogue = data;

	catalogue->removals--;
}

/* What was unfinished when storage was looked at may be finished, and its session closed, when all of it has been read. */
static bool is_finished(const struct catalogue *catalogue, const char *copy)
{
	const struct shadow *s = shadow_table_find(&catalogue->table, copy);

	return s && strcmp(text_of(s->row, "State"), "created") == 0;
}

/* An unfinished copy of ours without a set that is being made was left by a crash. Another machine's is listed, no more. */
static void read_unfinished(struct catalogue *catalogue, const struct role_info *role, const char *filesystem,
			    json_t *entry)
{
	const char *copy = text_of(entry, "Copy"), *host = text_of(entry, "Host"), *set = text_of(entry, "Set");
	json_t *request;

	if (!id_is_valid(copy) || is_finished(catalogue, copy))
		return;
	if (strcmp(host, catalogue->machine_id) != 0) {
		put_row(catalogue, copy, NULL,
			shadow_row_broken(catalogue->machine_id, role, copy, filesystem, host, set,
					  "Another machine's unfinished copy"));
		return;
	}
	if (catalogue->listener.set_lives(set, catalogue->listener.data))
		return;
	request = json_pack("{ss s[{ss ss}]}", "Host", catalogue->machine_id, "Members", "Copy", copy, "Filesystem",
			    filesystem);
	if (workers_run(catalogue->workers, role->name, "abort", request, NULL, 0,
			clock_now() + catalogue->config->remove_copies, swept, catalogue, NULL))
		catalogue->removals++;
}

/* What is unfinished has to be looked at each time: it may be swept once its set has ended. */
static void keep_token(struct catalogue *catalogue, json_t *filesystem)
{
	json_t *token = json_object_get(filesystem, "Token");

	if (token && !catalogue->added && json_array_size(json_object_get(filesystem, "Unfinished")) == 0)
		json_object_set(catalogue->tokens, text_of(filesystem, "Uuid"), token);
}

static void read_filesystem(struct catalogue *catalogue, const struct role_info *role, json_t *filesystem)
{
	const char *uuid = text_of(filesystem, "Uuid");
	size_t i;
	json_t *entry;

	if (json_object_get(filesystem, "Error")) {
		mark_seen(catalogue, role, uuid);
		return;
	}
	keep_token(catalogue, filesystem);
	if (json_is_true(json_object_get(filesystem, "Unchanged"))) {
		mark_seen(catalogue, role, uuid);
		return;
	}
	forget_twins(catalogue, uuid);
	json_array_foreach(json_object_get(filesystem, "Copies"), i, entry)
		read_copy(catalogue, role, uuid, entry);
	json_array_foreach(json_object_get(filesystem, "Unfinished"), i, entry)
		read_unfinished(catalogue, role, uuid, entry);
}

static void nothing(const struct err *err, void *data)
{
}

static void sweep_volatile(struct catalogue *catalogue)
{
	struct shadow *s = catalogue->table.first;

	while (s) {
		struct shadow *next = s->next;
		const char *session = text_of(s->row, "Session");
		if (!json_is_true(json_object_get(s->row, "Persistent")) && !s->removing &&
		    strcmp(text_of(s->row, "State"), "created") == 0 &&
		    !catalogue->listener.session_lives(session, catalogue->listener.data))
			catalogue_remove(catalogue, s->id, nothing, NULL);
		s = next;
	}
}

static void start_reading(struct catalogue *catalogue, bool brief);

/* Drops the tokens of filesystems that have changed; false if there are such. */
static bool are_unchanged(struct catalogue *catalogue)
{
	json_t *filesystem;
	bool unchanged = true;
	size_t i;

	for (size_t r = 0; r < n_roles; r++) {
		json_array_foreach(json_object_get(catalogue->readings[r].answer, "Filesystems"), i, filesystem) {
			if (json_is_true(json_object_get(filesystem, "Unchanged")) || json_object_get(filesystem, "Error"))
				continue;
			json_object_del(catalogue->tokens, text_of(filesystem, "Uuid"));
			unchanged = false;
		}
	}
	return unchanged;
}

static void take_answers(struct catalogue *catalogue)
{
	size_t i;
	json_t *filesystem;

	/* Those of filesystems that are not there go: their copies are forgotten, and have to be read if they come back. */
	json_object_clear(catalogue->tokens);
	for (size_t r = 0; r < n_roles; r++) {
		struct reading *reading = &catalogue->readings[r];
		if (!reading->answer)
			mark_seen(catalogue, &roles[r], NULL);
		json_array_foreach(json_object_get(reading->answer, "Filesystems"), i, filesystem)
			read_filesystem(catalogue, &roles[r], filesystem);
	}
	forget_twins(catalogue, NULL);
	forget_unseen(catalogue);
	sweep_volatile(catalogue);
}

/* One provider that cannot tell does not hide what the others have; what is known of its own stays. */
static void failure_of(const struct catalogue *catalogue, struct err *ret)
{
	size_t failed = 0;

	*ret = (struct err){ 0 };
	for (size_t i = 0; i < n_roles; i++) {
		const struct reading *reading = &catalogue->readings[i];
		if (!reading->err.code)
			continue;
		failed++;
		*ret = reading->err;
		if (reading->err.code != VSS_E_CANCELLED)
			log_warning("the copies of the provider %s could not be read: %s", reading->role->name,
				    reading->err.text);
	}
	if (failed < n_roles)
		*ret = (struct err){ 0 };
}

static void end_reading(struct catalogue *catalogue)
{
	struct waiter *waiters;
	struct err err;

	failure_of(catalogue, &err);
	if (!err.code && (catalogue->stale || (catalogue->brief && !are_unchanged(catalogue)))) {
		start_reading(catalogue, false);
		return;
	}
	waiters = steal_pointer(catalogue->waiters);
	if (!err.code)
		take_answers(catalogue);
	tell(&waiters, &err);
	if (err.code != VSS_E_CANCELLED && catalogue->next_waiters) {
		catalogue->waiters = steal_pointer(catalogue->next_waiters);
		start_reading(catalogue, true);
	}
}

static void read_done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct reading *reading = data;
	struct catalogue *catalogue = reading->catalogue;

	reading->job = NULL;
	reading->err = *err;
	reading->answer = err->code ? NULL : json_incref(answer);
	if (--catalogue->reading == 0 && !catalogue->ending)
		end_reading(catalogue);
}

static json_t *known_tokens(struct catalogue *catalogue, const struct role_info *role)
{
	json_t *known = json_object();

	for (struct shadow *s = catalogue->table.first; s; s = s->next) {
		const char *filesystem = text_of(s->row, "Filesystem");
		json_t *tokens = json_object_get(known, filesystem);
		if (!s->token || !is_of(s, role, NULL) || json_object_get(catalogue->tokens, filesystem))
			continue;
		if (!tokens) {
			tokens = json_object();
			json_object_set_new(known, filesystem, tokens);
		}
		json_object_set_new(tokens, s->id, json_string(s->token));
	}
	return known;
}

/* First only the question whether anything has changed, where nothing else is known to have: for many copies that is
 * one token in place of one for each. */
static json_t *reading_request(struct catalogue *catalogue, const struct role_info *role)
{
	if (catalogue->brief)
		return json_pack("{ss sO sb}", "Host", catalogue->machine_id, "Tokens", catalogue->tokens, "Brief", 1);
	return json_pack("{ss sO so}", "Host", catalogue->machine_id, "Tokens", catalogue->tokens, "Known",
			 known_tokens(catalogue, role));
}

static void start_reading_role(struct catalogue *catalogue, struct reading *reading, const struct role_info *role)
{
	*reading = (struct reading){ .catalogue = catalogue, .role = role };
	reading->job = workers_run(catalogue->workers, role->name, "list", reading_request(catalogue, role), NULL, 0,
				   clock_now() + catalogue->config->finish_copies, read_done, reading, &reading->err);
	catalogue->reading += reading->job != NULL;
}

static void start_reading(struct catalogue *catalogue, bool brief)
{
	struct waiter *waiters, *next;
	struct err err;

	catalogue->stale = false;
	catalogue->added = false;
	catalogue->brief = brief && json_object_size(catalogue->tokens) > 0;
	for (struct shadow *s = catalogue->table.first; s; s = s->next)
		s->seen = false;
	forget_answers(catalogue);
	for (size_t i = 0; i < n_roles; i++)
		start_reading_role(catalogue, &catalogue->readings[i], &roles[i]);
	if (catalogue->reading > 0)
		return;
	failure_of(catalogue, &err);
	/* Those of a reading that had to be repeated, and those who came meanwhile. */
	waiters = steal_pointer(catalogue->waiters);
	next = steal_pointer(catalogue->next_waiters);
	tell(&waiters, &err);
	tell(&next, &err);
}

void catalogue_refresh(struct catalogue *catalogue, catalogue_fn fn, void *data)
{
	struct waiter *w = malloc(sizeof *w), **list;
	struct err err = { 0 };

	if (!w) {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for reading the catalogue");
		if (fn)
			fn(&err, data);
		return;
	}
	/* A reading under way may have passed what the caller wants to see: he gets the next one. */
	list = catalogue->reading ? &catalogue->next_waiters : &catalogue->waiters;
	*w = (struct waiter){ *list, fn ? fn : nothing, data };
	*list = w;
	if (!catalogue->reading)
		start_reading(catalogue, true);
}

static void refresh_in(struct catalogue *catalogue, uint64_t usec)
{
	int enabled = SD_EVENT_OFF;

	sd_event_source_get_enabled(catalogue->settle, &enabled);
	if (enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time(catalogue->settle, clock_now() + usec);
	sd_event_source_set_enabled(catalogue->settle, SD_EVENT_ONESHOT);
}

void catalogue_storage_changed(struct catalogue *catalogue)
{
	refresh_in(catalogue, SETTLE_TIME);
}

bool catalogue_is_busy(const struct catalogue *catalogue)
{
	return catalogue->reading > 0 || catalogue->removals > 0;
}

/* ---- work on copies ---- */

struct removal {
	struct catalogue *catalogue;
	char copy[ID_SIZE];
	catalogue_fn fn;
	void *data;
};

/* A volatile copy that could not be removed (a backup's command that was left behind has it mounted, say) is swept later:
 * no mount or unmount in another namespace would tell when. */
static void remove_later(struct catalogue *catalogue, const struct shadow *shadow)
{
	if (json_is_true(json_object_get(shadow->row, "Persistent")))
		return;
	refresh_in(catalogue, catalogue->patience);
	catalogue->patience = catalogue->patience * 2 < PATIENCE_MAX ? catalogue->patience * 2 : PATIENCE_MAX;
}

static void remove_done(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct removal *r = data;
	struct shadow *s = shadow_table_find(&r->catalogue->table, r->copy);

	r->catalogue->removals--;
	if (s)
		s->removing = false;
	/* Not there any more is what was asked for. */
	if (!err->code || err->code == VSS_E_OBJECT_NOT_FOUND) {
		r->catalogue->patience = SETTLE_TIME;
		catalogue_forget(r->catalogue, r->copy);
	} else if (s && err->code != VSS_E_CANCELLED) {
		remove_later(r->catalogue, s);
	}
	r->fn(err->code == VSS_E_OBJECT_NOT_FOUND ? &(struct err){ 0 } : err, r->data);
	free(r);
}

struct job *catalogue_run(struct catalogue *catalogue, const char *copy, const char *op, json_t *request, job_done_fn fn,
			  void *data, struct err *err)
{
	struct shadow *s = shadow_table_find(&catalogue->table, copy);
	json_t *full = request ? request : json_object();

	if (!s) {
		json_decref(full);
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "There is no shadow copy {%s}", copy);
		return NULL;
	}
	if (s->twin) {
		json_decref(full);
		err_set(err, VSS_E_BAD_STATE,
			"There are two shadow copies {%s}, %s and %s: one of them is in a clone (vgimportclone leaves the marks of "
			"copies). Export the group that is not meant (vgexport), or remove its vss-* volumes",
			copy, text_of(s->row, "Device"), text_of(s->twin, "Device"));
		return NULL;
	}
	json_object_set_new(full, "Copy", json_string(copy));
	json_object_set(full, "Filesystem", json_object_get(s->row, "Filesystem"));
	json_object_set_new(full, "Host", json_string(catalogue->machine_id));
	return workers_run(catalogue->workers, text_of(s->row, "Provider"), op, full, NULL, 0,
			   clock_now() + (strcmp(op, "remove") == 0 ? catalogue->config->remove_copies :
								      catalogue->config->finish_copies),
			   fn, data, err);
}

void catalogue_remove(struct catalogue *catalogue, const char *copy, catalogue_fn fn, void *data)
{
	struct removal *r = calloc(1, sizeof *r);
	struct shadow *s = shadow_table_find(&catalogue->table, copy);
	struct err err = { 0 };

	if (r)
		*r = (struct removal){ .catalogue = catalogue, .fn = fn, .data = data };
	if (r && s && *text_of(s->row, "Exposed")) {
		err_set(&err, VSS_E_VOLUME_IN_USE, "The copy {%s} is exposed at %s: unexpose it first", copy,
			text_of(s->row, "Exposed"));
	} else if (r) {
		snprintf(r->copy, ID_SIZE, "%s", copy);
		if (catalogue_run(catalogue, copy, "remove", NULL, remove_done, r, &err)) {
			catalogue->removals++;
			s->removing = true;
			return;
		}
	} else {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for deleting the copy {%s}", copy);
	}
	fn(&err, data);
	free(r);
}
