/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What has to be so before LVM is asked for anything. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/lvm/member.h"
#include "coordinator/providers/lvm/store-size.h"

#define METADATA_PER_COPY                                                                                              \
	4096u			/* bytes in the group's metadata area, while the old and the new text are both there   \
				 */
#define POOL_METADATA_LIMIT 90u /* percent */

/* ---- the group ---- */

static int check_group(const struct preparing_member *member, struct err *err)
{
	const char *rule = group_rule(member->row, NULL); /* another machine's is in no report of those to be changed */

	return rule ? err_set(err, VSS_E_PROVIDER_VETO, "%s cannot be copied: its volume group %s %s", member->path,
			      member->vg, rule) :
		      0;
}

/* The first member in a group speaks for all that are in it. */
static bool is_first_of_group(const struct preparation *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(p->members[k].vg_uuid, p->members[i].vg_uuid) == 0)
			return false;
	return true;
}

static int check_metadata_area(const struct preparation *p, size_t first, struct err *err)
{
	const struct preparing_member *member = &p->members[first];
	uint64_t room = row_number(member->row, "vg_mda_free"), n = 0;

	for (size_t i = first; i < p->n_members; i++)
		n += strcmp(p->members[i].vg_uuid, member->vg_uuid) == 0;
	if (room >= n * METADATA_PER_COPY)
		return 0;
	return err_set(
	    err, VSS_E_INSUFFICIENT_STORAGE,
	    "The metadata area of the volume group %s has %llu KiB left, and %llu new copies need %llu KiB: delete "
	    "copies or other volumes in it",
	    member->vg, (unsigned long long)(room >> 10), (unsigned long long)n,
	    (unsigned long long)(n * METADATA_PER_COPY >> 10));
}

static void set_extents(struct preparation *p, const char *vg_uuid, bool least, uint64_t *ret_sum)
{
	*ret_sum = 0;
	for (size_t i = 0; i < p->n_members; i++) {
		struct preparing_member *member = &p->members[i];
		if (member->thin || strcmp(member->vg_uuid, vg_uuid) != 0)
			continue;
		json_int_t asked = json_integer_value(json_object_get(member->entry, "StoreSize"));
		struct store_size size =
		    store_size(row_number(member->row, "lv_size"), row_number(member->row, "vg_extent_size"),
			       asked > 0 ? (uint64_t)asked : 0);
		member->extents = least ? size.least : size.wanted;
		*ret_sum += member->extents;
	}
}

static int check_room(struct preparation *p, const struct preparing_member *first, struct err *err)
{
	uint64_t room = row_number(first->row, "vg_free_count"), extent = row_number(first->row, "vg_extent_size");
	uint64_t needed;

	set_extents(p, first->vg_uuid, false, &needed);
	if (needed > room)
		set_extents(p, first->vg_uuid, true, &needed);
	if (needed <= room)
		return 0;
	return err_set(err, VSS_E_INSUFFICIENT_STORAGE,
		       "The volume group %s has %llu extents of %llu KiB free (%llu MiB), and the copies need %llu "
		       "(%llu MiB): free "
		       "some, delete older copies, or give less for them",
		       first->vg, (unsigned long long)room, (unsigned long long)(extent >> 10),
		       (unsigned long long)(room * extent >> 20), (unsigned long long)needed,
		       (unsigned long long)(needed * extent >> 20));
}

/* ---- the volume ---- */

static int check_kind(struct preparing_member *member, struct err *err)
{
	member->thin = row_is_thin(member->row);
	if (row_is_cow(member->row))
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "%s/%s is itself a snapshot, and no snapshot of a snapshot can be made: copy its origin",
			       member->vg, member->lv);
	if (row_is(member->row, "lv_merging", "merging"))
		return err_set(
		    err, VSS_E_VOLUME_NOT_SUPPORTED,
		    "%s/%s is being reverted to an earlier copy: wait until that has ended (lvs -a %s shows it)",
		    member->vg, member->lv, member->vg);
	return 0;
}

static int check_count(const struct preparation *p, const struct preparing_member *member, struct err *err)
{
	unsigned max = member->thin ? p->max_thin : p->max_cow, n = 0;
	struct copy_tags tags;
	json_t *row;
	size_t i;

	json_array_foreach (p->groups.rows, i, row)
		n += row_is(row, "vg_uuid", member->vg_uuid) && row_is(row, "origin_uuid", member->lv_uuid) &&
		     row_has_tags(row, &tags);
	if (n < max)
		return 0;
	return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
		       "%s has %u copies, as many as a volume %s may have: delete some, or raise the limit",
		       member->path, n, member->thin ? "in a thin pool" : "whose copies each multiply its writes");
}

static int check_use(const struct preparing_member *member, struct err *err)
{
	char holders[256], node[32];

	if (device_is_swap(member->origin))
		return err_set(
		    err, VSS_E_VOLUME_NOT_SUPPORTED,
		    "%s/%s is swap space in use: there is nothing in it to be copied, and holding it could stop this "
		    "machine",
		    member->vg, member->lv);
	if (member->source >= 0)
		return 0;
	if (device_holders(member->origin, holders, sizeof holders))
		return err_set(
		    err, VSS_E_VOLUME_IN_USE,
		    "%s/%s is held by %s, on which nothing is mounted here that could be held still: close it, or "
		    "mount what lies on it",
		    member->vg, member->lv, holders);
	dm_node(member->origin, node);
	if (device_is_claimed(node))
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s/%s has come into use since it was added to the set (mounted?): try again",
			       member->vg, member->lv);
	return 0;
}

/* ---- the pool ---- */

/* "TRANSACTION USED/TOTAL USED/TOTAL HELD MODE ..." or "Fail" */
static const char *pool_rule(const char *status)
{
	unsigned long long metadata_used, metadata, data_used, data;
	char mode[24];

	if (sscanf(status, "%*u %llu/%llu %llu/%llu %*s %23s", &metadata_used, &metadata, &data_used, &data, mode) != 5)
		return "has failed: repair it (lvconvert --repair)";
	if (strstr(status, "needs_check"))
		return "needs a check: repair it (lvconvert --repair)";
	if (strcmp(mode, "ro") == 0)
		return "is read-only after an error: repair it (lvconvert --repair)";
	if (strcmp(mode, "out_of_data_space") == 0 || data_used >= data)
		return "is full: extend it (lvextend), or delete copies";
	if (metadata == 0 || metadata_used * 100 / metadata >= POOL_METADATA_LIMIT)
		return "has hardly any metadata space left: extend it (lvextend --poolmetadatasize)";
	return NULL;
}

static int check_pool(const struct preparing_member *member, struct err *err)
{
	struct dm_state device;
	struct dm_line line;
	unsigned number[2];
	const char *rule;

	if (!dm_by_number(member->origin, &device) || !dm_read_table(device.name, false, &line))
		rule = "is not active";
	else if (strcmp(line.params, "Fail") == 0) /* in place of the table, too */
		rule = pool_rule(line.params);
	else if (sscanf(line.params, "%u:%u", &number[0], &number[1]) != 2 ||
		 !dm_by_number(makedev(number[0], number[1]), &device) || !dm_read_status(device.name, &line))
		rule = "is not active";
	else
		rule = pool_rule(line.params);
	if (!rule)
		return 0;
	return err_set(err, VSS_E_PROVIDER_VETO, "%s cannot be copied: its thin pool %s/%s %s", member->path,
		       member->vg, row_text(member->row, "pool_lv"), rule);
}

int preparation_check(struct preparation *p, struct err *err)
{
	for (size_t i = 0; i < p->n_members; i++) {
		struct preparing_member *member = &p->members[i];
		if (check_group(member, err) < 0 || check_kind(member, err) < 0 || check_use(member, err) < 0 ||
		    check_count(p, member, err) < 0 || (member->thin && check_pool(member, err) < 0))
			return -1;
	}
	for (size_t i = 0; i < p->n_members; i++)
		if (is_first_of_group(p, i) &&
		    (check_metadata_area(p, i, err) < 0 || check_room(p, &p->members[i], err) < 0))
			return -1;
	return 0;
}
