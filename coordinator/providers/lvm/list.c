/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* list: the catalogue, as LVM's metadata hold it. */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/request.h"

#define TOKEN_SIZE 64u

struct listing {
	const struct groups *groups;
	const struct mounts *mounts;
	json_t *request;
};

/* ---- what is told of a copy ---- */

static const char *mount_point(const struct listing *listing, const json_t *row)
{
	char name[DM_DEVICE_NAME_SIZE];
	struct dm_state device;

	if (!*row_text(row, "lv_active") || !dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name) ||
	    !dm_by_name(name, &device) || !device.exists)
		return NULL;
	for (size_t i = 0; i < listing->mounts->n; i++)
		if (listing->mounts->list[i].device == device.number)
			return listing->mounts->list[i].target;
	return NULL;
}

static uint64_t digest_text(uint64_t digest, const char *text)
{
	for (; *text; text++)
		digest = (digest ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return (digest ^ 0xff) * UINT64_C(0x100000001b3);
}

/* Of all that is told of it; the sixth character of the attributes is a store's that overflowed. */
static uint64_t digest_of(const struct listing *listing, const json_t *row)
{
	static const char *const fields[] = { "lv_name", "vg_name", "lv_tags", "lv_attr", "origin_uuid", "lv_role" };
	const char *where = mount_point(listing, row);
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		digest = digest_text(digest, row_text(row, fields[i]));
	return digest_text(digest, where ? where : "");
}

/* A set that was not sealed to its end is unfinished as a whole; a volume that is no snapshot any more was half
 * removed. */
static bool is_unfinished(const struct listing *listing, const json_t *row, const struct copy_tags *tags)
{
	struct copy_tags other;
	json_t *sibling;
	size_t i;

	if (tags->state != COPY_COMMITTED || (!row_is_cow(row) && !row_is_thin(row)))
		return true;
	json_array_foreach (listing->groups->rows, i, sibling)
		if (row_has_tags(sibling, &other) && other.state == COPY_PREPARING &&
		    strcmp(other.set, tags->set) == 0 && strcmp(other.host, tags->host) == 0)
			return true;
	return false;
}

static const char *broken_rule(const json_t *row)
{
	return row_has_overflowed(row) ? "The copy cannot be used: its store has overflowed (more was written to the volume "
					 "than it could hold). Delete it" :
					 NULL;
}

/* The volume's id as it is now: an imported clone of a group has another UUID than its tags say. */
static json_t *record_of(const json_t *row)
{
	json_t *record = copy_tags_record(row_text(row, "lv_tags"));
	json_t *volume = json_object_get(record, "Volume");

	if (*row_text(row, "origin_uuid"))
		json_object_set_new(volume, "Id",
				    json_sprintf("lvm:%s:%s", row_text(row, "vg_uuid"), row_text(row, "origin_uuid")));
	json_object_set_new(record, "Device",
			    json_sprintf("/dev/%s/%s", row_text(row, "vg_name"), row_text(row, "lv_name")));
	return record;
}

static json_t *describe(const struct listing *listing, const json_t *row, const struct copy_tags *tags)
{
	const char *uuid = row_text(row, "vg_uuid");
	const char *known = json_string_value(
	    json_object_get(json_object_get(json_object_get(listing->request, "Known"), uuid), tags->copy));
	const char *where = mount_point(listing, row), *rule = broken_rule(row);
	char token[TOKEN_SIZE];
	json_t *entry;

	snprintf(token, sizeof token, "%016llx", (unsigned long long)digest_of(listing, row));
	entry = json_pack("{ss ss ss}", "Copy", tags->copy, "Token", token, "Filesystem", uuid);
	if (where)
		json_object_set_new(entry, "Exposed", json_string(where));
	if (rule)
		json_object_set_new(entry, "Error", json_string(rule));
	if (rule || !known || strcmp(known, token) != 0)
		json_object_set_new(entry, "Record", record_of(row));
	return entry;
}

/* ---- a group ---- */

static void list_rows(const struct listing *listing, const char *uuid, json_t *copies, json_t *unfinished)
{
	struct copy_tags tags;
	json_t *row;
	size_t i;

	json_array_foreach (listing->groups->rows, i, row) {
		if (!row_is(row, "vg_uuid", uuid) || !row_has_tags(row, &tags))
			continue;
		if (is_unfinished(listing, row, &tags))
			json_array_append_new(
			    unfinished, json_pack("{ss ss ss}", "Copy", tags.copy, "Host", tags.host, "Set", tags.set));
		else
			json_array_append_new(copies, describe(listing, row, &tags));
	}
}

static void group_token(const struct listing *listing, const char *uuid, char token[TOKEN_SIZE])
{
	uint64_t digest = 0;
	struct copy_tags tags;
	json_t *row;
	size_t i;

	json_array_foreach (listing->groups->rows, i, row)
		if (row_is(row, "vg_uuid", uuid) && row_has_tags(row, &tags))
			digest += digest_of(listing, row);
	snprintf(token, TOKEN_SIZE, "%016llx", (unsigned long long)digest);
}

static json_t *describe_group(const struct listing *listing, const json_t *row)
{
	const char *uuid = row_text(row, "vg_uuid");
	const char *known = json_string_value(json_object_get(json_object_get(listing->request, "Tokens"), uuid));
	json_t *copies = json_array(), *unfinished = json_array();
	char token[TOKEN_SIZE];
	json_t *entry;

	group_token(listing, uuid, token);
	entry = json_pack("{ss ss ss so so}", "Uuid", uuid, "Device", row_text(row, "vg_name"), "Token", token,
			  "Copies", copies, "Unfinished", unfinished);
	if (known && strcmp(known, token) == 0)
		json_object_set_new(entry, "Unchanged", json_true());
	else if (!json_is_true(json_object_get(listing->request, "Brief")))
		list_rows(listing, uuid, copies, unfinished);
	return entry;
}

static bool is_listed(const json_t *groups, const char *uuid)
{
	json_t *entry;
	size_t i;

	json_array_foreach (groups, i, entry)
		if (row_is(entry, "Uuid", uuid))
			return true;
	return false;
}

int lvm_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(groups_done) struct groups groups = { 0 };
	cleanup(mounts_done) struct mounts mounts = { 0 };
	struct listing listing = { .groups = &groups, .mounts = &mounts, .request = request };
	json_t *list = json_array(), *row;
	size_t i;

	json_object_set_new(answer, "Filesystems", list);
	if (!lvm_is_here())
		return 0;
	if (groups_read_all(&groups, err) < 0 || mounts_load(&mounts, err) < 0)
		return -1;
	json_array_foreach (groups.rows, i, row)
		if (!is_listed(list, row_text(row, "vg_uuid")))
			json_array_append_new(list, describe_group(&listing, row));
	return 0;
}
