/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* seal: from unfinished to a copy that survives the power. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/btrfs/subvolume.h"
#include "coordinator/providers/request.h"

struct member {
	const char *copy;
	int store; /* borrowed */
	bool repair;
	json_t *record;
	int record_fd;
	char filesystem[ID_SIZE];
};

struct seal {
	struct member members[PROVIDER_FDS_MAX];
	size_t n_members;
};

static void seal_done(struct seal *seal)
{
	for (size_t i = 0; i < seal->n_members; i++)
		cleanup_close(&seal->members[i].record_fd);
}

static int parse(struct seal *seal, json_t *request, const struct fd_list *fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	size_t i;

	if (!members)
		return -1;
	json_array_foreach(members, i, entry)
	{
		if (i >= ARRAY_SIZE(seal->members))
			return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many copies to seal at once");
		struct member *member = &seal->members[seal->n_members++];
		*member = (struct member){ .repair = request_flag(entry, "Repair"), .record_fd = -1 };
		member->copy = request_id(entry, "Copy", err);
		member->record = member->copy ? request_object(entry, "Record", err) : NULL;
		member->store = member->record ? request_fd(entry, "Store", fds, err) : -1;
		if (member->store < 0 || filesystem_uuid(member->store, member->filesystem, err) < 0)
			return -1;
	}
	return 0;
}

/* The sealed copy is a new subvolume: nobody who repaired holds a file in it that could still be written to, and one
 * ioctl flushes the repairs, fixes them and commits. A `copy` left by an earlier attempt may be incomplete. */
static int fix_repaired(const struct member *member, struct err *err)
{
	autoclose int work = open_beneath(member->store, STORE_WORK, O_RDONLY | O_DIRECTORY);

	if (work < 0)
		return err_errno(err, errno, VSS_E_BAD_STATE, "Cannot open the copy %s to seal it", member->copy);
	if (subvolume_destroy_tree(member->store, VSS_STORE_COPY) < 0 ||
	    subvolume_snapshot(work, member->store, VSS_STORE_COPY, true) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot make the copy %s read-only",
				 member->copy);
	if (subvolume_destroy_tree(member->store, STORE_WORK) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot remove the writable stage of the copy %s", member->copy);
	return 0;
}

static int check_copy(const struct member *member, struct err *err)
{
	autoclose int copy = open_beneath(member->store, VSS_STORE_COPY, O_RDONLY | O_DIRECTORY);
	struct subvolume subvolume;

	if (copy < 0)
		return err_errno(err, errno, VSS_E_BAD_STATE, "Cannot open the copy %s to seal it", member->copy);
	if (subvolume_get(copy, &subvolume, err) < 0)
		return -1;
	if (!subvolume.read_only || !subvolume_is_root(copy))
		return err_set(err, VSS_E_BAD_STATE, "The copy %s is not a read-only subvolume", member->copy);
	return 0;
}

static int seal_member(struct member *member, struct err *err)
{
	if ((member->repair && fix_repaired(member, err) < 0) || check_copy(member, err) < 0)
		return -1;
	member->record_fd = record_write(member->store, member->copy, member->record, err);
	return member->record_fd < 0 ? -1 : 0;
}

/* One file's sync is half the price of a commit; several files', or the removal of a writable stage that must not
 * come back, want the commit: once per filesystem. */
static int make_durable(struct seal *seal, size_t i, struct err *err)
{
	const struct member *member = &seal->members[i];
	bool alone = true, repair = member->repair;

	for (size_t j = 0; j < seal->n_members; j++) {
		if (j == i || strcmp(seal->members[j].filesystem, member->filesystem) != 0)
			continue;
		if (j < i)
			return 0; /* synced with that one */
		alone = false;
		repair |= seal->members[j].repair;
	}
	if (!alone || repair)
		return filesystem_sync(member->store, err);
	if (fsync(member->record_fd) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot write the record of the copy %s to the disk", member->copy);
	return 0;
}

int btrfs_seal(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(seal_done) struct seal seal = { 0 };

	if (parse(&seal, request, fds, err) < 0)
		return -1;
	for (size_t i = 0; i < seal.n_members; i++)
		if (seal_member(&seal.members[i], err) < 0)
			return -1;
	for (size_t i = 0; i < seal.n_members; i++)
		if (make_durable(&seal, i, err) < 0)
			return -1;
	for (size_t i = 0; i < seal.n_members; i++)
		place_mark_sealed(seal.members[i].store);
	return 0;
}
