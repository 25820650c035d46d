/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/watch/keeper.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "common/names.h"
#include "coordinator/log.h"
#include "coordinator/storage-rules.h"

#define SCAN_EVERY (250 * USEC_PER_MSEC)
#define RETRY_MIN (1 * USEC_PER_SEC) /* where there was nothing that could be done */
#define RETRY_MAX (30 * USEC_PER_SEC)
#define MERGE_EVERY (5 * USEC_PER_SEC) /* whoever began the merge looks each second, and is to be the first */
#define EVENTS_MAX 50u

/* ---- telling ---- */

static void add_event(struct keeper *keeper, const char *object, const char *text)
{
	json_array_append_new(keeper->events,
			      json_pack("{sI ss ss}", "Time", (json_int_t)time(NULL), "Object", object, "Text", text));
	if (json_array_size(keeper->events) > EVENTS_MAX)
		json_array_remove(keeper->events, 0);
}

__attribute__((format(printf, 3, 4))) static void raise_alarm(struct keeper *keeper, struct watched *w,
							      const char *format, ...)
{
	char text[ALARM_SIZE];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof text, format, args);
	va_end(args);
	if (strcmp(text, w->alarm) == 0)
		return;
	memcpy(w->alarm, text, sizeof text);
	log_error("%s: %s", w->name, text);
	add_event(keeper, w->name, text);
}

static void clear_alarm(struct keeper *keeper, struct watched *w)
{
	if (!*w->alarm)
		return;
	w->alarm[0] = '\0';
	log_notice("%s: is well again", w->name);
	add_event(keeper, w->name, "is well again");
}

__attribute__((format(printf, 3, 4))) static void tell(struct keeper *keeper, const struct watched *w,
						       const char *format, ...)
{
	char text[ALARM_SIZE];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof text, format, args);
	va_end(args);
	log_notice("%s: %s", w->name, text);
	add_event(keeper, w->name, text);
}

/* ---- acting ---- */

/* LVM resumes what it has suspended: a volume that the guard holds would be let go. What is held is held for seconds, and
 * there is a list of it. */
static bool is_anything_held(void)
{
	DIR *directory = opendir(VSS_GUARD_DIRECTORY);
	bool held = false;

	if (!directory)
		return false;
	for (const struct dirent *entry; !held && (entry = readdir(directory));)
		held = strncmp(entry->d_name, VSS_GUARD_LIST_PREFIX, strlen(VSS_GUARD_LIST_PREFIX)) == 0;
	closedir(directory);
	return held;
}

/* What was chosen to be done, done. False: it could not be, and the alarm says why. */
static bool act(struct keeper *keeper, struct watched *w, const struct room_choice *choice)
{
	struct err err = { 0 };
	json_t *answer;

	if (choice->kind == ROOM_NONE) {
		raise_alarm(keeper, w, "%s", choice->why);
		return false;
	}
	answer = storage_worker_ask(&keeper->worker, choice->kind == ROOM_EXTEND ? "extend" : "remove",
				    json_incref(choice->request), ROOM_LIMIT, &err);
	json_decref(answer);
	if (!answer) {
		raise_alarm(keeper, w, "%s failed: %.400s", choice->what, err.text);
		return false;
	}
	tell(keeper, w, "%s", choice->what);
	return true;
}

static json_t *read_facts(struct keeper *keeper, struct watched *w)
{
	struct err err = { 0 };
	json_t *facts = storage_worker_ask(&keeper->worker, "storage-list", json_pack("{sb}", "Usage", 1), ROOM_LIMIT, &err);

	if (!facts)
		raise_alarm(keeper, w, "LVM cannot be asked about it: %.400s", err.text);
	return facts;
}

static uint64_t retry_after(const struct fill *fill)
{
	uint64_t after = fill_usec_left(fill) / 4;

	return after < RETRY_MIN ? RETRY_MIN : after > RETRY_MAX ? RETRY_MAX : after;
}

/* One step: extend, or let one copy go; the next look sees what it did. */
static void make_room(struct keeper *keeper, struct watched *w, bool metadata, uint64_t now)
{
	struct room_choice choice = { .kind = ROOM_NONE };

	if (is_anything_held())
		return; /* the next look comes soon */
	autojson json_t *facts = read_facts(keeper, w);

	if (facts && w->is_pool)
		room_for_pool(&choice, facts, w->name, metadata ? &w->meta : &w->fill, metadata,
			      w->status.read_only, &keeper->owner);
	else if (facts)
		room_for_store(&choice, facts, w->name, &w->fill, &keeper->owner);
	if (choice.kind == ROOM_ENOUGH)
		w->enough = w->fill.size;
	w->is_quiet = choice.kind == ROOM_QUIET;
	if (!facts || choice.kind == ROOM_UNKNOWN)
		w->retry = now + RETRY_MIN;
	else if (choice.kind == ROOM_QUIET)
		w->retry = now + RETRY_MAX;
	else if (choice.kind == ROOM_ENOUGH || act(keeper, w, &choice))
		clear_alarm(keeper, w);
	else
		w->retry = now + retry_after(&w->fill);
	room_choice_done(&choice);
}

/* ---- looking ---- */

static void look_at_store(struct keeper *keeper, struct watched *w, uint64_t now)
{
	if (w->status.invalid) {
		raise_alarm(keeper, w, "its store has overflowed, the copy is lost: delete it (vssctl delete shadows)");
		w->due = now + SCAN_EVERY;
		return;
	}
	fill_take(&w->fill, now, w->status.used, w->status.size);
	if (!fill_is_urgent(&w->fill))
		clear_alarm(keeper, w);
	else if (w->is_quiet)
		w->retry = 0;
	if (fill_wants_room(&w->fill) && w->fill.size != w->enough && now >= w->retry)
		make_room(keeper, w, false, now);
	w->due = clock_now() + fill_poll_after(&w->fill);
}

static void count_copies(struct keeper *keeper, struct watched *w)
{
	autojson json_t *facts = read_facts(keeper, w);

	if (!facts)
		return;
	w->copies = room_count_copies(facts, w->name);
	w->asked = w->status.transaction;
}

static void look_at_pool(struct keeper *keeper, struct watched *w, uint64_t now)
{
	bool is_low;

	if (w->status.invalid) {
		raise_alarm(keeper, w, "the pool has failed (dmsetup status, lvs)");
		w->due = now + SCAN_EVERY;
		return;
	}
	if (w->asked != w->status.transaction)
		count_copies(keeper, w);
	fill_take(&w->fill, now, w->status.used, w->status.size);
	fill_take(&w->meta, now, w->status.meta_used, w->status.meta_size);
	if (w->copies > 0 && now >= w->retry) {
		if (fill_below_floor(&w->fill, STORAGE_DATA_FLOOR))
			make_room(keeper, w, false, now);
		if (fill_below_floor(&w->meta, STORAGE_METADATA_FLOOR))
			make_room(keeper, w, true, now);
	}
	is_low = w->copies > 0 && (fill_below_floor(&w->fill, STORAGE_DATA_FLOOR) ||
				   fill_below_floor(&w->meta, STORAGE_METADATA_FLOOR));
	if (!is_low && w->copies > 0 && w->status.read_only)
		raise_alarm(keeper, w, "%s", ROOM_READ_ONLY);
	else if (!is_low)
		clear_alarm(keeper, w);
	w->due = clock_now() + (w->copies ? fill_poll_after(&w->fill) : SCAN_EVERY);
}

/* The kernel merges by itself, but does not end it: without a process of LVM that does, the copy stays as it is, half gone,
 * and its volume takes no other. That process ends with vssd, which does where it has nothing else to do. */
static void look_at_merge(struct keeper *keeper, struct watched *w, uint64_t now)
{
	struct err err = { 0 };
	json_t *answer = NULL;

	if (!w->merging)
		w->merging = now;
	else if ((answer = storage_worker_ask(&keeper->worker, "end-reverts", json_object(), ROOM_LIMIT, &err)))
		clear_alarm(keeper, w);
	else
		raise_alarm(keeper, w, "the merge cannot be brought to its end: %.400s", err.text);
	json_decref(answer);
	w->due = clock_now() + MERGE_EVERY;
}

static void look_at(struct keeper *keeper, struct watched *w, uint64_t now)
{
	if (device_status(w->name, &w->status) && w->status.kind == DEVICE_MERGE) {
		look_at_merge(keeper, w, now);
		return;
	}
	if (w->status.kind == DEVICE_OTHER || (w->status.kind == DEVICE_POOL) != w->is_pool) {
		w->due = now + SCAN_EVERY; /* gone, or of no interest; the next scan knows */
		return;
	}
	if (w->is_pool)
		look_at_pool(keeper, w, now);
	else
		look_at_store(keeper, w, now);
}

/* ---- what there is ---- */

static void see(const char *name, bool is_pool, void *data)
{
	struct keeper *keeper = data;
	struct watched *w = keeper->list;

	while (w && strcmp(w->name, name) != 0)
		w = w->next;
	if (!w) {
		w = calloc(1, sizeof *w);
		if (!w)
			return;
		snprintf(w->name, sizeof w->name, "%s", name);
		w->is_pool = is_pool;
		w->asked = UINT64_MAX;
		w->next = keeper->list;
		keeper->list = w;
	}
	w->present = true;
}

static void scan(struct keeper *keeper)
{
	for (struct watched *w = keeper->list; w; w = w->next)
		w->present = false;
	devices_for_each(see, keeper);
	for (struct watched **link = &keeper->list; *link;) {
		struct watched *w = *link;
		if (w->present) {
			link = &w->next;
			continue;
		}
		*link = w->next;
		free(w);
	}
}

/* The fullest in time first: what is done for one takes a third of a second in which no other is looked at. */
static struct watched *most_urgent(struct keeper *keeper, uint64_t now)
{
	struct watched *found = NULL;

	for (struct watched *w = keeper->list; w; w = w->next)
		if (w->due <= now && (!found || fill_usec_left(&w->fill) < fill_usec_left(&found->fill)))
			found = w;
	return found;
}

uint64_t keeper_turn(struct keeper *keeper, uint64_t now)
{
	uint64_t next;
	struct watched *w;

	if (now >= keeper->next_scan) {
		scan(keeper);
		keeper->next_scan = now + SCAN_EVERY;
	}
	while ((w = most_urgent(keeper, now)))
		look_at(keeper, w, clock_now() > now ? clock_now() : now);
	storage_worker_rest(&keeper->worker, now);
	next = keeper->next_scan;
	for (w = keeper->list; w; w = w->next)
		if (w->due < next)
			next = w->due;
	return next;
}

bool keeper_has_work(const struct keeper *keeper)
{
	for (const struct watched *w = keeper->list; w; w = w->next)
		if (!w->is_pool || w->copies > 0 || w->asked == UINT64_MAX)
			return true;
	return false;
}

static json_t *watched_state(const struct watched *w)
{
	json_t *row = json_pack("{ss ss sI sI sI}", "Device", w->name, "Kind", w->is_pool ? "pool" : "store", "Used",
				(json_int_t)w->fill.used, "Size", (json_int_t)w->fill.size, "Rate",
				(json_int_t)w->fill.rate);

	if (w->is_pool)
		json_object_update_new(row, json_pack("{sI sI sI}", "MetadataUsed", (json_int_t)w->meta.used,
						      "MetadataSize", (json_int_t)w->meta.size, "Copies",
						      (json_int_t)w->copies));
	if (*w->alarm)
		json_object_set_new(row, "Alarm", json_string(w->alarm));
	return row;
}

json_t *keeper_state(const struct keeper *keeper)
{
	json_t *watched = json_array();

	for (const struct watched *w = keeper->list; w; w = w->next)
		if (w->is_pool ? w->copies > 0 : !w->merging)
			json_array_append_new(watched, watched_state(w));
	return json_pack("{si so sO}", "Pid", (int)getpid(), "Watched", watched, "Events", keeper->events);
}

void keeper_done(struct keeper *keeper)
{
	storage_worker_rest(&keeper->worker, UINT64_MAX);
	while (keeper->list) {
		struct watched *w = keeper->list;
		keeper->list = w->next;
		free(w);
	}
	json_decref(keeper->events);
}
