/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shadow storage on the bus: associations as lists and objects; making, resizing and deleting them. What may be is decided
 * by storage-rules.c, what is known is asked of storage each time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/names.h"
#include "common/size.h"
#include "coordinator/faces.h"
#include "coordinator/log.h"
#include "coordinator/storage-facts.h"
#include "coordinator/storage-rules.h"

static const char *text_of(json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

/* ---- associations as objects ---- */

/* As of the last reading: storage itself is asked by ListShadowStorage. */
struct storage_face {
	struct storage_face *next;
	struct coordinator *coordinator;
	char path[sizeof VSS_STORAGE_PATH + ID_HEX_SIZE];
	json_t *row;
	bool seen;
};

static json_t *face_member(struct storage_face *face, const char *name)
{
	json_t *value = json_object_get(face->row, name);

	return value ? json_incref(value) : json_string("");
}

#define GETTER(name)                               \
	static json_t *get_##name(void *object)    \
	{                                          \
		return face_member(object, #name); \
	}
GETTER(For)
GETTER(Volume)
GETTER(On)
GETTER(OnName)
#undef GETTER

/* -1: unknown, or for Max unbounded. */
#define GETTER(name)                                                                      	static json_t *get_##name(void *object)                                           	{                                                                                 		json_t *value = json_object_get(((struct storage_face *)object)->row, #name); 		return json_integer(value ? json_integer_value(value) : -1);              	}
GETTER(Max)
GETTER(Used)
GETTER(Allocated)
GETTER(Size)
GETTER(Copies)
#undef GETTER

#define GETTER(name)                                                                               	static json_t *get_##name(void *object)                                                    	{                                                                                          		json_t *value = json_object_get(((struct storage_face *)object)->row, #name);      		return json_boolean(json_is_true(value));                                          	}
GETTER(Explicit)
GETTER(Guaranteed)
#undef GETTER

static const struct bus_property storage_properties[] = {
	{ "For", "s", get_For, true },
	{ "Volume", "s", get_Volume, true },
	{ "On", "s", get_On, true },
	{ "OnName", "s", get_OnName, true },
	{ "Max", "x", get_Max, true },
	{ "Used", "x", get_Used, true },
	{ "Allocated", "x", get_Allocated, true },
	{ "Size", "x", get_Size, true },
	{ "Copies", "x", get_Copies, true },
	{ "Explicit", "b", get_Explicit, true },
	{ "Guaranteed", "b", get_Guaranteed, true },
	{ NULL },
};

static void face_resize(struct bus_call *call, void *object);
static void face_delete(struct bus_call *call, void *object);

static const struct bus_method storage_methods[] = {
	{ "Resize", "sa{sv}", "", "max_size options", "", face_resize },
	{ "Delete", "a{sv}", "", "options", "", face_delete },
	{ NULL },
};

const struct bus_interface storage_interface = { VSS_IFACE_STORAGE, storage_methods, storage_properties, NULL };

static const struct bus_interface *const storage_interfaces[] = { &storage_interface, NULL };

/* Object paths are made of the volume's id, so that they stay the same as long as the volume is that: two of FNV-1a. */
static void object_path(const char *volume_id, char path[sizeof VSS_STORAGE_PATH + ID_HEX_SIZE])
{
	uint64_t a = UINT64_C(0xcbf29ce484222325), b = UINT64_C(0x9ae16a3b2f90404f);

	for (const char *at = volume_id; *at; at++) {
		a = (a ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
		b = (b ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
	}
	snprintf(path, sizeof VSS_STORAGE_PATH + ID_HEX_SIZE, "%s/%016" PRIx64 "%016" PRIx64, VSS_STORAGE_PATH, a, b);
}

static struct storage_face *find_face(struct coordinator *c, const char *path)
{
	struct storage_face *face = c->storage_faces;

	while (face && strcmp(face->path, path) != 0)
		face = face->next;
	return face;
}

static void face_free(struct storage_face *face)
{
	json_decref(face->row);
	free(face);
}

static void take_row(struct coordinator *c, json_t *row)
{
	char path[sizeof VSS_STORAGE_PATH + ID_HEX_SIZE];
	struct storage_face *face;

	object_path(text_of(row, "For"), path);
	face = find_face(c, path);
	if (!face) {
		face = calloc(1, sizeof *face);
		if (!face)
			return;
		face->coordinator = c;
		memcpy(face->path, path, sizeof path);
		face->next = c->storage_faces;
		c->storage_faces = face;
		face->row = json_incref(row);
		bus_export(c->bus, path, storage_interfaces, face, NULL);
	}
	json_incref(row);
	json_decref(face->row);
	face->row = row;
	face->seen = true;
}

/* Brings the objects up to what has just been read. */
static void take_rows(struct coordinator *c, json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
		take_row(c, row);
	for (struct storage_face **link = &c->storage_faces; *link;) {
		struct storage_face *face = *link;
		if (face->seen) {
			face->seen = false;
			link = &face->next;
			continue;
		}
		*link = face->next;
		bus_unexport(c->bus, face->path);
		face_free(face);
	}
}

void storage_faces_free(struct coordinator *coordinator)
{
	while (coordinator->storage_faces) {
		struct storage_face *face = coordinator->storage_faces;
		coordinator->storage_faces = face->next;
		face_free(face);
	}
}

/* ---- one request ---- */

enum wish { WISH_LIST, WISH_CANDIDATES, WISH_ADD, WISH_RESIZE, WISH_DELETE };

struct storage_call {
	struct coordinator *coordinator;
	struct bus_call *call;
	enum wish wish;
	char *for_path, *on, *max; /* as given; NULL for not */
	json_t *guaranteed;	   /* boolean, or NULL: as it is */
	json_t *volume, *on_volume, *facts;
	json_t *evicted; /* copies that a smaller size costs, oldest first */
	bool is_set;	 /* done: only the objects are to be brought up to date */
};

static void end(struct storage_call *k, const struct err *err)
{
	if (err)
		bus_call_error(k->call, err);
	free(k->for_path);
	free(k->on);
	free(k->max);
	json_decref(k->guaranteed);
	json_decref(k->volume);
	json_decref(k->on_volume);
	json_decref(k->facts);
	json_decref(k->evicted);
	free(k);
}

static bool session_lives(const char *session, void *data)
{
	struct coordinator *c = data;

	return session_find(&c->sessions, session) != NULL;
}

static struct storage_source source_of(struct coordinator *c)
{
	return (struct storage_source){ c->workers, c->catalogue, &c->config, c->machine_id, session_lives, c };
}

static struct storage_call *begin(struct coordinator *c, struct bus_call *call, enum wish wish, const char *for_path,
				  const char *on)
{
	struct storage_call *k = calloc(1, sizeof *k);
	json_t *options = call_options(call);
	const char *max = json_string_value(json_object_get(options, "MaxSize"));

	if (!k) {
		call_fail(call, VSS_E_OUT_OF_MEMORY, "Out of memory for shadow storage");
		return NULL;
	}
	*k = (struct storage_call){ .coordinator = c,
				    .call = call,
				    .wish = wish,
				    .for_path = for_path ? strdup(for_path) : NULL,
				    .on = on ? strdup(on) : NULL,
				    .max = max ? strdup(max) : NULL,
				    .guaranteed = json_incref(json_object_get(options, "Guaranteed")) };
	return k;
}

/* ---- which store is meant ---- */

static char *own_store(json_t *volume)
{
	const char *provider = text_of(volume, "Provider");
	const char *kind = strcmp(provider, "btrfs") == 0 ? "fs" : *text_of(volume, "PoolUuid") ? "pool" : "vg";
	const char *uuid = text_of(volume, strcmp(kind, "fs") == 0     ? "FsUuid" :
					   strcmp(kind, "pool") == 0 ? "PoolUuid" :
								       "VgUuid");
	char *id;

	return asprintf(&id, "%s:%s", kind, uuid) < 0 ? NULL : id;
}

static bool is_named(json_t *store, const char *text)
{
	const char *name = text_of(store, "Name");

	return strcmp(text, name) == 0 || strcmp(text, text_of(store, "Id")) == 0 ||
	       (strncmp(text, "/dev/", 5) == 0 && strcmp(text + 5, name) == 0);
}

/* A physical volume by whichever of its names. */
static bool is_device(json_t *store, json_t *volume)
{
	json_t *layer = json_array_get(json_object_get(volume, "Layers"), 0);
	const char *number = text_of(store, "Number");

	return *number && !json_is_true(json_object_get(volume, "Mounted")) && strcmp(number, text_of(layer, "Number")) == 0;
}

/* By name or id; a path stands for the storage of the volume that it leads to: VSS names storage by volumes. */
static json_t *find_store(struct storage_call *k)
{
	autojson json_t *stores = storage_candidates(k->facts);
	json_t *store, *by = k->on && *k->on ? k->on_volume : k->volume;
	autofree char *id = by ? own_store(by) : NULL;
	size_t i;

	json_array_foreach(stores, i, store)
		if (k->on && (is_named(store, k->on) || (k->on_volume && is_device(store, k->on_volume))))
			return json_incref(store);
	json_array_foreach(stores, i, store)
		if (id && strcmp(text_of(store, "Id"), id) == 0)
			return json_incref(store);
	return NULL;
}

static int unknown_store(struct storage_call *k, struct err *err)
{
	const char *provider = text_of(k->volume, "Provider"), *text;

	text = json_string_value(json_object_get(json_object_get(k->facts, "Errors"), provider));
	if (text)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The storage of %s cannot be asked about: %s", k->for_path,
			       text);
	return err_set(err, VSS_E_OBJECT_NOT_FOUND,
		       "%s is nothing that can hold copies (vssctl list volumes --for %s lists what is)",
		       k->on && *k->on ? k->on : k->for_path, k->for_path);
}

/* ---- making, resizing, deleting ---- */

static int parse_max(struct storage_call *k, json_t *store, json_t *existing, int64_t *ret, struct err *err)
{
	struct size size;

	*ret = existing ? json_integer_value(json_object_get(existing, "Max")) : STORAGE_UNBOUNDED;
	if (!k->max)
		return 0;
	if (size_parse(k->max, &size) < 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "'%.64s' is not a size: write bytes, a number with K, M, G, T, P or E (10GB), 1%% to 100%% of the "
			       "storage, or UNBOUNDED",
			       k->max);
	*ret = size.kind == SIZE_UNBOUNDED ? STORAGE_UNBOUNDED :
	       size.kind == SIZE_PERCENT ?
					     json_integer_value(json_object_get(store, "Size")) / 100 * size.percent :
					     (int64_t)size.bytes;
	return 0;
}

static void facts_read(const struct err *err, json_t *facts, void *data);

static void read_facts(struct storage_call *k)
{
	struct storage_source source = source_of(k->coordinator);

	storage_facts_read(&source, k->wish == WISH_LIST, facts_read, k);
}

/* The next copy that has to go, until none is left. */
static void evict_next(const struct err *err, void *data)
{
	struct storage_call *k = data;
	autojson json_t *copy = json_incref(json_array_get(k->evicted, 0));

	if (err && err->code)
		log_warning("a copy that exceeds its storage stays: %s", err->text);
	if (!copy) {
		k->is_set = true;
		read_facts(k);
		return;
	}
	json_array_remove(k->evicted, 0);
	log_info("removing the copy {%s}: its storage was made smaller", json_string_value(copy));
	catalogue_remove(k->coordinator->catalogue, json_string_value(copy), evict_next, k);
}

/* Which copies a smaller size costs: the oldest, but none in use. */
static json_t *exceeding(struct storage_call *k, json_t *existing, int64_t max)
{
	json_t *list = json_array(), *store;
	int64_t allocated = json_integer_value(json_object_get(existing, "Allocated"));
	size_t i;

	json_array_foreach(json_object_get(existing, "Stores"), i, store) {
		if (max == STORAGE_UNBOUNDED || allocated <= max)
			break;
		if (json_object_get(json_object_get(k->facts, "InUse"), text_of(store, "Copy")))
			continue;
		json_array_append(list, json_object_get(store, "Copy"));
		allocated -= json_integer_value(json_object_get(store, "Allocated"));
	}
	return list;
}

static void is_set(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	if (err->code)
		end(data, err);
	else
		evict_next(NULL, data);
}

static void store_association(struct storage_call *k, json_t *request)
{
	struct err err = { 0 };

	if (!workers_run(k->coordinator->workers, text_of(k->volume, "Provider"), "storage-set", request, NULL, 0,
			 clock_now() + k->coordinator->config.finish_copies, is_set, k, &err))
		end(k, &err);
}

static void delete_association(struct storage_call *k)
{
	json_t *existing = storage_association(k->facts, text_of(k->volume, "Id"));
	autojson json_t *store = k->on ? find_store(k) : NULL;
	struct err err = { 0 };

	if (!existing || (k->on && strcmp(text_of(store, "Id"), text_of(existing, "On")) != 0))
		err_set(&err, VSS_E_OBJECT_NOT_FOUND, "%s has no shadow storage%s%s", k->for_path, k->on ? " on " : "",
			k->on ?: "");
	if (err.code || storage_check_deletion(existing, &err) < 0)
		end(k, &err);
	else
		store_association(k, json_pack("{sO}", "For", json_object_get(k->volume, "Id")));
}

static void make_association(struct storage_call *k)
{
	struct storage_limits limits = storage_limits_of(&k->coordinator->config);
	json_t *existing = storage_association(k->facts, text_of(k->volume, "Id"));
	json_t *guaranteed = k->guaranteed ?: json_object_get(existing, "Guaranteed");
	autojson json_t *store = find_store(k);
	struct err err = { 0 };
	int64_t max = STORAGE_UNBOUNDED;

	if (*text_of(k->volume, "Provider") == '\0')
		err_set(&err, VSS_E_VOLUME_NOT_SUPPORTED, "%s", text_of(k->volume, "Why"));
	else if (!store)
		unknown_store(k, &err);
	else if (parse_max(k, store, existing, &max, &err) == 0)
		storage_check_association(&limits, k->volume, store, max, k->wish == WISH_ADD, k->facts, &err);
	if (err.code) {
		end(k, &err);
		return;
	}
	k->evicted = exceeding(k, existing, max);
	store_association(k, json_pack("{sO sO sI sb}", "For", json_object_get(k->volume, "Id"), "On",
				       json_object_get(store, "Id"), "Max", (json_int_t)max, "Guaranteed",
				       json_is_true(guaranteed)));
}

/* ---- lists ---- */

/* With the size of what they are on, and the volume by the name that people know. */
static json_t *association_rows(json_t *facts, json_t *volumes)
{
	json_t *rows = json_array(), *association, *volume;
	size_t i, j;

	json_array_foreach(json_object_get(facts, "Associations"), i, association) {
		json_t *row = json_copy(association);
		autojson json_t *store = storage_candidate(facts, text_of(row, "On"));
		json_object_set_new(row, "Size", json_integer(json_integer_value(json_object_get(store, "Size"))));
		json_object_set_new(row, "Own", json_boolean(storage_is_own(association, store)));
		json_array_foreach(volumes, j, volume)
			if (strcmp(text_of(volume, "Id"), text_of(row, "For")) == 0)
				json_object_set(row, "Volume", json_object_get(volume, "Path"));
		json_array_append_new(rows, row);
	}
	return rows;
}

static void reply_set(struct storage_call *k)
{
	char path[sizeof VSS_STORAGE_PATH + ID_HEX_SIZE];

	object_path(text_of(k->volume, "Id"), path);
	bus_call_reply(k->call, k->wish == WISH_ADD ? json_pack("[s]", path) : json_array());
	end(k, NULL);
}

static bool is_wanted(struct storage_call *k, json_t *row, json_t *store)
{
	if (k->for_path && strcmp(text_of(row, "For"), text_of(k->volume, "Id")) != 0)
		return false;
	return !k->on || strcmp(text_of(row, "On"), text_of(store, "Id")) == 0;
}

static void volumes_listed(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct storage_call *k = data;
	autojson json_t *rows = NULL, *wanted = json_array(), *store = NULL;
	json_t *row;
	size_t i;

	if (err->code) {
		end(k, err);
		return;
	}
	rows = association_rows(k->facts, json_object_get(answer, "Volumes"));
	take_rows(k->coordinator, rows);
	if (k->is_set) {
		reply_set(k);
		return;
	}
	store = k->on ? find_store(k) : NULL;
	json_array_foreach(rows, i, row)
		if (is_wanted(k, row, store))
			json_array_append(wanted, row);
	bus_call_reply(k->call, json_pack("[O]", wanted));
	end(k, NULL);
}

static void list_associations(struct storage_call *k)
{
	struct err err = { 0 };

	if (!workers_run(k->coordinator->workers, "volumes", "list", json_object(), NULL, 0,
			 clock_now() + k->coordinator->config.resolve, volumes_listed, k, &err))
		end(k, &err);
}

static void list_candidates(struct storage_call *k)
{
	json_t *stores = storage_candidates(k->facts), *store;
	size_t i;

	json_array_foreach(stores, i, store) {
		struct err err = { 0 };
		int r = storage_check_candidate(k->volume, store, &err);
		json_object_set_new(store, "Candidate", json_boolean(r == 0));
		json_object_set_new(store, "Why", json_string(err.text));
		json_object_del(store, "Disks");
		json_object_del(store, "Pvs");
		json_object_del(store, "GroupPvs");
	}
	bus_call_reply(k->call, json_pack("[o]", stores));
	end(k, NULL);
}

static void facts_read(const struct err *err, json_t *facts, void *data)
{
	struct storage_call *k = data;

	if (err->code) {
		end(k, err);
		return;
	}
	json_decref(k->facts);
	k->facts = json_incref(facts);
	if (k->is_set || k->wish == WISH_LIST)
		list_associations(k);
	else if (k->wish == WISH_CANDIDATES)
		list_candidates(k);
	else if (k->wish == WISH_DELETE)
		delete_association(k);
	else
		make_association(k);
}

/* ---- resolving ---- */

/* That `on` is no path of a volume is no error: it may be the name of a group. */
static void on_resolved(struct bus_call *call, const struct err *err, json_t *volumes, void *data)
{
	struct storage_call *k = data;

	if (!err->code)
		k->on_volume = json_incref(json_array_get(volumes, 0));
	read_facts(k);
}

static void resolve_on(struct storage_call *k)
{
	autojson json_t *path = k->on && *k->on == '/' ? json_string(k->on) : NULL;

	if (path)
		face_resolve(k->coordinator, k->call, path, FACE_BELOW_IGNORED, on_resolved, k);
	else
		read_facts(k);
}

static void for_resolved(struct bus_call *call, const struct err *err, json_t *volumes, void *data)
{
	struct storage_call *k = data;

	if (err->code) {
		end(k, err);
		return;
	}
	k->volume = json_incref(json_array_get(volumes, 0));
	resolve_on(k);
}

static void go(struct storage_call *k)
{
	autojson json_t *path = k->for_path ? json_string(k->for_path) : NULL;

	if (path)
		face_resolve(k->coordinator, k->call, path, FACE_BELOW_IGNORED, for_resolved, k);
	else
		resolve_on(k);
}

static void authorised(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	if (err->code)
		end(data, err);
	else
		go(data);
}

/* ---- the calls ---- */

static const struct option_rule size_rules[] = { { "MaxSize", JSON_STRING },
						 { "Guaranteed", JSON_TRUE },
						 { NULL, JSON_NULL } };

static void check_and_go(struct storage_call *k, const char *action)
{
	if (k)
		authority_check(k->coordinator->authority, k->call, action, k->for_path, authorised, k);
}

void face_list_shadow_storage(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "For", JSON_STRING }, { "On", JSON_STRING }, { NULL, JSON_NULL } };
	json_t *options = call_options(call);

	if (options_accept(call, rules))
		check_and_go(begin(object, call, WISH_LIST, json_string_value(json_object_get(options, "For")),
				   json_string_value(json_object_get(options, "On"))),
			     VSS_ACTION_LIST);
}

void face_list_candidates(struct coordinator *coordinator, struct bus_call *call, json_t *volume_path)
{
	struct storage_call *k = begin(coordinator, call, WISH_CANDIDATES, json_string_value(volume_path), NULL);

	if (k)
		go(k);
}

void face_add_shadow_storage(struct bus_call *call, void *object)
{
	if (options_accept(call, size_rules))
		check_and_go(begin(object, call, WISH_ADD, call_text(call, 0), call_text(call, 1)),
			     VSS_ACTION_MANAGE_STORAGE);
}

void face_resize_shadow_storage(struct bus_call *call, void *object)
{
	if (options_accept(call, size_rules))
		check_and_go(begin(object, call, WISH_RESIZE, call_text(call, 0), call_text(call, 1)),
			     VSS_ACTION_MANAGE_STORAGE);
}

void face_delete_shadow_storage(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "On", JSON_STRING }, { NULL, JSON_NULL } };
	const char *on = json_string_value(json_object_get(call_options(call), "On"));

	if (options_accept(call, rules))
		check_and_go(begin(object, call, WISH_DELETE, call_text(call, 0), on), VSS_ACTION_MANAGE_STORAGE);
}

static void face_resize(struct bus_call *call, void *object)
{
	static const struct option_rule rules[] = { { "Guaranteed", JSON_TRUE }, { NULL, JSON_NULL } };
	struct storage_face *face = object;
	struct storage_call *k;

	if (!options_accept(call, rules))
		return;
	k = begin(face->coordinator, call, WISH_RESIZE, text_of(face->row, "Volume"), text_of(face->row, "On"));
	if (k) {
		free(k->max);
		k->max = strdup(call_text(call, 0));
	}
	check_and_go(k, VSS_ACTION_MANAGE_STORAGE);
}

static void face_delete(struct bus_call *call, void *object)
{
	struct storage_face *face = object;

	if (options_accept(call, no_options))
		check_and_go(begin(face->coordinator, call, WISH_DELETE, text_of(face->row, "Volume"), NULL),
			     VSS_ACTION_MANAGE_STORAGE);
}
