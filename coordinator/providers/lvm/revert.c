/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check-revert, revert, reverts, end-reverts: making a volume what a copy of it says, which is LVM's merge: the copy goes into the volume and is
 * gone then. While somebody has the volume open LVM puts that off until it is activated the next time. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/providers/lvm/command.h"
#include "coordinator/providers/lvm/copy-mount.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/ops.h"
#include "coordinator/providers/request.h"

#define PATIENCE (5 * USEC_PER_SEC) /* for a merge to end before it is told of as under way */
#define INTERVAL (50 * 1000)
#define FDS_LOOKED_AT 1024

/* ---- merging ---- */

static int check_usable(const json_t *row, const char *copy, struct err *err)
{
	char name[DM_DEVICE_NAME_SIZE], where[256];
	struct copy_tags tags;
	struct dm_state device;

	if (!row_has_tags(row, &tags) || tags.state != COPY_COMMITTED)
		return err_set(err, VSS_E_BAD_STATE, "The copy %s is unfinished: nothing can be reverted to it", copy);
	if (!*row_text(row, "origin"))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "The copy %s in %s has lost its tie to its volume: LVM cuts it when a thin volume is reverted "
			       "to another copy, or removed. Expose the copy and put the files back",
			       copy, row_text(row, "vg_name"));
	if (row_has_overflowed(row))
		return err_set(err, VSS_E_BAD_STATE, "The copy %s cannot be used: its store has overflowed", copy);
	if (dm_name_of(row_text(row, "vg_name"), row_text(row, "lv_name"), name) && dm_by_name(name, &device) &&
	    device.exists && copy_mounted_where(device.number, where, sizeof where))
		return err_set(err, VSS_E_VOLUME_IN_USE, "The copy %s is mounted at %s: unexpose it first", copy,
			       where);
	return 0;
}

/* A thin copy takes its volume's place whole: with what says how it is to be used, and by which rules. */
static int make_fit(const struct groups *groups, const json_t *row, struct err *err)
{
	const json_t *origin = groups_find_volume(groups, row_text(row, "vg_uuid"), row_text(row, "origin_uuid"));
	const char *vg = row_text(row, "vg_name"), *lv = row_text(row, "lv_name");
	char tags[LVM_COMMAND_SIZE / 2] = "";
	unsigned n = 0;

	for (const char *tag = row_text(origin, "lv_tags"); *tag && n < 40; n++) {
		int length = (int)strcspn(tag, ",");
		snprintf(tags + strlen(tags), sizeof tags - strlen(tags), " --addtag=%.*s", length, tag);
		tag += length + (tag[length] == ',');
	}
	if (*tags &&
	    lvm_run(err, "LVM cannot give the copy its volume's tags", "lvchange -y%s %s/%s", tags, vg, lv) < 0)
		return -1;
	if (lvm_run(err, "LVM cannot make the copy writable", "lvchange -y -prw %s/%s", vg, lv) < 0)
		return -1;
	return lvm_run(err, "LVM cannot make the copy an ordinary volume", "lvchange -y -kn %s/%s", vg, lv);
}

/* vssd has to see the worker's end; LVM's own descriptors stay. */
static void close_sockets(void)
{
	for (int fd = 3; fd < FDS_LOOKED_AT; fd++) {
		struct stat info;
		if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode))
			close(fd);
	}
}

/* What the command says of itself goes through the pipe; the merge may take longer than vssd waits, so that it is
 * watched to its end by a process of its own, which nobody kills with this one. */
static _Noreturn void merge_and_wait(const char *command, int pipe)
{
	struct err err = { 0 };

	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	close_sockets();
	if (lvm_run(&err, "LVM cannot revert the volume", "%s", command) < 0 &&
	    write(pipe, err.text, strlen(err.text)) < 0)
		_exit(2);
	_exit(err.code ? 1 : 0);
}

enum outcome { MERGE_ENDED, MERGE_RUNS, MERGE_FAILED };

static enum outcome wait_for_merge(pid_t child, int pipe, struct err *err)
{
	uint64_t end = clock_now() + PATIENCE;
	char text[sizeof err->text] = "";
	int status;

	for (;;) {
		pid_t ended = waitpid(child, &status, WNOHANG);
		if (ended == child)
			break;
		if (ended < 0 || clock_now() >= end)
			return MERGE_RUNS;
		usleep(INTERVAL);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return MERGE_ENDED;
	if (read(pipe, text, sizeof text - 1) <= 0)
		text_format(text, sizeof text, "The process that watched the merge ended: look at it with lvs -a");
	err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s", text);
	return MERGE_FAILED;
}

/* LVM is loaded here, so that the child need not be the one that fails to. */
static enum outcome run_merge(const char *command, struct err *err)
{
	int pipes[2];
	pid_t child;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		goto failed;
	child = fork();
	if (child == 0)
		merge_and_wait(command, pipes[1]);
	close(pipes[1]);
	if (child > 0) {
		enum outcome outcome = wait_for_merge(child, pipes[0], err);
		close(pipes[0]);
		return outcome;
	}
	close(pipes[0]);
failed:
	err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot start a process to watch the merge");
	return MERGE_FAILED;
}

/* ---- what has become of it ---- */

static int read_merging(json_t **ret, struct err *err)
{
	return lvm_report(
	    ret, NULL, err,
	    "lvs -a -o vg_name,vg_uuid,lv_name,lv_uuid,lv_tags,lv_role,lv_layout,lv_merging,origin,origin_uuid,"
	    "data_percent");
}

/* Hidden ones are reported as "[vss-...]". */
static bool is_merging_copy(const json_t *row, struct copy_tags *ret)
{
	const char *name = row_text(row, "lv_name");
	char bare[COPY_NAME_SIZE];

	text_format(bare, sizeof bare, "%.*s", (int)strcspn(name + (*name == '['), "]"), name + (*name == '['));
	return row_is(row, "lv_merging", "merging") && copy_tags_read(row_text(row, "lv_tags"), bare, ret);
}

static const char *state_of(const json_t *rows, const char *vg_uuid, const char *copy)
{
	struct copy_tags tags;
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		if (row_is(row, "vg_uuid", vg_uuid) && is_merging_copy(row, &tags) && strcmp(tags.copy, copy) == 0)
			return "pending";
	return "reverted";
}

/* The tags of the copy that has become the volume say nothing any more. */
static void drop_tags(const char *vg, const char *lv, const char *tags)
{
	char line[LVM_COMMAND_SIZE / 2] = "";
	unsigned n = 0;

	for (const char *tag = tags; *tag && n < 40;) {
		int length = (int)strcspn(tag, ",");
		if (strncmp(tag, "vss.", 4) == 0 && strncmp(tag, "vss.storage.", 12) != 0) {
			snprintf(line + strlen(line), sizeof line - strlen(line), " --deltag=%.*s", length, tag);
			n++;
		}
		tag += length + (tag[length] == ',');
	}
	if (*line)
		lvm_run(NULL, "Dropping tags", "lvchange -y%s %s/%s", line, vg, lv);
}

static int answer_state(json_t *answer, const json_t *row, const char *copy, enum outcome outcome, struct err *err)
{
	const char *state = "merging", *vg = row_text(row, "vg_name"), *lv = row_text(row, "origin");
	autojson json_t *rows = NULL;

	if (outcome == MERGE_ENDED) {
		if (read_merging(&rows, err) < 0)
			return -1;
		state = state_of(rows, row_text(row, "vg_uuid"), copy);
		if (row_is_thin(row) && strcmp(state, "reverted") == 0)
			drop_tags(vg, lv, row_text(row, "lv_tags"));
	}
	json_object_set_new(answer, "State", json_string(state));
	if (strcmp(state, "pending") == 0)
		json_object_set_new(
		    answer, "Message",
		    json_sprintf("%s/%s is in use: it is reverted when it is activated the next time. Unmount it and "
				 "run lvchange --refresh %s/%s, or restart this machine",
				 vg, lv, vg, lv));
	return 0;
}

int lvm_check_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(groups_done) struct groups groups = { 0 };
	const json_t *row = groups_read_all(&groups, err) < 0 ? NULL : groups_find_requested(&groups, request, err);

	json_object_set_new(answer, "Kept", json_false());
	return row ? check_usable(row, json_string_value(json_object_get(request, "Copy")), err) : -1;
}

int lvm_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	cleanup(groups_done) struct groups groups = { 0 };
	enum outcome outcome;
	char command[256];
	const char *copy;
	json_t *row;

	if (groups_read_all(&groups, err) < 0)
		return -1;
	row = groups_find_requested(&groups, request, err);
	if (!row)
		return -1;
	copy = json_string_value(json_object_get(request, "Copy"));
	if (check_usable(row, copy, err) < 0 || (row_is_thin(row) && make_fit(&groups, row, err) < 0))
		return -1;
	snprintf(command, sizeof command, "lvconvert -y --merge -i 1 %s/%s", row_text(row, "vg_name"),
		 row_text(row, "lv_name"));
	outcome = run_merge(command, err);
	return outcome == MERGE_FAILED ? -1 : answer_state(answer, row, copy, outcome, err);
}

/* ---- reverts ---- */

struct merge {
	bool runs, failed;
	unsigned long long left, total; /* sectors of the store */
};

/* The kernel's numbers: USED/SIZE METADATA, of which the metadata is left when nothing else is. */
static struct merge merge_of(const json_t *row)
{
	char name[DM_DEVICE_NAME_SIZE];
	struct dm_line line = { .type = "" };
	unsigned long long used = 0, size = 0, metadata = 0;
	struct merge merge = { .runs = dm_name_of(row_text(row, "vg_name"), row_text(row, "origin"), name) &&
				       dm_read_status(name, &line) && strcmp(line.type, "snapshot-merge") == 0 };

	if (merge.runs && sscanf(line.params, "%llu/%llu %llu", &used, &size, &metadata) != 3)
		merge.failed = true;
	merge.left = used > metadata ? used - metadata : 0;
	merge.total = size > metadata ? size - metadata : 0;
	return merge;
}

static json_t *describe(const json_t *row)
{
	autojson json_t *record = copy_tags_record(row_text(row, "lv_tags"));
	const json_t *volume = json_object_get(record, "Volume");
	struct merge merge = merge_of(row);
	int percent = merge.total > 0 ? (int)(100 - merge.left * 100 / merge.total) : 0;

	return json_pack("{ss so ss si}", "Volume", json_string_value(json_object_get(volume, "Path")) ?: "", "Device",
			 json_sprintf("/dev/%s/%s", row_text(row, "vg_name"), row_text(row, "origin")), "State",
			 merge.runs ? "merging" : "pending", "Percent", percent);
}

int lvm_reverts(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *list = json_array(), *row;
	autojson json_t *rows = NULL;
	struct copy_tags tags;
	size_t i;

	json_object_set_new(answer, "Reverts", list);
	if (read_merging(&rows, err) < 0)
		return -1;
	json_array_foreach (rows, i, row) {
		if (!is_merging_copy(row, &tags))
			continue;
		json_t *entry = describe(row);
		json_object_set_new(entry, "Shadow", json_string(tags.copy));
		json_array_append_new(list, entry);
	}
	return 0;
}

/* ---- end-reverts ---- */

/* LVM looks at the volume once more, sees that the merge is over, and takes the copy away: in a process of its own, which it
 * starts for that. */
static int end_merge(const json_t *row, struct err *err)
{
	const char *vg = row_text(row, "vg_name"), *lv = row_text(row, "origin");
	struct merge merge = merge_of(row);

	if (merge.failed)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			       "The kernel has given up merging into %s/%s (dmsetup status): its disk has failed, or its store", vg, lv);
	if (!merge.runs || merge.left > 0)
		return 0;
	return lvm_run(err, "LVM cannot end the merge", "lvchange -y --poll y %s/%s", vg, lv);
}

int lvm_end_reverts(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	autojson json_t *rows = NULL;
	struct copy_tags tags;
	json_t *row;
	size_t i;
	int r = 0;

	if (read_merging(&rows, err) < 0)
		return -1;
	json_array_foreach (rows, i, row)
		if (is_merging_copy(row, &tags) && end_merge(row, err) < 0)
			r = -1;
	return r;
}
