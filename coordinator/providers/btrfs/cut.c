/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* flush and cut: the copies themselves, as close together as can be. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/btrfs/subvolume.h"
#include "coordinator/providers/request.h"

struct member {
	const char *copy;
	int source, store;
	bool repair;
	int failure; /* errno, 0 when done */
	uint64_t begin, end;
	struct job *job;
};

struct set;

/* What is done on one filesystem, on a thread of its own where the set has several. */
struct job {
	struct set *set;
	char filesystem[ID_SIZE];
	void (*run)(struct job *job);
	pthread_t thread;
	struct err err;
};

struct set {
	struct member members[BTRFS_MEMBERS_MAX];
	size_t n_members;
	struct job jobs[BTRFS_MEMBERS_MAX];
	size_t n_jobs;
};

static struct job *get_job(struct set *set, int fd, struct err *err)
{
	char filesystem[ID_SIZE];

	if (filesystem_uuid(fd, filesystem, err) < 0)
		return NULL;
	for (size_t i = 0; i < set->n_jobs; i++)
		if (strcmp(set->jobs[i].filesystem, filesystem) == 0)
			return &set->jobs[i];
	struct job *job = &set->jobs[set->n_jobs++];
	*job = (struct job){ .set = set };
	memcpy(job->filesystem, filesystem, sizeof filesystem);
	return job;
}

static int parse_member(struct set *set, json_t *entry, const struct fd_list *fds, struct err *err)
{
	struct member *member = &set->members[set->n_members++];

	*member = (struct member){ .copy = request_id(entry, "Copy", err), .repair = request_flag(entry, "Repair") };
	if (!member->copy)
		return -1;
	member->source = request_fd(entry, "Source", fds, err);
	member->store = member->source < 0 ? -1 : request_fd(entry, "Store", fds, err);
	member->job = member->store < 0 ? NULL : get_job(set, member->store, err);
	return member->job ? 0 : -1;
}

static int parse(struct set *set, json_t *request, const struct fd_list *fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	size_t i;

	if (!members)
		return -1;
	if (json_array_size(members) > BTRFS_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
			       "A set may hold %u btrfs volumes, this one has %zu", BTRFS_MEMBERS_MAX,
			       json_array_size(members));
	json_array_foreach(members, i, entry) if (parse_member(set, entry, fds, err) < 0) return -1;
	return 0;
}

static void *run_job(void *data)
{
	struct job *job = data;

	job->run(job);
	return NULL;
}

/* Runs every filesystem's job and waits for all. The first runs on this thread, once the others are started; so does
 * one for which no thread can be had. */
static void run_jobs(struct set *set, void (*run)(struct job *job))
{
	bool threaded[BTRFS_MEMBERS_MAX] = { false };

	for (size_t i = 1; i < set->n_jobs; i++) {
		set->jobs[i].run = run;
		threaded[i] = pthread_create(&set->jobs[i].thread, NULL, run_job, &set->jobs[i]) == 0;
	}
	for (size_t i = 0; i < set->n_jobs; i++)
		if (!threaded[i])
			run(&set->jobs[i]);
	for (size_t i = 1; i < set->n_jobs; i++)
		if (threaded[i])
			pthread_join(set->jobs[i].thread, NULL);
}

static void flush_job(struct job *job)
{
	const struct set *set = job->set;

	for (size_t i = 0; i < set->n_members; i++) {
		if (set->members[i].job == job) {
			filesystem_flush(set->members[i].store, &job->err);
			return;
		}
	}
}

int btrfs_flush(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	struct set set = { 0 };

	if (parse(&set, request, fds, err) < 0)
		return -1;
	run_jobs(&set, flush_job);
	for (size_t i = 0; i < set.n_jobs; i++) {
		if (set.jobs[i].err.code) {
			*err = set.jobs[i].err;
			return -1;
		}
	}
	return 0;
}

static const char *name_of(const struct member *member)
{
	return member->repair ? STORE_WORK : VSS_STORE_COPY;
}

static void cut_job(struct job *job)
{
	struct set *set = job->set;

	for (size_t i = 0; i < set->n_members; i++) {
		struct member *member = &set->members[i];
		if (member->job != job)
			continue;
		member->begin = clock_now();
		if (subvolume_snapshot(member->source, member->store, name_of(member), !member->repair) < 0) {
			member->failure = errno;
			return;
		}
		member->end = clock_now();
	}
}

static int cut_failed(const struct member *member, struct err *err)
{
	char link[32], path[512];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", member->source);
	length = readlink(link, path, sizeof path - 1);
	path[length > 0 ? length : 0] = '\0';
	if (member->failure == ENOSPC || member->failure == EDQUOT)
		return err_set(
		    err, VSS_E_INSUFFICIENT_STORAGE,
		    "The btrfs filesystem of %s has no room for the copy (%s). Delete files or older copies there",
		    path, strerror(member->failure));
	return err_errno(err, member->failure, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot make the copy of %s", path);
}

static json_t *cut_answer(const struct member *member, struct err *err)
{
	autoclose int copy = open_beneath(member->store, name_of(member), O_RDONLY | O_DIRECTORY);
	struct subvolume made;

	if (copy < 0) {
		err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open the copy %s", member->copy);
		return NULL;
	}
	if (subvolume_get(copy, &made, err) < 0)
		return NULL;
	return json_pack("{s:s, s:I, s:I, s:I}", "Copy", member->copy, "Begin", (json_int_t)member->begin, "End",
			 (json_int_t)member->end, "Generation", (json_int_t)made.created);
}

int btrfs_cut(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	struct set set = { 0 };
	json_t *list = json_array();

	json_object_set_new(answer, "Members", list);
	if (parse(&set, request, fds, err) < 0)
		return -1;
	run_jobs(&set, cut_job);
	for (size_t i = 0; i < set.n_members; i++)
		if (set.members[i].failure)
			return cut_failed(&set.members[i], err);
	for (size_t i = 0; i < set.n_members; i++) {
		json_t *member = cut_answer(&set.members[i], err);
		if (!member)
			return -1;
		json_array_append_new(list, member);
	}
	return 0;
}

/* ---- as a step of a window ---- */

/* The guard makes the copy with descriptors of its own. */
static int lend(struct fd_list *answer_fds, int fd, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot hand a descriptor to the guard");
	copy = fd_list_add(answer_fds, copy);
	return copy >= 0 ? copy : err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many volumes in one window");
}

int btrfs_arm(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	struct set set = { 0 };
	json_t *list = json_array();

	json_object_set_new(answer, "Members", list);
	if (parse(&set, request, fds, err) < 0)
		return -1;
	for (size_t i = 0; i < set.n_members; i++) {
		const struct member *m = &set.members[i];
		int source = lend(answer_fds, m->source, err), store = source < 0 ? -1 : lend(answer_fds, m->store, err);
		if (store < 0)
			return -1;
		json_array_append_new(list, json_pack("{s:s, s:{s:[{s:s, s:i, s:i, s:s, s:b}]}}", "Copy", m->copy, "Window",
						      "Cut", "Kind", "btrfs-snapshot", "Source", source, "Store", store,
						      "Name", name_of(m), "ReadOnly", !m->repair));
	}
	return 0;
}

static json_t *open_answer(json_t *entry, const struct fd_list *fds, struct fd_list *answer_fds, struct err *err)
{
	struct member member = { .copy = request_id(entry, "Copy", err), .repair = request_flag(entry, "Repair") };
	struct subvolume made;

	member.store = member.copy ? request_fd(entry, "Store", fds, err) : -1;
	if (member.store < 0)
		return NULL;
	autoclose int copy = open_beneath(member.store, name_of(&member), O_RDONLY | O_DIRECTORY);
	if (copy < 0) {
		err_errno(err, errno, VSS_E_BAD_STATE, "Cannot open the copy %s", member.copy);
		return NULL;
	}
	if (subvolume_get(copy, &made, err) < 0)
		return NULL;
	json_t *row = json_pack("{s:s, s:I}", "Copy", member.copy, "Generation", (json_int_t)made.created);
	if (!member.repair)
		return row;
	int directory = fd_list_add(answer_fds, steal_fd(copy));
	if (directory >= 0)
		json_object_set_new(row, "Directory", json_integer(directory));
	else
		err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED, "Too many copies to open at once");
	return directory >= 0 ? row : (json_decref(row), NULL);
}

int btrfs_open(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry, *list = json_array();
	size_t i;

	json_object_set_new(answer, "Members", list);
	if (!members)
		return -1;
	json_array_foreach(members, i, entry)
	{
		json_t *row = open_answer(entry, fds, answer_fds, err);
		if (!row)
			return -1;
		json_array_append_new(list, row);
	}
	return 0;
}
