/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the stores of a set's copies go, by the rules of shadow storage: asked of storage when the members are known, before
 * any writer is told. Copies that have to make room are deleted here. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/catalogue.h"
#include "coordinator/log.h"
#include "coordinator/session-internal.h"
#include "coordinator/storage-facts.h"
#include "coordinator/storage-rules.h"

static json_t *member_volumes(const struct session *s)
{
	json_t *volumes = json_array();

	for (size_t i = 0; i < s->n_members; i++)
		json_array_append(volumes, s->members[i].volume);
	return volumes;
}

int plan_check_volumes(const struct session *s, struct err *err)
{
	struct storage_limits limits = storage_limits_of(s->context->config);
	autojson json_t *volumes = member_volumes(s);

	return s->options.hold ? storage_check_held(volumes, err) : storage_check_set(&limits, volumes, err);
}

/* What goes on for a set whose session may end meanwhile: that is found by its id. */
struct inquiry {
	struct session_context *context;
	char session[ID_SIZE], set[ID_SIZE];
};

static struct inquiry *inquiry_new(struct session *s)
{
	struct inquiry *inquiry = malloc(sizeof *inquiry);

	if (!inquiry) {
		session_fail(s, &(struct err){ VSS_E_OUT_OF_MEMORY, "Out of memory for a set" });
		return NULL;
	}
	inquiry->context = s->context;
	memcpy(inquiry->session, s->id, ID_SIZE);
	memcpy(inquiry->set, s->set, ID_SIZE);
	return inquiry;
}

/* NULL: nobody waits for it any more. */
static struct session *session_of(const struct inquiry *inquiry)
{
	struct session *s = session_find(inquiry->context, inquiry->session);

	return s && s->state == SESSION_PLANNING && strcmp(s->set, inquiry->set) == 0 ? s : NULL;
}

/* ---- making room ---- */

static void evicted(const struct err *err, void *data)
{
	autofree struct inquiry *inquiry = data;
	struct session *s = session_of(inquiry);
	struct err failure = *err;

	if (!s)
		return;
	if (failure.code)
		session_fail(s, &failure);
	else if (--s->evicting == 0)
		session_post(s, SESSION_EVENT_DONE);
}

static void evict(struct session *s, const char *copy)
{
	struct inquiry *inquiry = inquiry_new(s);

	if (!inquiry)
		return;
	log_notice("session %s: the shadow copy {%s} is deleted: the shadow storage of its volume is full", s->id, copy);
	json_array_append_new(s->warnings, json_sprintf("The shadow copy {%s} was deleted to make room", copy));
	s->evicting++;
	catalogue_remove(s->context->catalogue, copy, evicted, inquiry);
}

static struct member *member_with(struct session *s, json_t *volume_id)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (json_equal(json_object_get(s->members[i].volume, "Id"), volume_id))
			return &s->members[i];
	return NULL;
}

/* One at least is counted until all are begun: an eviction may end at once. */
static void take_places(struct session *s, json_t *places)
{
	json_t *place, *copy;
	size_t i, j;

	s->evicting = 1;
	json_array_foreach(places, i, place) {
		struct member *m = member_with(s, json_object_get(place, "Id"));
		if (!m)
			continue;
		json_decref(m->place);
		m->place = json_incref(place);
		json_array_foreach(json_object_get(place, "Evict"), j, copy)
			evict(s, json_string_value(copy));
	}
	if (--s->evicting == 0)
		session_post(s, SESSION_EVENT_DONE);
}

/* ---- the facts ---- */

static bool session_lives(const char *id, void *data)
{
	return session_find(data, id) != NULL;
}

/* What another session has just made is its own until that ends, however long it stays. */
static void add_live_sets(const struct session *s, json_t *in_use)
{
	for (const struct session *other = s->context->sessions; other; other = other->next)
		for (size_t i = 0; i < other->n_members; i++)
			json_object_set_new(in_use, other->members[i].copy, json_true());
}

static void facts_read(const struct err *err, json_t *facts, void *data)
{
	autofree struct inquiry *inquiry = data;
	struct session *s = session_of(inquiry);
	struct err failure = *err;

	if (!s)
		return;
	struct storage_limits limits = storage_limits_of(s->context->config);
	autojson json_t *volumes = member_volumes(s), *places = NULL;
	session_timeline(s, "storage", "", s->state_began, clock_now(), failure.code ? failure.text : "ok");
	add_live_sets(s, json_object_get(facts, "InUse"));
	if (failure.code || storage_place(&limits, volumes, facts, &places, &failure) < 0)
		session_fail(s, &failure);
	else
		take_places(s, places);
}

/* Only stores of their own have to be placed; the others' copies lie where the volume lies. */
void plan_storage(struct session *s)
{
	struct storage_source source = { s->context->workers, s->context->catalogue, s->context->config,
					 s->context->machine_id, session_lives, s->context };
	struct inquiry *inquiry;

	if (!window_is_needed(s)) {
		session_post(s, SESSION_EVENT_DONE);
		return;
	}
	inquiry = inquiry_new(s);
	if (inquiry)
		storage_facts_read(&source, false, facts_read, inquiry);
}
