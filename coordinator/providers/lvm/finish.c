/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* open and seal: from a copy that has been cut to one that exists. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "common/text.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/copy-mount.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/lvm/placeholder.h"
#include "coordinator/providers/lvm/tags.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/request.h"

#define NODE_PATIENCE (2 * USEC_PER_SEC)
#define NODE_INTERVAL (5 * 1000)
#define BATCH 24u /* volumes of a command: LVM takes 64 words */

struct member {
	const char *copy, *vg;
	bool repair;
	json_t *record;
	struct placeholder placeholder;
	struct dm_state device;
	char name[COPY_NAME_SIZE], type[COPY_TYPE_SIZE];
	char remark[512]; /* why the document is not in the copy; "" */
	char tags[TAG_LINE_SIZE];
	bool tagged;
};

struct finish {
	struct member *members;
	size_t n;
};

static void finish_done(struct finish *finish)
{
	free(finish->members);
}

static int parse_member(struct member *member, json_t *entry, const struct fd_list *fds, struct err *err)
{
	const json_t *volume;
	int store;

	member->repair = request_flag(entry, "Repair");
	member->copy = request_id(entry, "Copy", err);
	volume = member->copy ? request_object(entry, "Volume", err) : NULL;
	member->vg = volume ? request_string(volume, "Vg", err) : NULL;
	store = member->vg ? request_fd(entry, "Store", fds, err) : -1;
	if (store < 0 || placeholder_load(store, &member->placeholder, err) < 0)
		return -1;
	if (!lvm_is_plain(member->vg))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"Vg\" of a volume in the request is malformed");
	copy_name(member->copy, member->name);
	return 0;
}

static int parse(struct finish *finish, json_t *request, const struct fd_list *fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	size_t i;

	if (!members)
		return -1;
	if (json_array_size(members) > LVM_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many copies at once");
	finish->members = calloc(LVM_MEMBERS_MAX, sizeof *finish->members);
	if (!finish->members)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the LVM worker");
	json_array_foreach (members, i, entry)
		if (parse_member(&finish->members[finish->n++], entry, fds, err) < 0)
			return -1;
	return 0;
}

/* ---- open ---- */

/* Its node is made by the kernel at once; what udev or this process make beside it may take a moment. */
static void wait_for_node(const char *name)
{
	uint64_t end = clock_now() + NODE_PATIENCE;
	char path[DM_DEVICE_NAME_SIZE + sizeof "/dev/mapper/"];

	dm_make_nodes(name);
	snprintf(path, sizeof path, "/dev/mapper/%s", name);
	while (access(path, F_OK) < 0 && clock_now() < end)
		usleep(NODE_INTERVAL);
}

static int find_device(struct member *member, struct err *err)
{
	if (placeholder_activate(&member->placeholder, err) < 0)
		return -1;
	if (!dm_by_name(member->placeholder.name, &member->device) || !member->device.exists || !member->device.live)
		return err_set(err, VSS_E_BAD_STATE,
			       "The copy %s has no device: it was not made, or somebody has removed it", member->copy);
	copy_filesystem(member->device.number, member->type);
	return 0;
}

static int open_member(struct member *member, json_t *row, struct fd_list *answer_fds, struct err *err)
{
	if (find_device(member, err) < 0)
		return -1;
	wait_for_node(member->placeholder.name);
	if (*member->type && !copy_is_clean(member->device.number, member->type))
		json_object_set_new(row, "Clean", json_false());
	if (!member->repair || !*member->type)
		return 0;
	autoclose int mount = copy_mount(member->device.number, member->type, true, err);
	if (mount < 0)
		return -1;
	int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open the copy %s", member->copy);
	json_object_set_new(row, "Directory", json_integer(fd_list_add(answer_fds, root)));
	return 0;
}

int lvm_open(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(finish_done) struct finish finish = { .members = NULL };
	json_t *rows = json_array();

	json_object_set_new(answer, "Members", rows);
	if (parse(&finish, request, fds, err) < 0)
		return -1;
	for (size_t i = 0; i < finish.n; i++) {
		json_t *row = json_pack("{ss}", "Copy", finish.members[i].copy);
		json_array_append_new(rows, row);
		if (open_member(&finish.members[i], row, answer_fds, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the document in the copy ---- */

/* A place that somebody else made in the volume is left alone. */
static int open_place(int root, const char *copy, struct err *err)
{
	struct stat info;
	int place;

	if (mkdirat(root, VSS_STORE_DIR, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "cannot make /" VSS_STORE_DIR " in it");
	place = open_beneath(root, VSS_STORE_DIR, O_RDONLY | O_DIRECTORY);
	if (place < 0 || fstat(place, &info) < 0 || info.st_uid != 0 || (info.st_mode & 022)) {
		cleanup_close(&place);
		return err_set(err, VSS_E_ACCESS_DENIED,
			       "/" VSS_STORE_DIR " in it is not a directory that only root may write to");
	}
	unlinkat(place, VSS_STORE_RECORD, 0); /* of the copy to which the volume was reverted, say */
	return place;
}

static int write_document(const struct member *member, int mount, struct err *err)
{
	autoclose int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autoclose int place = root < 0 ? -1 : open_place(root, member->copy, err);
	autoclose int document = place < 0 ? -1 : record_write(place, member->copy, member->record, err);

	return document < 0 ? -1 : 0;
}

/* Mounting also replays the journal of a copy that is not clean. A copy that cannot hold its document keeps its
 * essentials in tags, and says so. */
static int finish_filesystem(struct member *member, struct err *err)
{
	struct err why = { 0 };

	if (!*member->type) {
		text_format(member->remark, sizeof member->remark, "it holds no filesystem that could be mounted");
		return 0;
	}
	autoclose int mount = copy_mount(member->device.number, member->type, true, &why);
	if (mount >= 0) {
		int written = write_document(member, mount, &why);
		if (copy_end_writing(mount, member->copy, err) < 0)
			return -1;
		if (written == 0)
			return 0;
	}
	if (why.code == VSS_E_LIMITS_EXCEEDED) {
		*err = why;
		return -1;
	}
	text_format(member->remark, sizeof member->remark, "%s", why.text);
	return 0;
}

/* ---- seal ---- */

/* All with the same tags in the same group, in commands as few as LVM takes; each volume is a commit of its own. */
static int tag_alike(struct finish *finish, size_t first, struct err *err)
{
	const struct member *leader = &finish->members[first];
	char list[BATCH * 160] = "";
	unsigned n = 0;

	for (size_t i = first; i < finish->n && n < BATCH; i++) {
		struct member *member = &finish->members[i];
		if (member->tagged || strcmp(member->vg, leader->vg) != 0 || strcmp(member->tags, leader->tags) != 0)
			continue;
		snprintf(list + strlen(list), sizeof list - strlen(list), " %s/%s", member->vg, member->name);
		member->tagged = true;
		n++;
	}
	return lvm_run(err, "LVM cannot mark the copies as complete", "lvchange -y%s%s", leader->tags, list);
}

static int tag_all(struct finish *finish, struct err *err)
{
	for (size_t i = 0; i < finish->n; i++)
		if (!copy_tags_commit(finish->members[i].tags, finish->members[i].record))
			return err_set(err, VSS_E_LIMITS_EXCEEDED,
				       "The essentials of the copy %s do not fit into LVM's tags",
				       finish->members[i].copy);
	for (size_t i = 0; i < finish->n; i++)
		if (!finish->members[i].tagged && tag_alike(finish, i, err) < 0)
			return -1;
	return 0;
}

static int seal_member(struct member *member, json_t *entry, struct err *err)
{
	member->record = request_object(entry, "Record", err);
	if (!member->record || find_device(member, err) < 0 || finish_filesystem(member, err) < 0)
		return -1;
	return copy_set_read_only(member->device.number, member->copy, err);
}

static json_t *sealed_row(const struct member *member)
{
	json_t *row =
	    json_pack("{ss so}", "Copy", member->copy, "Device", json_sprintf("/dev/%s/%s", member->vg, member->name));

	if (*member->remark)
		json_object_set_new(row, "NoDocument", json_string(member->remark));
	return row;
}

int lvm_seal(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(finish_done) struct finish finish = { .members = NULL };
	json_t *rows = json_array();

	json_object_set_new(answer, "Members", rows);
	if (parse(&finish, request, fds, err) < 0)
		return -1;
	for (size_t i = 0; i < finish.n; i++)
		if (seal_member(&finish.members[i], json_array_get(json_object_get(request, "Members"), i), err) < 0)
			return -1;
	if (tag_all(&finish, err) < 0)
		return -1;
	for (size_t i = 0; i < finish.n; i++) {
		/* A thin copy needs no device until somebody wants to see it; one that is still in use keeps it. */
		placeholder_deactivate(&finish.members[i].placeholder, NULL);
		json_array_append_new(rows, sealed_row(&finish.members[i]));
	}
	return 0;
}
