/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* arm: with the writers frozen, keeps LVM away from the groups, sees that everything is as prepare left it, and says
 * what is to be done in the window. No LVM command runs here. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/providers/logical-volume.h"
#include "coordinator/providers/lvm/lock.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/lvm/placeholder.h"
#include "coordinator/providers/request.h"

#define LIMIT_DEFAULT (2 * USEC_PER_SEC)
#define ARM_TRIES 3

struct member {
	const char *copy, *path;
	int source; /* borrowed; -1: not mounted */
	struct placeholder placeholder;
	struct dm_state origin;
	char vg[LVM_NAME_SIZE];
};

struct arming {
	struct member members[LVM_MEMBERS_MAX];
	size_t n;
	uint64_t deadline;
};

static int gone(const struct member *member, const char *what, struct err *err)
{
	return err_set(err, VSS_E_OBJECT_NOT_FOUND,
		       "%s of %s is gone or was replaced: somebody has removed it since the copy was "
		       "prepared. Try again",
		       what, member->path);
}

static int parse_member(struct arming *arming, json_t *entry, const struct fd_list *fds, struct err *err)
{
	struct member *member = &arming->members[arming->n++];
	const json_t *volume;
	int store;

	*member = (struct member){ .source = -1 };
	member->copy = request_id(entry, "Copy", err);
	volume = member->copy ? request_object(entry, "Volume", err) : NULL;
	member->path = volume ? request_string(volume, "Path", err) : NULL;
	store = member->path ? request_fd(entry, "Store", fds, err) : -1;
	if (store < 0 || placeholder_load(store, &member->placeholder, err) < 0)
		return -1;
	if (!json_object_get(entry, "Source"))
		return 0;
	member->source = request_fd(entry, "Source", fds, err);
	return member->source < 0 ? -1 : 0;
}

static int parse(struct arming *arming, json_t *request, const struct fd_list *fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	json_int_t limit = json_integer_value(json_object_get(request, "Limit"));
	size_t i;

	if (!members)
		return -1;
	if (json_array_size(members) > LVM_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many volumes to arm at once");
	arming->deadline =
	    clock_now() + (limit > 0 && (uint64_t)limit < LIMIT_DEFAULT ? (uint64_t)limit : LIMIT_DEFAULT);
	json_array_foreach (members, i, entry)
		if (parse_member(arming, entry, fds, err) < 0)
			return -1;
	return 0;
}

static int find_origin(struct member *member, struct err *err)
{
	char lv[LVM_NAME_SIZE];

	if (!dm_by_uuid(member->placeholder.origin, &member->origin) || !member->origin.exists || !member->origin.live)
		return gone(member, "The logical volume", err);
	return logical_volume_split_name(member->origin.name, member->vg, lv) ? 0
									      : gone(member, "The volume group", err);
}

/* ---- locks ---- */

static int compare_groups(const void *a, const void *b)
{
	const struct member *const *x = a, *const *y = b;

	return strcmp((*x)->vg, (*y)->vg);
}

/* In the order of their names, so that two who lock several never wait for each other. */
static int lock_groups(const struct arming *arming, json_t *locks, struct fd_list *answer_fds, struct err *err)
{
	const struct member *sorted[LVM_MEMBERS_MAX];

	for (size_t i = 0; i < arming->n; i++)
		sorted[i] = &arming->members[i];
	qsort(sorted, arming->n, sizeof *sorted, compare_groups);
	for (size_t i = 0; i < arming->n; i++) {
		if (i > 0 && strcmp(sorted[i]->vg, sorted[i - 1]->vg) == 0)
			continue;
		int lock = group_lock(sorted[i]->placeholder.locks, sorted[i]->vg, arming->deadline, err);
		if (lock < 0)
			return -1;
		json_array_append_new(locks, json_integer(fd_list_add(answer_fds, lock)));
	}
	return 0;
}

/* Nobody shall mount what is being cut: it would not be held. */
static int claim_unmounted(const struct member *member, json_t *locks, struct fd_list *answer_fds, struct err *err)
{
	int fd = dm_open(member->origin.number, O_RDONLY | O_EXCL);

	if (fd < 0)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s has come into use while its copy was being prepared (mounted?): try again",
			       member->path);
	json_array_append_new(locks, json_integer(fd_list_add(answer_fds, fd)));
	return 0;
}

/* ---- as prepare left it ---- */

static int make_ready_again(const struct member *member, struct err *err)
{
	const struct placeholder *list[] = { &member->placeholder };

	/* A thin entry that has a device was made again by somebody; the device keeps it. */
	if (placeholder_deactivate(&member->placeholder, err) < 0)
		return -1;
	return placeholders_ready(list, 1, err);
}

static int check_placeholder(const struct member *member, uint64_t deadline, struct err *err)
{
	for (int i = 0; i < ARM_TRIES && clock_now() < deadline; i++) {
		enum placeholder_state state = placeholder_look(&member->placeholder);
		if (state == PLACEHOLDER_READY)
			return 0;
		if (state == PLACEHOLDER_LOST)
			return gone(member, "The store for the copy", err);
		if (make_ready_again(member, err) < 0)
			return -1;
	}
	if (placeholder_look(&member->placeholder) == PLACEHOLDER_READY)
		return 0;
	return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
		       "Somebody makes the unfinished copy of %s live again and again (%s; lvchange --refresh, "
		       "vgchange, dmsetup?): "
		       "stop that and try again",
		       member->path, member->placeholder.name);
}

static int check_member(const struct member *member, uint64_t deadline, struct err *err)
{
	if (member->origin.suspended)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s is suspended by somebody else: dmsetup resume %s, and try again", member->path,
			       member->origin.name);
	return check_placeholder(member, deadline, err);
}

/* ---- the answer ---- */

static json_t *device_text(dev_t number)
{
	return json_sprintf("%u:%u", major(number), minor(number));
}

static json_t *freeze_step(const struct member *member, struct fd_list *answer_fds, struct err *err)
{
	struct stat info;
	int fd = fcntl(member->source, F_DUPFD_CLOEXEC, 3);

	if (fd < 0 || fstat(fd, &info) < 0) {
		cleanup_close(&fd);
		err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot keep %s open", member->path);
		return NULL;
	}
	return json_pack("{si ss so}", "Fd", fd_list_add(answer_fds, fd), "Path", member->path, "Device",
			 device_text(info.st_dev));
}

static json_t *cut_step(const struct placeholder *placeholder)
{
	struct dm_state device;

	if (!dm_by_name(placeholder->thin ? placeholder->pool : placeholder->name, &device))
		return NULL;
	if (placeholder->thin)
		return json_pack("{ss so ss so}", "Kind", "message", "Device", device_text(device.number), "Name",
				 device.name, "Message",
				 json_sprintf("create_snap %u %u", placeholder->id, placeholder->origin_id));
	return json_pack("{ss so ss si}", "Kind", "resume", "Device", device_text(device.number), "Name", device.name,
			 "Flags", (int)DM_FLAGS_SNAPSHOT);
}

static json_t *window_of(const struct member *member, struct fd_list *answer_fds, struct err *err)
{
	json_t *freeze = json_array(), *step;
	json_t *window = json_pack("{so s[{so ss si}] s[o]}", "Freeze", freeze, "Suspend", "Device",
				   device_text(member->origin.number), "Name", member->origin.name, "Flags",
				   (int)DM_FLAGS_ORIGIN, "Cut", cut_step(&member->placeholder));

	if (!window) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the LVM worker");
		return NULL;
	}
	if (member->source < 0)
		return window;
	step = freeze_step(member, answer_fds, err);
	if (step && json_array_append_new(freeze, step) == 0)
		return window;
	json_decref(window);
	return NULL;
}

int lvm_arm(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *locks = json_array(), *list = json_array();
	struct arming arming = { .n = 0 };

	json_object_set_new(answer, "Locks", locks);
	json_object_set_new(answer, "Members", list);
	if (parse(&arming, request, fds, err) < 0)
		return -1;
	for (size_t i = 0; i < arming.n; i++)
		if (find_origin(&arming.members[i], err) < 0)
			return -1;
	if (lock_groups(&arming, locks, answer_fds, err) < 0)
		return -1;
	for (size_t i = 0; i < arming.n; i++) {
		struct member *member = &arming.members[i];
		if ((member->source < 0 && claim_unmounted(member, locks, answer_fds, err) < 0) ||
		    check_member(member, arming.deadline, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < arming.n; i++) {
		json_t *window = window_of(&arming.members[i], answer_fds, err);
		if (!window)
			return -1;
		json_array_append_new(list, json_pack("{ss so}", "Copy", arming.members[i].copy, "Window", window));
	}
	return 0;
}
