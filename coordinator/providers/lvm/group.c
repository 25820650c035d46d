/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/group.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/request.h"

#define FIELDS                                                                                                         \
	"vg_name,vg_uuid,vg_seqno,vg_extent_size,vg_free_count,vg_mda_free,vg_exported,vg_partial,vg_permissions,"     \
	"vg_shared,vg_clustered,lv_name,lv_uuid,lv_size,lv_tags,lv_layout,lv_role,lv_attr,lv_active,origin,"           \
	"origin_uuid,pool_lv,pool_lv_uuid,lv_merging,lv_permissions,data_percent,metadata_percent,lv_metadata_size"

int groups_read(struct groups *groups, const char *names, struct err *err)
{
	*groups = (struct groups){ 0 };
	return lvm_report(&groups->rows, &groups->complaint, err, "lvs -o " FIELDS " %s", names);
}

int groups_read_all(struct groups *groups, struct err *err)
{
	*groups = (struct groups){ 0 };
	return lvm_report(&groups->rows, &groups->complaint, err, "lvs --foreign --shared -o " FIELDS);
}

void groups_done(struct groups *groups)
{
	json_decref(groups->rows);
	free(groups->complaint);
}

const char *row_text(const json_t *row, const char *field)
{
	const char *text = json_string_value(json_object_get(row, field));

	return text ? text : "";
}

uint64_t row_number(const json_t *row, const char *field)
{
	return strtoull(row_text(row, field), NULL, 10);
}

bool row_is(const json_t *row, const char *field, const char *value)
{
	return strcmp(row_text(row, field), value) == 0;
}

bool row_has_tags(const json_t *row, struct copy_tags *ret)
{
	return copy_tags_read(row_text(row, "lv_tags"), row_text(row, "lv_name"), ret);
}

const char *group_rule(const json_t *row, const char *system_id)
{
	static const struct {
		const char *field, *value, *rule;
	} rules[] = {
		{ "vg_exported", "exported", "is exported: import it first (vgimport)" },
		{ "vg_partial", "partial",
		  "is incomplete, a physical volume is missing: bring it back (and tell LVM, if it has changed the group "
		  "meanwhile: vgextend --restoremissing), or take it out (vgreduce --removemissing)" },
		{ "vg_permissions", "read-only", "is read-only: change that first (vgchange --permission rw)" },
		{ "vg_shared", "shared",
		  "is shared with other machines (lvmlockd), and nobody could hold those still: use a group of one "
		  "machine" },
		{ "vg_clustered", "clustered",
		  "is clustered, and nobody could hold the other machines still: use a group of one machine" },
	};
	const char *owner = row_text(row, "vg_systemid");

	if (system_id && *owner && strcmp(owner, system_id) != 0)
		return "belongs to another machine (its system ID is not this one's): copy it there, or take it over if that "
		       "machine has it no more (vgchange --systemid)";
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (row_is(row, rules[i].field, rules[i].value))
			return rules[i].rule;
	return NULL;
}

bool row_has_overflowed(const json_t *row)
{
	const char *attributes = row_text(row, "lv_attr");

	return row_is_cow(row) && strlen(attributes) > 4 && (attributes[4] == 'I' || attributes[4] == 'S');
}

json_t *groups_find_group(const struct groups *groups, const char *vg_uuid)
{
	json_t *row;
	size_t i;

	json_array_foreach (groups->rows, i, row)
		if (row_is(row, "vg_uuid", vg_uuid))
			return row;
	return NULL;
}

json_t *groups_find_volume(const struct groups *groups, const char *vg_uuid, const char *lv_uuid)
{
	json_t *row;
	size_t i;

	json_array_foreach (groups->rows, i, row)
		if (row_is(row, "vg_uuid", vg_uuid) && row_is(row, "lv_uuid", lv_uuid))
			return row;
	return NULL;
}

json_t *groups_find_copy(const struct groups *groups, const char *vg_uuid, const char *copy)
{
	struct copy_tags tags;
	json_t *row;
	size_t i;

	json_array_foreach (groups->rows, i, row)
		if (row_is(row, "vg_uuid", vg_uuid) && row_has_tags(row, &tags) && strcmp(tags.copy, copy) == 0)
			return row;
	return NULL;
}

static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += length)
		if ((p == list || p[-1] == ',') && (p[length] == ',' || p[length] == '\0'))
			return true;
	return false;
}

bool row_is_thin(const json_t *row)
{
	return has_word(row_text(row, "lv_layout"), "thin") && !has_word(row_text(row, "lv_layout"), "pool");
}

bool row_is_cow(const json_t *row)
{
	return has_word(row_text(row, "lv_role"), "thicksnapshot") ||
	       (has_word(row_text(row, "lv_role"), "snapshot") && !row_is_thin(row));
}

json_t *groups_find_requested(const struct groups *groups, json_t *request, struct err *err)
{
	const char *copy = request_id(request, "Copy", err);
	const char *uuid = copy ? request_string(request, "Filesystem", err) : NULL;
	json_t *row = uuid ? groups_find_copy(groups, uuid, copy) : NULL;

	if (!row && uuid && !groups_find_group(groups, uuid))
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "There is no volume group with the UUID %.60s here%s%s", uuid,
			groups->complaint ? ": " : "", groups->complaint ? groups->complaint : "");
	else if (!row && uuid)
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "The volume group %s holds no copy %s",
			row_text(groups_find_group(groups, uuid), "vg_name"), copy);
	return row;
}
