/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* storage-list, storage-set, extend: where copies of logical volumes are kept. An association that somebody made is
 * tags on the volume itself: vss.storage.on=STORE-ID, vss.storage.max=BYTES|unbounded, vss.storage.guaranteed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/layers.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/lvm/store-size.h"
#include "coordinator/providers/request.h"
#include "coordinator/providers/volume.h"

#define TAG_ON "vss.storage.on="
#define TAG_MAX "vss.storage.max="
#define TAG_GUARANTEED "vss.storage.guaranteed"
#define TAG_SIZE 160u
#define SYSTEM_ID_SIZE 160u
#define PVS_MAX 32u /* of an extension: LVM takes so many words */

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

/* ---- disks ---- */

static json_t *disks_of(struct volumes *volumes, dev_t number)
{
	struct layers layers = { .n = 0 };
	json_t *disks;

	layers_add(&layers, number);
	disks = volumes_describe_disks(volumes, &layers, NULL);
	layers_done(&layers);
	return disks;
}

/* Those on which a volume really has extents, which its active device tells; none of one that is not active. */
static json_t *disks_of_device(struct volumes *volumes, const char *name)
{
	struct dm_state state;

	return dm_by_name(name, &state) && state.exists ? disks_of(volumes, state.number) : json_array();
}

/* ---- groups and pools ---- */

/* Those of groups that this machine may not touch, too: why it may not is told with them. */
static json_t *read_pvs(struct err *err)
{
	json_t *rows;

	return lvm_report(&rows, NULL, err,
			  "pvs --foreign --shared -o pv_uuid,pv_name,pv_major,pv_minor,pv_size,pv_free,pv_allocatable,"
			  "vg_uuid,vg_name,vg_extent_size,vg_exported,vg_partial,vg_permissions,vg_shared,vg_clustered,"
			  "vg_systemid") < 0
		   ? NULL
		   : rows;
}

static json_t *describe_pv(struct volumes *volumes, const json_t *row)
{
	dev_t number = makedev((unsigned)row_number(row, "pv_major"), (unsigned)row_number(row, "pv_minor"));
	bool allocatable = !row_is(row, "pv_allocatable", "");

	return json_pack("{ss ss so sI sI so}", "Uuid", row_text(row, "pv_uuid"), "Device", row_text(row, "pv_name"),
			 "Number", json_sprintf("%u:%u", major(number), minor(number)), "Size",
			 (json_int_t)row_number(row, "pv_size"), "Free",
			 allocatable ? (json_int_t)row_number(row, "pv_free") : 0, "Disks", disks_of(volumes, number));
}

static json_t *describe_group(struct volumes *volumes, const json_t *row, const json_t *pvs, const char *system_id)
{
	json_t *list = json_array(), *pv;
	const char *rule = group_rule(row, system_id);
	json_int_t size = 0, free = 0;
	size_t i;

	json_array_foreach (pvs, i, pv) {
		if (!row_is(pv, "vg_uuid", row_text(row, "vg_uuid")))
			continue;
		json_t *described = describe_pv(volumes, pv);
		size += json_integer_value(json_object_get(described, "Size"));
		free += json_integer_value(json_object_get(described, "Free"));
		json_array_append_new(list, described);
	}
	return json_pack("{ss ss sI sI sI so ss*}", "Uuid", row_text(row, "vg_uuid"), "Name", row_text(row, "vg_name"),
			 "Size", size, "Free", free, "ExtentSize", (json_int_t)row_number(row, "vg_extent_size"), "Pvs",
			 list, "Why", rule);
}

static bool is_pool(const json_t *row)
{
	return strstr(row_text(row, "lv_layout"), "thin,pool") != NULL;
}

static json_int_t unused(const json_t *row, json_int_t size, const char *percent)
{
	return (json_int_t)((double)size * (100 - strtod(row_text(row, percent), NULL)) / 100);
}

static json_t *describe_pool(struct volumes *volumes, const json_t *row)
{
	char name[DM_DEVICE_NAME_SIZE] = "";
	json_int_t size = (json_int_t)row_number(row, "lv_size");
	json_int_t metadata = (json_int_t)row_number(row, "lv_metadata_size");

	if (dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name) &&
	    strlen(name) + strlen("-tpool") < sizeof name)
		strcat(name, "-tpool");
	return json_pack("{ss ss so ss ss ss sI sI sI sI so}", "Uuid", row_text(row, "lv_uuid"), "Group",
			 row_text(row, "vg_uuid"), "Name",
			 json_sprintf("%s/%s", row_text(row, "vg_name"), row_text(row, "lv_name")), "Vg",
			 row_text(row, "vg_name"), "Lv", row_text(row, "lv_name"), "Device", name, "Size", size, "Free",
			 unused(row, size, "data_percent"), "MetadataSize", metadata, "MetadataFree",
			 unused(row, metadata, "metadata_percent"), "Disks", disks_of_device(volumes, name));
}

static bool is_known(const json_t *list, const char *uuid)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry)
		if (strcmp(text_of(entry, "Uuid"), uuid) == 0)
			return true;
	return false;
}

/* Asked for where a group has an owner: seldom. */
static void read_system_id(const json_t *pvs, char *value, size_t size)
{
	json_t *row;
	size_t i;

	value[0] = '\0';
	json_array_foreach (pvs, i, row)
		if (*row_text(row, "vg_systemid")) {
			lvm_system_id(value, size);
			return;
		}
}

static void list_groups(json_t *answer, struct volumes *volumes, const struct groups *groups, const json_t *pvs)
{
	char system_id[SYSTEM_ID_SIZE];
	json_t *list = json_object_get(answer, "Groups"), *pools = json_object_get(answer, "Pools"), *row;
	size_t i;

	read_system_id(pvs, system_id, sizeof system_id);
	json_array_foreach (pvs, i, row)
		if (*row_text(row, "vg_uuid") && !is_known(list, row_text(row, "vg_uuid")))
			json_array_append_new(list, describe_group(volumes, row, pvs, system_id));
	json_array_foreach (groups->rows, i, row)
		if (is_pool(row))
			json_array_append_new(pools, describe_pool(volumes, row));
}

/* ---- associations ---- */

/* A tag that begins with prefix, without it; false when there is none. */
static bool find_tag(const char *tags, const char *prefix, char value[TAG_SIZE])
{
	size_t length = strlen(prefix), n;

	for (const char *at = tags; *at; at += n + (at[n] == ',')) {
		n = strcspn(at, ",");
		if (n < length || strncmp(at, prefix, length) != 0 || n - length >= TAG_SIZE)
			continue;
		snprintf(value, TAG_SIZE, "%.*s", (int)(n - length), at + length);
		return true;
	}
	return false;
}

static json_t *name_of_store(json_t *answer, const char *on)
{
	const char *uuid = strchr(on, ':') ? strchr(on, ':') + 1 : on;
	json_t *group, *pool, *pv;
	size_t i, j;

	json_array_foreach (json_object_get(answer, "Pools"), i, pool)
		if (strcmp(text_of(pool, "Uuid"), uuid) == 0)
			return json_incref(json_object_get(pool, "Name"));
	json_array_foreach (json_object_get(answer, "Groups"), i, group) {
		if (strcmp(text_of(group, "Uuid"), uuid) == 0)
			return json_incref(json_object_get(group, "Name"));
		json_array_foreach (json_object_get(group, "Pvs"), j, pv)
			if (strcmp(text_of(pv, "Uuid"), uuid) == 0)
				return json_incref(json_object_get(pv, "Device"));
	}
	return json_string(on);
}

static void take_tags(json_t *association, const json_t *row)
{
	const char *tags = row_text(row, "lv_tags");
	char value[TAG_SIZE];

	if (!find_tag(tags, TAG_ON, value))
		return;
	json_object_set_new(association, "On", json_string(value));
	json_object_set_new(association, "Explicit", json_true());
	json_object_set_new(association, "Guaranteed", json_boolean(strstr(tags, TAG_GUARANTEED) != NULL));
	if (find_tag(tags, TAG_MAX, value) && strspn(value, "0123456789") == strlen(value) && *value)
		json_object_set_new(association, "Max", json_integer(strtoll(value, NULL, 10)));
}

static json_t *make_association(json_t *answer, struct volumes *volumes, const json_t *row)
{
	const char *vg = row_text(row, "vg_uuid"), *pool = row_text(row, "pool_lv_uuid");
	bool thin = row_is_thin(row) && *pool;
	char name[DM_DEVICE_NAME_SIZE] = "";
	json_t *association;

	dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name);
	association = json_pack("{so so ss ss ss ss ss ss sI so so si sb sb sI sI sI s[]}", "For",
				json_sprintf("lvm:%s:%s", vg, row_text(row, "lv_uuid")), "Volume",
				json_sprintf("/dev/%s/%s", row_text(row, "vg_name"), row_text(row, "lv_name")),
				"Provider", "lvm", "Kind", thin ? "thin" : "cow", "Vg", row_text(row, "vg_name"),
				"VgUuid", vg, "Lv", row_text(row, "lv_name"), "PoolUuid", thin ? pool : "", "LvSize",
				(json_int_t)row_number(row, "lv_size"), "Disks", disks_of_device(volumes, name), "On",
				json_sprintf("%s:%s", thin ? "pool" : "vg", thin ? pool : vg), "Max", -1, "Guaranteed",
				0, "Explicit", 0, "Used", (json_int_t)0, "Allocated", (json_int_t)0, "Copies",
				(json_int_t)0, "Stores");
	json_object_set(association, "Path", json_object_get(association, "Volume"));
	take_tags(association, row);
	json_object_set_new(association, "OnName", name_of_store(answer, text_of(association, "On")));
	if (thin) { /* their blocks are shared: nobody can say what each takes */
		json_object_del(association, "Used");
		json_object_del(association, "Allocated");
	}
	return association;
}

static json_t *association_of(json_t *answer, struct volumes *volumes, const json_t *row)
{
	json_t *list = json_object_get(answer, "Associations"), *association;
	autofree char *id = NULL;
	size_t i;

	if (asprintf(&id, "lvm:%s:%s", row_text(row, "vg_uuid"), row_text(row, "lv_uuid")) < 0)
		return NULL;
	json_array_foreach (list, i, association)
		if (strcmp(text_of(association, "For"), id) == 0)
			return association;
	association = make_association(answer, volumes, row);
	json_array_append_new(list, association);
	return association;
}

static void add(json_t *object, const char *key, json_int_t value)
{
	json_object_set_new(object, key, json_integer(json_integer_value(json_object_get(object, key)) + value));
}

static void add_store(json_t *association, const json_t *row, const struct copy_tags *tags)
{
	autojson json_t *record = copy_tags_record(row_text(row, "lv_tags"));
	uint64_t extent = row_number(row, "vg_extent_size"), size = row_number(row, "lv_size");
	double used = strtod(row_text(row, "data_percent"), NULL);
	char name[DM_DEVICE_NAME_SIZE] = "";
	struct dm_state state = { .exists = false };
	json_t *store;

	dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name);
	dm_by_name(name, &state);
	store = json_pack("{ss ss ss ss ss sI si}", "Copy", tags->copy, "Host", tags->host, "Lv", row_text(row, "lv_name"), "Device", name,
			  "Session", text_of(record, "Session"), "Created",
			  json_integer_value(json_object_get(record, "Created")), "Open",
			  state.exists ? state.open_count : 0);
	if (!row_is_thin(row)) {
		json_int_t held = (json_int_t)((double)size * used / 100);
		uint64_t volume = (uint64_t)json_integer_value(json_object_get(association, "LvSize"));
		json_object_update_new(store,
				       json_pack("{sI sI sI}", "Used", held, "Allocated", (json_int_t)size, "Full",
						 (json_int_t)(store_size_full(volume, extent) * extent)));
		add(association, "Used", held);
		add(association, "Allocated", (json_int_t)size);
	}
	add(association, "Copies", 1);
	json_array_append_new(json_object_get(association, "Stores"), store);
}

static int older(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	json_int_t left = json_integer_value(json_object_get(*x, "Created"));
	json_int_t right = json_integer_value(json_object_get(*y, "Created"));

	return (left > right) - (left < right);
}

static void sort_stores(json_t *association)
{
	json_t *stores = json_object_get(association, "Stores");
	size_t n = json_array_size(stores);
	autofree json_t **list = calloc(n + 1, sizeof *list);

	for (size_t i = 0; list && i < n; i++)
		list[i] = json_incref(json_array_get(stores, i));
	if (!list)
		return;
	qsort(list, n, sizeof *list, older);
	json_array_clear(stores);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(stores, list[i]);
}

static void list_associations(json_t *answer, struct volumes *volumes, const struct groups *groups)
{
	json_t *row, *association;
	size_t i;

	json_array_foreach (groups->rows, i, row) {
		struct copy_tags tags;
		char value[TAG_SIZE];
		json_t *origin;
		if (find_tag(row_text(row, "lv_tags"), TAG_ON, value))
			association_of(answer, volumes, row);
		if (!row_has_tags(row, &tags))
			continue;
		origin = groups_find_volume(groups, row_text(row, "vg_uuid"), row_text(row, "origin_uuid"));
		if (origin && (association = association_of(answer, volumes, origin)))
			add_store(association, row, &tags);
	}
	json_array_foreach (json_object_get(answer, "Associations"), i, association)
		sort_stores(association);
}

int lvm_storage_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		     struct err *err)
{
	cleanup(groups_done) struct groups groups = { 0 };
	cleanup(volumes_done) struct volumes volumes = { 0 };
	autojson json_t *pvs = NULL;

	json_object_update_new(answer, json_pack("{s[] s[] s[]}", "Groups", "Pools", "Associations"));
	if (!lvm_is_here())
		return 0;
	if (groups_read(&groups, "", err) < 0)
		return -1;
	pvs = read_pvs(err);
	if (!pvs)
		return -1;
	list_groups(answer, &volumes, &groups, pvs);
	list_associations(answer, &volumes, &groups);
	return 0;
}

/* ---- setting ---- */

static json_t *find_volume(const struct groups *groups, const char *id, struct err *err)
{
	autofree char *vg = strncmp(id, "lvm:", 4) == 0 ? strdup(id + 4) : NULL;
	char *colon = vg ? strchr(vg, ':') : NULL;
	json_t *row = NULL;

	if (colon) {
		*colon = '\0';
		row = groups_find_volume(groups, vg, colon + 1);
	}
	if (!row)
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "There is no logical volume %.100s here", id);
	return row;
}

static void append_option(char line[LVM_COMMAND_SIZE], const char *option, const char *tag, const char *value)
{
	size_t used = strlen(line);

	snprintf(line + used, LVM_COMMAND_SIZE - used, " %s %s%s", option, tag, value);
}

/* LVM adds before it drops: a tag that is to stay must be in neither list. */
static void change_tag(char line[LVM_COMMAND_SIZE], const json_t *row, const char *tag, const char *wanted)
{
	char value[TAG_SIZE];
	bool is_there = find_tag(row_text(row, "lv_tags"), tag, value);

	if (is_there && wanted && strcmp(value, wanted) == 0)
		return;
	if (is_there)
		append_option(line, "--deltag", tag, value);
	if (wanted)
		append_option(line, "--addtag", tag, wanted);
}

static void change_tags(char line[LVM_COMMAND_SIZE], const json_t *row, json_t *request, const char *on)
{
	json_int_t max = json_integer_value(json_object_get(request, "Max"));
	char text[32] = "unbounded";

	if (max >= 0)
		snprintf(text, sizeof text, "%lld", (long long)max);
	change_tag(line, row, TAG_ON, on);
	change_tag(line, row, TAG_MAX, on ? text : NULL);
	change_tag(line, row, TAG_GUARANTEED, on && request_flag(request, "Guaranteed") ? "" : NULL);
}

int lvm_storage_set(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		    struct err *err)
{
	const char *id = request_string(request, "For", err), *on = json_string_value(json_object_get(request, "On"));
	cleanup(groups_done) struct groups groups = { 0 };
	autofree char *line = calloc(1, LVM_COMMAND_SIZE);
	json_t *row;

	if (!id || !line)
		return -1;
	if (on && (strlen(on) >= TAG_SIZE || !lvm_is_plain(on)))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not a store's id: %.100s", on);
	if (groups_read(&groups, "", err) < 0 || !(row = find_volume(&groups, id, err)))
		return -1;
	change_tags(line, row, request, on);
	if (!*line)
		return 0;
	return lvm_run(err, "The shadow storage cannot be written down", "lvchange%s %s/%s", line,
		       row_text(row, "vg_name"), row_text(row, "lv_name"));
}

/* ---- extending ---- */

int lvm_extend(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	const char *vg = request_string(request, "Vg", err), *lv = vg ? request_string(request, "Lv", err) : NULL;
	json_int_t size = json_integer_value(json_object_get(request, "Size"));
	const char *option = request_flag(request, "Metadata") ? "--poolmetadatasize" : "-L";
	char pvs[2048] = "";
	json_t *pv;
	size_t i;

	if (!lv)
		return -1;
	json_array_foreach (json_object_get(request, "Pvs"), i, pv) {
		const char *name = json_string_value(pv) ?: "";
		size_t used = strlen(pvs);
		if (i >= PVS_MAX || !lvm_is_plain(name) || used + strlen(name) + 2 > sizeof pvs)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "Not a physical volume for LVM: %.100s", name);
		snprintf(pvs + used, sizeof pvs - used, " %s", name);
	}
	if (size <= 0 || !lvm_is_plain(vg) || !lvm_is_plain(lv))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Nothing that could be extended: %.60s/%.60s by %lld bytes",
			       vg, lv, (long long)size);
	return lvm_run(err, "The store cannot be extended", "lvextend -y %s +%lldb %s/%s%s", option, (long long)size,
		       vg, lv, pvs);
}
