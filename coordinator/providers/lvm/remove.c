/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* abort and remove: taking copies down, finished or not. */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/lvm/copy-mount.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/lvm/placeholder.h"
#include "coordinator/providers/lvm/take-down.h"
#include "coordinator/providers/request.h"

static int parse_unwanted(const json_t *entry, struct unwanted *ret, struct err *err)
{
	const json_t *volume = json_object_get(entry, "Volume");

	ret->copy = request_id(entry, "Copy", err);
	if (!ret->copy)
		return -1;
	ret->vg_uuid = volume ? request_string(volume, "VgUuid", err) : request_string(entry, "Filesystem", err);
	return ret->vg_uuid ? 0 : -1;
}

int lvm_abort(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	struct unwanted list[LVM_MEMBERS_MAX];
	char machine[MACHINE_ID_SIZE];
	size_t i;

	if (!members)
		return -1;
	if (json_array_size(members) > LVM_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many copies to abort at once");
	json_array_foreach (members, i, entry)
		if (parse_unwanted(entry, &list[i], err) < 0)
			return -1;
	return take_down(list, json_array_size(members), request_host(request, machine), err);
}

static int check_unused(const json_t *row, const char *copy, struct err *err)
{
	char name[DM_DEVICE_NAME_SIZE], where[256];
	struct dm_state device;

	if (!dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name) || !dm_by_name(name, &device) ||
	    !device.exists)
		return 0;
	if (copy_mounted_where(device.number, where, sizeof where))
		return err_set(err, VSS_E_VOLUME_IN_USE, "The copy %s is mounted at %s: unexpose it first", copy,
			       where);
	if (device.live && device.open_count > 0)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "The copy %s is in use: somebody has /dev/mapper/%s open (lsof tells who)", copy, name);
	return 0;
}

int lvm_remove(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(groups_done) struct groups groups = { 0 };
	char machine[MACHINE_ID_SIZE];
	struct unwanted unwanted;
	struct copy_tags tags;
	const char *host = request_host(request, machine);
	json_t *row;

	if (groups_read_all(&groups, err) < 0)
		return -1;
	row = groups_find_requested(&groups, request, err);
	if (!row)
		return -1;
	unwanted = (struct unwanted){ .copy = json_string_value(json_object_get(request, "Copy")),
				      .vg_uuid = row_text(row, "vg_uuid") };
	if (check_unused(row, unwanted.copy, err) < 0)
		return -1;
	/* An unfinished one may still be in another machine's hands; a finished one came here with its disk. */
	if (row_has_tags(row, &tags) && tags.state == COPY_COMMITTED)
		host = tags.host;
	return take_down_known(&groups, &unwanted, 1, host, err);
}
