/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/take-down.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/lock.h"
#include "coordinator/providers/lvm/placeholder.h"

#define BATCH 24u /* volumes of a command: LVM takes 64 words */
#define ODD_MAX 256u
#define LOCK_PATIENCE (5 * USEC_PER_SEC)

/* ---- what an LVM command that was killed leaves ---- */

struct oddities {
	const struct groups *groups;
	const char *vg, *vg_uuid;
	char prefix[DM_DEVICE_NAME_SIZE];	    /* of its devices' names */
	char bare_uuid[DM_DEVICE_UUID_SIZE];	    /* of its devices' uuids */
	char orphans[ODD_MAX][DM_DEVICE_NAME_SIZE]; /* devices of copies that LVM does not know any more */
	size_t n_orphans;
	bool half_done; /* a live device has its next table loaded: whoever did that has not come to the end */
};

static void bare(const char *uuid, char *text)
{
	for (; *uuid; uuid++)
		if (*uuid != '-')
			*text++ = *uuid;
	*text = '\0';
}

/* "LVM-" GROUP VOLUME, perhaps with a suffix, against LVM's own list. */
static bool is_known(const struct oddities *odd, const char *dm_uuid)
{
	char text[DM_DEVICE_UUID_SIZE];
	json_t *row;
	size_t i;

	json_array_foreach (odd->groups->rows, i, row) {
		if (!row_is(row, "vg_uuid", odd->vg_uuid) || strlen(row_text(row, "lv_uuid")) >= sizeof text)
			continue;
		bare(row_text(row, "lv_uuid"), text);
		if (strncmp(dm_uuid + strlen(odd->bare_uuid), text, strlen(text)) == 0)
			return true;
	}
	return false;
}

/* Beneath an origin; of a snapshot's two devices the one that LVM makes live first. */
static bool is_layer(const char *name)
{
	size_t length = strlen(name);

	return (length > 5 && strcmp(name + length - 5, "-real") == 0) ||
	       (length > 4 && strcmp(name + length - 4, "-cow") == 0);
}

static bool is_of_group(const struct oddities *odd, const char *name, struct dm_state *ret)
{
	return strncmp(name, odd->prefix, strlen(odd->prefix)) == 0 && dm_by_name(name, ret) && ret->exists &&
	       strncmp(ret->uuid, odd->bare_uuid, strlen(odd->bare_uuid)) == 0;
}

static void look(const char *name, void *data)
{
	struct oddities *odd = data;
	struct dm_state device;

	if (!is_of_group(odd, name, &device))
		return;
	odd->half_done |= (device.live && device.loaded) || (!device.live && is_layer(name));
	if (strncmp(name + strlen(odd->prefix), "vss--", 5) == 0 && !is_known(odd, device.uuid) &&
	    odd->n_orphans < ODD_MAX)
		text_format(odd->orphans[odd->n_orphans++], DM_DEVICE_NAME_SIZE, "%s", name);
}

static void find_oddities(struct oddities *odd, const struct groups *groups, const char *vg, const char *vg_uuid)
{
	char name[DM_DEVICE_NAME_SIZE];

	*odd = (struct oddities){ .groups = groups, .vg = vg, .vg_uuid = vg_uuid };
	if (!dm_name_of(vg, "", name))
		return;
	memcpy(odd->prefix, name, sizeof odd->prefix);
	strcpy(odd->bare_uuid, "LVM-");
	bare(vg_uuid, odd->bare_uuid + 4);
	dm_for_each(look, odd);
}

/* Stores are below their snapshots: those without anything on them go first, in as many rounds as it takes. */
static void remove_orphans(struct oddities *odd)
{
	struct dm_state device;

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < odd->n_orphans; i++) {
			const char *name = odd->orphans[i];
			if (dm_by_name(name, &device) && device.exists && device.open_count == 0)
				dm_remove(&name, 1, NULL);
		}
	}
}

/* LVM makes the devices what its metadata say. It waits for its lock, so that what was only on its way has ended. */
static void refresh_group(const struct groups *groups, const char *vg, const char *vg_uuid)
{
	json_t *row;
	size_t i;

	json_array_foreach (groups->rows, i, row)
		if (row_is(row, "vg_uuid", vg_uuid) && strstr(row_text(row, "lv_role"), "origin"))
			lvm_run(NULL, "Refreshing", "lvchange -y --refresh %s/%s", vg, row_text(row, "lv_name"));
}

/* What even LVM has left: with its lock held nobody is at work on the group, so that a table that waits is one that
 * nobody will use. The live tables are what the metadata say. */
static void settle(const char *name, void *data)
{
	struct dm_state device;

	if (!is_of_group(data, name, &device) || !device.live || (!device.loaded && !device.suspended))
		return;
	if (device.loaded)
		dm_clear(name, NULL);
	if (device.suspended)
		dm_resume(name, DM_FLAGS_ORIGIN, NULL);
}

static void drop_dead_layer(const char *name, void *data)
{
	struct dm_state device;

	if (is_of_group(data, name, &device) && !device.live && device.open_count == 0 && is_layer(name))
		dm_remove(&name, 1, NULL);
}

static void settle_rest(struct oddities *odd)
{
	char locks[256] = "/run/lock/lvm";

	lvm_setting("global/locking_dir", locks, sizeof locks);
	autoclose int lock = group_lock(locks, odd->vg, clock_now() + LOCK_PATIENCE, NULL);
	if (lock < 0)
		return;
	dm_for_each(settle, odd);
	dm_for_each(drop_dead_layer, odd);
}

static void heal_group(const struct groups *groups, const char *vg, const char *vg_uuid)
{
	static struct oddities odd;

	find_oddities(&odd, groups, vg, vg_uuid);
	if (odd.half_done) {
		refresh_group(groups, vg, vg_uuid);
		find_oddities(&odd, groups, vg, vg_uuid);
		if (odd.half_done)
			settle_rest(&odd);
	}
	remove_orphans(&odd);
}

/* ---- one copy ---- */

/* A snapshot that is loaded and not live has to go before LVM takes its volume down: the other order wrecks the devices
 * of all the origin's snapshots. */
static int drop_placeholder(const json_t *row, struct err *err)
{
	char name[DM_DEVICE_NAME_SIZE];
	const char *names[] = { name };
	struct dm_state device;

	if (!dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name) || !dm_by_name(name, &device) ||
	    !device.exists || (device.live && !row_is_thin(row)))
		return 0;
	return dm_remove(names, 1, err);
}

static int remove_volumes(const char *const *volumes, size_t n, struct err *err)
{
	char list[LVM_COMMAND_SIZE / 2] = "";

	for (size_t i = 0; i < n; i++)
		snprintf(list + strlen(list), sizeof list - strlen(list), " %s", volumes[i]);
	return n == 0 ? 0 : lvm_run(err, "LVM cannot remove a copy", "lvremove -y -f%s", list);
}

/* After an interrupted removal: devices as the metadata say first, then again. */
static int remove_hard(const json_t *row, struct err *err)
{
	char volume[2 * DM_DEVICE_NAME_SIZE];
	const char *list[] = { volume }, *origin = row_text(row, "origin");

	snprintf(volume, sizeof volume, "%s/%s", row_text(row, "vg_name"), row_text(row, "lv_name"));
	if (drop_placeholder(row, err) < 0)
		return -1;
	if (*origin)
		lvm_run(NULL, "Refreshing", "lvchange -y --refresh %s/%s", row_text(row, "vg_name"), origin);
	return remove_volumes(list, 1, err);
}

/* ---- all ---- */

/* May be removed: it is this host's, by its tags and by its name. */
static json_t *find_own(const struct groups *groups, const struct unwanted *unwanted, const char *host, struct err *err)
{
	json_t *row = groups_find_copy(groups, unwanted->vg_uuid, unwanted->copy);
	struct copy_tags tags;

	if (!row || !row_has_tags(row, &tags))
		return NULL;
	if (strcmp(tags.host, host) == 0)
		return row;
	err_set(err, VSS_E_ACCESS_DENIED,
		"The copy %s in the volume group %s is another machine's (%s): remove it there", unwanted->copy,
		row_text(row, "vg_name"), tags.host);
	return NULL;
}

static void keep_first(struct err *err, const struct err *failure)
{
	if (failure->code && err && !err->code)
		*err = *failure;
}

static void remove_rows(json_t *const *rows, size_t n, struct err *err)
{
	char names[BATCH][2 * DM_DEVICE_NAME_SIZE];
	const char *volumes[BATCH];
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		struct err failure = { 0 };
		if (drop_placeholder(rows[i], &failure) < 0) {
			keep_first(err, &failure);
			continue;
		}
		snprintf(names[count], sizeof *names, "%s/%s", row_text(rows[i], "vg_name"),
			 row_text(rows[i], "lv_name"));
		volumes[count] = names[count];
		if (++count < BATCH && i + 1 < n)
			continue;
		remove_volumes(volumes, count, NULL);
		count = 0;
	}
	remove_volumes(volumes, count, NULL);
}

/* What is still there, one by one. Whether there was anything. */
static bool remove_rest(const struct groups *groups, const struct unwanted *list, size_t n, const char *host,
			struct err *err)
{
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		json_t *row = find_own(groups, &list[i], host, NULL);
		struct err failure = { 0 };
		any |= row != NULL;
		if (row && remove_hard(row, &failure) < 0)
			keep_first(err, &failure);
	}
	return any;
}

static void heal_groups(const struct unwanted *list, size_t n, const struct groups *groups)
{
	for (size_t i = 0; i < n; i++) {
		json_t *group = groups_find_group(groups, list[i].vg_uuid);
		bool done = false;
		for (size_t k = 0; k < i && !done; k++)
			done = strcmp(list[k].vg_uuid, list[i].vg_uuid) == 0;
		if (group && !done)
			heal_group(groups, row_text(group, "vg_name"), list[i].vg_uuid);
	}
}

/* Each reading of the groups is a command of LVM's: once, unless something had stayed. */
static void clean_up(const struct unwanted *list, size_t n, const char *host, struct err *err)
{
	cleanup(groups_done) struct groups after = { 0 };
	struct err failure = { 0 };

	if (groups_read_all(&after, &failure) < 0) {
		keep_first(err, &failure);
		return;
	}
	if (remove_rest(&after, list, n, host, err)) {
		groups_done(&after);
		if (groups_read_all(&after, NULL) < 0)
			return;
	}
	heal_groups(list, n, &after);
}

int take_down_known(const struct groups *before, const struct unwanted *list, size_t n, const char *host,
		    struct err *err)
{
	struct err failure = { 0 };
	json_t *rows[LVM_MEMBERS_MAX];
	size_t n_rows = 0;

	if (n == 0 || n > ARRAY_SIZE(rows))
		return 0;
	heal_groups(list, n, before);
	for (size_t i = 0; i < n; i++) {
		struct err other = { 0 };
		json_t *row = find_own(before, &list[i], host, &other);
		keep_first(&failure, &other);
		if (row)
			rows[n_rows++] = row;
	}
	remove_rows(rows, n_rows, &failure);
	clean_up(list, n, host, &failure);
	keep_first(err, &failure);
	return failure.code ? -1 : 0;
}

int take_down(const struct unwanted *list, size_t n, const char *host, struct err *err)
{
	cleanup(groups_done) struct groups before = { 0 };

	if (n == 0)
		return 0;
	return groups_read_all(&before, err) < 0 ? -1 : take_down_known(&before, list, n, host, err);
}
