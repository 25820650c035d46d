/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* prepare and flush: all the slow work that can be done before anything is held. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/member.h"
#include "coordinator/providers/lvm/lock.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/lvm/probe.h"
#include "coordinator/providers/lvm/take-down.h"
#include "coordinator/providers/request.h"

#define MAX_THIN_DEFAULT 512u
#define MAX_COW_DEFAULT 8u
#define LIMIT_DEFAULT (60 * USEC_PER_SEC)
#define PVS_SIZE 2048u
#define LOCK_PATIENCE (10 * USEC_PER_SEC) /* for other LVM commands to end */

static void preparation_done(struct preparation *p)
{
	for (size_t i = 0; i < p->n_members; i++)
		cleanup_close(&p->members[i].source);
	groups_done(&p->groups);
}

/* ---- the request ---- */

static int volume_changed(const char *path, struct err *err)
{
	return err_set(
	    err, VSS_E_OBJECT_NOT_FOUND,
	    "%s is not the volume any more that it was when it was added to the set: it was unmounted or replaced",
	    path);
}

static bool parse_number(const json_t *device, dev_t *ret)
{
	const char *text = json_string_value(json_object_get(device, "Number"));
	unsigned number[2];

	if (!text || sscanf(text, "%u:%u", &number[0], &number[1]) != 2)
		return false;
	*ret = makedev(number[0], number[1]);
	return true;
}

static int parse_member(struct preparation *p, json_t *entry, struct err *err)
{
	struct preparing_member *member = &p->members[p->n_members++];
	const json_t *device;

	*member = (struct preparing_member){ .entry = entry, .source = -1 };
	member->copy = request_id(entry, "Copy", err);
	member->volume = member->copy ? request_object(entry, "Volume", err) : NULL;
	member->path = member->volume ? request_string(member->volume, "Path", err) : NULL;
	member->vg_uuid = member->path ? request_string(member->volume, "VgUuid", err) : NULL;
	member->lv_uuid = member->vg_uuid ? request_string(member->volume, "LvUuid", err) : NULL;
	member->vg = member->lv_uuid ? request_string(member->volume, "Vg", err) : NULL;
	device = member->vg ? request_object(member->volume, "Dm", err) : NULL;
	if (!device)
		return -1;
	if (!parse_number(device, &member->origin) || !lvm_is_plain(member->vg))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"Dm\" or \"Vg\" of the volume %s is malformed",
			       member->path);
	member->top = member->origin;
	parse_number(json_object_get(member->volume, "Top"), &member->top);
	copy_name(member->copy, member->name);
	return 0;
}

static unsigned get_limit(const json_t *request, const char *key, unsigned otherwise)
{
	json_int_t n = json_integer_value(json_object_get(request, key));

	return n > 0 && n < 100000 ? (unsigned)n : otherwise;
}

static int parse(struct preparation *p, json_t *request, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	json_int_t limit = json_integer_value(json_object_get(request, "Limit"));
	size_t i;

	p->set = members ? request_id(request, "Set", err) : NULL;
	p->host = p->set ? request_string(request, "Host", err) : NULL;
	if (!p->host)
		return -1;
	if (json_array_size(members) > LVM_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
			       "A set may hold %u logical volumes, this one has %zu", LVM_MEMBERS_MAX,
			       json_array_size(members));
	p->max_thin = get_limit(request, "MaxCopies", MAX_THIN_DEFAULT);
	p->max_cow = get_limit(request, "MaxCowCopies", MAX_COW_DEFAULT);
	p->deadline = clock_now() + (limit > 0 ? (uint64_t)limit : LIMIT_DEFAULT);
	json_array_foreach (members, i, entry)
		if (parse_member(p, entry, err) < 0)
			return -1;
	return 0;
}

/* ---- the volumes ---- */

static int read_groups(struct preparation *p, struct err *err)
{
	char names[LVM_COMMAND_SIZE / 2] = "";

	for (size_t i = 0; i < p->n_members; i++) {
		bool known = false;
		for (size_t k = 0; k < i && !known; k++)
			known = strcmp(p->members[k].vg, p->members[i].vg) == 0;
		if (!known)
			snprintf(names + strlen(names), sizeof names - strlen(names), " %s", p->members[i].vg);
	}
	return groups_read(&p->groups, names, err);
}

static int find_row(struct preparation *p, struct preparing_member *member, struct err *err)
{
	member->row = groups_find_volume(&p->groups, member->vg_uuid, member->lv_uuid);
	if (!member->row && p->groups.complaint)
		return err_set(err, VSS_E_PROVIDER_VETO, "%s cannot be copied: LVM says: %s", member->path,
			       p->groups.complaint);
	if (!member->row)
		return volume_changed(member->path, err);
	member->vg = row_text(member->row, "vg_name");
	member->lv = row_text(member->row, "lv_name");
	return 0;
}

/* Looks before it opens: whatever has come to lie there must not be touched. */
static int open_mounted(const char *path, dev_t device)
{
	struct stat info;
	autoclose int where = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (where < 0 || fstat(where, &info) < 0 || info.st_dev != device)
		return -1;
	return openat(where, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_source(struct preparing_member *member, struct err *err)
{
	const char *uuid = json_string_value(json_object_get(json_object_get(member->volume, "Dm"), "Uuid"));
	struct dm_state device;

	if (!uuid || !dm_by_uuid(uuid, &device) || !device.exists || device.number != member->origin)
		return volume_changed(member->path, err);
	if (device.suspended)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s is suspended by somebody else: dmsetup resume %s, and try again", member->path,
			       device.name);
	if (!json_is_true(json_object_get(member->volume, "Mounted")))
		return 0;
	member->source = open_mounted(member->path, member->top);
	return member->source < 0 ? volume_changed(member->path, err) : 0;
}

static int probe(struct preparation *p, struct err *err)
{
	struct probe probes[LVM_MEMBERS_MAX];

	for (size_t i = 0; i < p->n_members; i++)
		probes[i] = (struct probe){ .path = p->members[i].path, .fd = p->members[i].source };
	return probe_filesystems(probes, p->n_members, p->deadline, err);
}

/* ---- making ---- */

/* "Pvs": ["/dev/sda2"] or [{"Device": "/dev/sda2"}] */
static int list_pvs(const struct preparing_member *member, char text[PVS_SIZE], struct err *err)
{
	json_t *pvs = json_object_get(member->entry, "Pvs"), *pv;
	size_t i, used = 0;

	text[0] = '\0';
	json_array_foreach (pvs, i, pv) {
		const char *name = json_string_value(json_is_object(pv) ? json_object_get(pv, "Device") : pv);
		if (!name || name[0] != '/' || !lvm_is_plain(name))
			return err_set(err, VSS_E_INVALID_ARGUMENT, "\"Pvs\" of the volume %s is malformed",
				       member->path);
		used += (size_t)snprintf(text + used, PVS_SIZE - used, " %s", name);
		if (used >= PVS_SIZE)
			return err_set(err, VSS_E_LIMITS_EXCEEDED, "Too many physical volumes for the copy of %s",
				       member->path);
	}
	return 0;
}

/* Read-only in LVM's metadata from the beginning: as soon as anybody activates it anew, it is. */
static int make_volume(struct preparation *p, struct preparing_member *member, struct err *err)
{
	char tags[TAG_LINE_SIZE], what[256], size[32] = "", pvs[PVS_SIZE];

	if (!copy_tags_first(tags, member->copy, p->set, p->host, member->volume))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"Host\" of the request to the LVM worker is malformed");
	if (list_pvs(member, pvs, err) < 0)
		return -1;
	if (clock_now() > p->deadline)
		return err_set(err, VSS_E_TIMED_OUT, "The copies could not be prepared in time");
	if (!member->thin)
		snprintf(size, sizeof size, " -l %llu", (unsigned long long)member->extents);
	snprintf(what, sizeof what, "LVM cannot make the copy of %.180s", member->path);
	member->made = true;
	return lvm_run(err, what, "lvcreate -y -s -pr%s%s -n %s%s %s/%s%s", member->thin ? " -an -ky" : "", size,
		       member->name, tags, member->vg, member->lv, member->thin ? "" : pvs);
}

static int find_thin_id(const json_t *rows, const char *vg, const char *lv, const char **ret_uuid, unsigned *ret_id)
{
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row) {
		if (!row_is(row, "vg_name", vg) || !row_is(row, "lv_name", lv) || !*row_text(row, "thin_id"))
			continue;
		*ret_uuid = row_text(row, "lv_uuid");
		*ret_id = (unsigned)row_number(row, "thin_id");
		return 0;
	}
	return -1;
}

/* The uuid of a device: both of LVM's, without their dashes. */
static void dm_uuid_of(const char *vg_uuid, const char *lv_uuid, char uuid[DM_DEVICE_UUID_SIZE])
{
	const char *const parts[] = { vg_uuid, lv_uuid };
	size_t n = (size_t)snprintf(uuid, DM_DEVICE_UUID_SIZE, "LVM-");

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p && n + 1 < DM_DEVICE_UUID_SIZE; p++)
			if (*p != '-')
				uuid[n++] = *p;
	uuid[n] = '\0';
}

static const char *origin_uuid(const struct preparing_member *member)
{
	return json_string_value(json_object_get(json_object_get(member->volume, "Dm"), "Uuid"));
}

static int describe_snapshot(const struct preparation *p, struct preparing_member *member, struct err *err)
{
	if (placeholder_of_snapshot(member->vg, member->name, origin_uuid(member), &member->placeholder, err) < 0)
		return -1;
	memcpy(member->placeholder.locks, p->locks, sizeof p->locks);
	return 0;
}

static int describe_thin(const struct preparation *p, struct preparing_member *member, const json_t *thin_rows,
			 struct err *err)
{
	char uuid[DM_DEVICE_UUID_SIZE];
	const char *lv_uuid;
	unsigned id;

	if (find_thin_id(thin_rows, member->vg, member->name, &lv_uuid, &id) < 0)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			       "LVM does not know the thin snapshot %s/%s that it has just made", member->vg,
			       member->name);
	dm_uuid_of(member->vg_uuid, lv_uuid, uuid);
	if (placeholder_of_thin(member->vg, member->name, uuid, origin_uuid(member), id, &member->placeholder, err) < 0)
		return -1;
	memcpy(member->placeholder.locks, p->locks, sizeof p->locks);
	return 0;
}

static int make_all(struct preparation *p, struct err *err)
{
	for (size_t i = 0; i < p->n_members; i++) {
		struct preparing_member *member = &p->members[i];
		if (make_volume(p, member, err) < 0)
			return -1;
		if (!member->thin && describe_snapshot(p, member, err) < 0)
			return -1;
	}
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of their names, as arm does. */
static int lock_groups(const struct preparation *p, struct fd_list *locks, struct err *err)
{
	const char *names[LVM_MEMBERS_MAX];

	for (size_t i = 0; i < p->n_members; i++)
		names[i] = p->members[i].vg;
	qsort(names, p->n_members, sizeof *names, compare_names);
	for (size_t i = 0; i < p->n_members; i++) {
		if (i > 0 && strcmp(names[i], names[i - 1]) == 0)
			continue;
		int lock = group_lock(p->locks, names[i], clock_now() + LOCK_PATIENCE, err);
		if (lock < 0)
			return -1;
		fd_list_add(locks, lock);
	}
	return 0;
}

/* Whoever refreshes or activates the group between the removal of a snapshot's device and its return would make it live. */
static int make_ready_alone(const struct preparation *p, const struct placeholder *const *list, struct err *err)
{
	struct fd_list locks = { .n = 0 };
	int r = lock_groups(p, &locks, err) < 0 ? -1 : placeholders_ready(list, p->n_members, err);

	for (size_t i = 0; i < locks.n; i++)
		close(locks.fds[i]);
	return r;
}

static int make_ready(struct preparation *p, struct err *err)
{
	const struct placeholder *list[LVM_MEMBERS_MAX];
	autojson json_t *thin_rows = NULL;
	bool thin = false;

	for (size_t i = 0; i < p->n_members; i++)
		thin |= p->members[i].thin;
	if (thin && lvm_report(&thin_rows, NULL, err, "lvs -o vg_name,lv_name,lv_uuid,thin_id") < 0)
		return -1;
	for (size_t i = 0; i < p->n_members; i++) {
		if (p->members[i].thin && describe_thin(p, &p->members[i], thin_rows, err) < 0)
			return -1;
		list[i] = &p->members[i].placeholder;
	}
	return make_ready_alone(p, list, err);
}

static int prepare_members(struct preparation *p, struct err *err)
{
	strcpy(p->locks, "/run/lock/lvm");
	lvm_setting("global/locking_dir", p->locks, sizeof p->locks);
	if (read_groups(p, err) < 0)
		return -1;
	for (size_t i = 0; i < p->n_members; i++)
		if (find_row(p, &p->members[i], err) < 0 || open_source(&p->members[i], err) < 0)
			return -1;
	if (preparation_check(p, err) < 0 || probe(p, err) < 0)
		return -1;
	return make_all(p, err) < 0 ? -1 : make_ready(p, err);
}

/* Those that were begun, all of them: a set is all or nothing. */
static void undo(struct preparation *p)
{
	struct unwanted list[LVM_MEMBERS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < p->n_members; i++)
		if (p->members[i].made)
			list[n++] = (struct unwanted){ .copy = p->members[i].copy, .vg_uuid = p->members[i].vg_uuid };
	take_down(list, n, p->host, NULL);
}

static int answer_members(struct preparation *p, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *list = json_array();

	json_object_set_new(answer, "Members", list);
	for (size_t i = 0; i < p->n_members; i++) {
		struct preparing_member *member = &p->members[i];
		json_t *row = json_pack("{s:s}", "Copy", member->copy);
		int store = placeholder_save(&member->placeholder, err);
		json_array_append_new(list, row);
		if (store < 0)
			return -1;
		json_object_set_new(row, "Store", json_integer(fd_list_add(answer_fds, store)));
		if (member->source >= 0)
			json_object_set_new(row, "Source",
					    json_integer(fd_list_add(answer_fds, steal_fd(member->source))));
	}
	return 0;
}

int lvm_prepare(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(preparation_done) struct preparation p = { 0 };

	if (parse(&p, request, err) < 0)
		return -1;
	if (prepare_members(&p, err) == 0 && answer_members(&p, answer, answer_fds, err) == 0)
		return 0;
	undo(&p);
	return -1;
}

int lvm_flush(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	size_t i;

	if (!members)
		return -1;
	json_array_foreach (members, i, entry) {
		int source = json_object_get(entry, "Source") ? request_fd(entry, "Source", fds, err) : -2;
		if (source == -1)
			return -1;
		if (source >= 0 && syncfs(source) < 0)
			return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot write a volume out");
	}
	return 0;
}
