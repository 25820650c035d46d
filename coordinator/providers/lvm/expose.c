/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount, expose, unexpose, record, usage: a copy to look at, always read-only. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/copy-mount.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/request.h"

#define SECTOR 512u

/* The copy as it is now: sealed, and its device there. */
struct found {
	struct groups groups;
	json_t *row;
	const char *copy;
	struct dm_state device;
};

static void found_done(struct found *found)
{
	groups_done(&found->groups);
}

/* A thin copy has its device only while somebody wants to see it; LVM gives it a read-only one. */
static int find_device(struct found *found, struct err *err)
{
	const char *vg = row_text(found->row, "vg_name"), *lv = row_text(found->row, "lv_name");
	char name[DM_DEVICE_NAME_SIZE];

	if (!dm_name_of(vg, lv, name) || !dm_by_name(name, &found->device))
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Device-mapper does not answer");
	if (!found->device.exists &&
	    (lvm_run(err, "LVM cannot activate the copy", "lvchange -y -ay -K %s/%s", vg, lv) < 0 ||
	     !dm_by_name(name, &found->device)))
		return -1;
	if (!found->device.live)
		return err_set(err, VSS_E_BAD_STATE, "The copy %s has no device that could be read", found->copy);
	return 0;
}

static int find(struct found *found, json_t *request, struct err *err)
{
	struct copy_tags tags;

	if (groups_read_all(&found->groups, err) < 0)
		return -1;
	found->row = groups_find_requested(&found->groups, request, err);
	if (!found->row)
		return -1;
	found->copy = json_string_value(json_object_get(request, "Copy"));
	if (!row_has_tags(found->row, &tags) || tags.state != COPY_COMMITTED)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s is unfinished", found->copy);
	if (row_has_overflowed(found->row))
		return err_set(err, VSS_E_BAD_STATE, "The copy %s cannot be used: its store has overflowed. Delete it",
			       found->copy);
	return 0;
}

static int mount_copy(json_t *request, struct err *err)
{
	cleanup(found_done) struct found found = { .row = NULL };
	char type[COPY_TYPE_SIZE];

	if (find(&found, request, err) < 0 || find_device(&found, err) < 0)
		return -1;
	copy_filesystem(found.device.number, type);
	if (!*type)
		return err_set(err, VSS_E_NOT_SUPPORTED,
			       "The copy %s holds no filesystem that vssd could mount (it may be encrypted, or a "
			       "guest's disk): use its "
			       "device, /dev/%s/%s",
			       found.copy, row_text(found.row, "vg_name"), row_text(found.row, "lv_name"));
	return copy_mount(found.device.number, type, false, err);
}

int lvm_mount(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	int mount = mount_copy(request, err);

	if (mount < 0)
		return -1;
	json_object_set_new(answer, "Mount", json_integer(fd_list_add(answer_fds, mount)));
	return 0;
}

int lvm_expose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	const char *given = request_string(request, "Path", err);
	char path[PATH_MAX];
	autoclose int target = given ? open_mount_target(given, path, err) : -1;

	if (target < 0)
		return -1;
	autoclose int mount = mount_copy(request, err);
	if (mount < 0)
		return -1;
	if (move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mount the copy at %s", path);
	json_object_set_new(answer, "Path", json_string(path));
	return 0;
}

/* The copy whose device is mounted at the path; false when another device is. */
static bool is_mounted_at(const char *copy, const char *path, struct dm_state *ret)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	char name[COPY_NAME_SIZE], end[DM_DEVICE_NAME_SIZE];
	const struct mount *mount = mounts_load(&mounts, NULL) == 0 ? mounts_find(&mounts, path) : NULL;

	copy_name(copy, name);
	if (!mount || strcmp(mount->target, path) != 0 || !dm_by_number(mount->device, ret) || !ret->exists ||
	    !dm_name_of("", name, end))
		return false;
	return strlen(ret->name) > strlen(end) && strcmp(ret->name + strlen(ret->name) - strlen(end), end) == 0;
}

int lvm_unexpose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err)
{
	const char *path = request_string(request, "Path", err);
	const char *copy = path ? request_id(request, "Copy", err) : NULL;
	struct dm_state device;
	struct dm_line table;

	if (!copy)
		return -1;
	if (path[0] != '/' || !is_mounted_at(copy, path, &device))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s is not what is mounted at %.500s", copy, path);
	if (unmount_path(path, err) < 0)
		return -1;
	/* Nobody looks at it any more, unless it is mounted elsewhere. */
	if (dm_read_table(device.name, false, &table) && strcmp(table.type, "thin") == 0)
		dm_remove((const char *[]){ device.name }, 1, NULL);
	return 0;
}

/* ---- what is told of it ---- */

/* The whole document lies in the copy; where it is not, what LVM's tags hold. */
static json_t *read_document(struct found *found)
{
	char type[COPY_TYPE_SIZE] = "";
	json_t *record = NULL;
	struct err ignored;

	if (find_device(found, &ignored) < 0)
		return NULL;
	copy_filesystem(found->device.number, type);
	autoclose int mount = *type ? copy_mount(found->device.number, type, false, &ignored) : -1;
	autoclose int place = mount < 0 ? -1 : open_beneath(mount, VSS_STORE_DIR, O_RDONLY | O_DIRECTORY);
	if (place >= 0 && record_read(place, found->copy, &record, &ignored) != RECORD_VALID)
		record = NULL;
	return record;
}

int lvm_record(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(found_done) struct found found = { .row = NULL };
	json_t *record;

	if (find(&found, request, err) < 0)
		return -1;
	record = read_document(&found);
	if (!record)
		record = copy_tags_record(row_text(found.row, "lv_tags"));
	if (record)
		json_object_set_new(
		    record, "Device",
		    json_sprintf("/dev/%s/%s", row_text(found.row, "vg_name"), row_text(found.row, "lv_name")));
	return json_object_set_new(answer, "Record", record);
}

/* Of a store: "USED/TOTAL METADATA" in sectors. Of a thin copy the pool does not tell what is its alone. */
int lvm_usage(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(found_done) struct found found = { .row = NULL };
	unsigned long long used, total;
	struct dm_line line;

	if (find(&found, request, err) < 0)
		return -1;
	if (!row_is_cow(found.row))
		return 0;
	if (find_device(&found, err) < 0)
		return -1;
	if (!dm_read_status(found.device.name, &line) || sscanf(line.params, "%llu/%llu", &used, &total) != 2)
		return 0;
	json_object_set_new(answer, "Exclusive", json_integer((json_int_t)(used * SECTOR)));
	json_object_set_new(answer, "Store", json_integer((json_int_t)(total * SECTOR)));
	json_object_set_new(answer, "Referenced", json_integer((json_int_t)(line.length * SECTOR)));
	return 0;
}
