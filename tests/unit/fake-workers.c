/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake-workers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"
#include "tests/unit/tape.h"

#define RULES_MAX 32

struct rule {
	const char *op, *answer;
	enum fake_mode mode;
	enum vss_error error;
};

struct job {
	struct workers *pool;
	struct job *next;
	char op[32], role[16];
	json_t *request;
	struct rule rule;
	uint64_t deadline;
	bool open;
	job_done_fn fn;
	void *data;
	sd_event_source *source;
};

struct workers {
	sd_event *event;
	struct rule rules[RULES_MAX];
	size_t n_rules;
	struct job *jobs; /* oldest first */
	json_t *volumes, *copies;
	dev_t marker_dev; /* of the file whose descriptors are handed out */
	ino_t marker_ino;
};

struct workers *fake_workers_new(sd_event *event)
{
	struct workers *w = calloc(1, sizeof *w);
	struct stat st;

	w->event = event;
	w->volumes = json_array();
	w->copies = json_object();
	/* By a descriptor, as they are handed out: under valgrind the path alone leads elsewhere. */
	autoclose int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (exe < 0 || fstat(exe, &st) < 0)
		abort();
	w->marker_dev = st.st_dev;
	w->marker_ino = st.st_ino;
	return w;
}

void fake_workers_cancel_all(struct workers *w)
{
	for (struct job *job = w->jobs; job; job = job->next)
		if (job->open)
			job_cancel(job);
}

struct workers *workers_free(struct workers *w)
{
	fake_workers_cancel_all(w);
	while (w->jobs) {
		struct job *job = w->jobs;
		w->jobs = job->next;
		json_decref(job->request);
		free(job);
	}
	json_decref(w->volumes);
	json_decref(w->copies);
	free(w);
	return NULL;
}

/* ---- the machine ---- */

void fake_workers_volume(struct workers *w, const char *path, const char *id, const char *domain)
{
	json_array_append_new(w->volumes,
			      json_pack("{ss ss sb ss ss ss ss s[s]}", "Path", path, "Id", id, "Mounted", 1, "Provider", "btrfs",
					"ProviderId", "p", "FsUuid", "fs-1", "Device", "/dev/fake", "Domains",
					domain ? domain : id));
}

static json_t *disks(void)
{
	return json_pack("[{ss ss ss sb}]", "Device", "sda", "Number", "8:0", "Kind", "disk", "Virtual", 0);
}

/* One volume group, with room for everything. */
static json_t *storage(const char *role)
{
	json_int_t size = (json_int_t)1 << 40;

	if (strcmp(role, "lvm") != 0)
		return json_object();
	return json_pack("{s[{ss ss sI sI si s[{ss ss sI sI so}]}]}", "Groups", "Uuid", "vg-1", "Name", "vg", "Size", size, "Free",
			 size, "ExtentSize", 4 << 20, "Pvs", "Uuid", "pv-1", "Device", "/dev/sda", "Size", size, "Free", size,
			 "Disks", disks());
}

void fake_workers_held_volume(struct workers *w, const char *path, const char *id)
{
	json_t *volume = json_pack("{ss ss ss ss ss ss sb s[s] s[{ss}] s{ss ss} ss si so}", "Path", path, "Id", id,
				   "Provider", "lvm", "FsUuid", "fs-2", "VgUuid", "vg-1", "Device", "/dev/vg/fake",
				   "Mounted", 1, "Domains", id, "Layers", "Number", id, "Dm", "Name", id, "Number", id, "Kind",
				   "cow", "LvSize", 1 << 30, "Disks", disks());

	json_array_append_new(w->volumes, volume);
}

json_t *fake_workers_volume_row(const struct workers *w, const char *id)
{
	size_t i;
	json_t *volume;

	json_array_foreach(w->volumes, i, volume)
		if (strcmp(json_string_value(json_object_get(volume, "Id")), id) == 0)
			return volume;
	return NULL;
}

static bool is_below(const char *path, const char *root)
{
	size_t n = strlen(root);

	return strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '/' || strcmp(root, "/") == 0);
}

static json_t *resolve_path(const struct workers *w, const char *path)
{
	json_t *best = NULL, *volume, *row;
	size_t i, longest = 0;

	json_array_foreach(w->volumes, i, volume) {
		const char *root = json_string_value(json_object_get(volume, "Path"));
		if (!is_below(path, root) || strlen(root) < longest)
			continue;
		best = volume;
		longest = strlen(root);
	}
	row = best ? json_copy(best) : json_object();
	json_object_set_new(row, "Given", json_string(path));
	if (strstr(path, "/absent"))
		json_object_set_new(row, "Absent", json_true());
	return row;
}

static json_t *resolve(const struct workers *w, json_t *request)
{
	json_t *rows = json_array(), *path;
	size_t i;

	json_array_foreach(json_object_get(request, "Paths"), i, path)
		json_array_append_new(rows, resolve_path(w, json_string_value(path)));
	return json_pack("{so}", "Volumes", rows);
}

/* ---- the provider ---- */

static json_t *hand_out(int *fds, size_t *n_fds)
{
	fds[*n_fds] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fds[*n_fds] < 0 || *n_fds >= FRAME_FDS_MAX)
		abort();
	return json_integer((json_int_t)(*n_fds)++);
}

size_t fake_workers_open_fds(const struct workers *w)
{
	size_t n = 0;

	for (int fd = 3; fd < 1024; fd++) {
		struct stat st;
		n += fstat(fd, &st) == 0 && st.st_dev == w->marker_dev && st.st_ino == w->marker_ino;
	}
	return n;
}

/* A filesystem to freeze, a device to suspend, a snapshot to let go; or, without a window of its own, a snapshot to make. */
static json_t *window_of(const struct job *job, json_t *member, int *fds, size_t *n_fds)
{
	json_t *volume = json_object_get(member, "Volume"), *id = json_object_get(volume, "Id");

	if (strcmp(job->role, "lvm") != 0)
		return json_pack("{s[{ss so so ss sb}]}", "Cut", "Kind", "btrfs-snapshot", "Source", hand_out(fds, n_fds),
				 "Store", hand_out(fds, n_fds), "Name", "copy", "ReadOnly", 1);
	return json_pack("{s[{so sO sO}] s[{sO sO si}] s[{ss sO sO si}] si}", "Freeze", "Fd", hand_out(fds, n_fds), "Path",
			 json_object_get(volume, "Path"), "Device", id, "Suspend", "Device", id, "Name", id, "Flags", 0x60,
			 "Cut", "Kind", "resume", "Device", id, "Name", id, "Flags", 0x70, "Depth", 0);
}

static json_t *do_member(struct workers *w, const struct job *job, json_t *member, int *fds, size_t *n_fds)
{
	const char *copy = json_string_value(json_object_get(member, "Copy")), *op = job->op;
	json_t *row = json_pack("{ss}", "Copy", copy);

	if (strcmp(op, "arm") == 0) {
		json_object_set_new(row, "Window", window_of(job, member, fds, n_fds));
	} else if (strcmp(op, "prepare") == 0) {
		json_object_set_new(w->copies, copy, json_null());
		if (strcmp(job->role, "lvm") == 0)
			return row;
		json_object_set_new(row, "Source", hand_out(fds, n_fds));
		json_object_set_new(row, "Store", hand_out(fds, n_fds));
	} else if (strcmp(op, "open") == 0) {
		json_object_set_new(row, "Directory", hand_out(fds, n_fds));
	} else if (strcmp(op, "seal") == 0) {
		json_object_set(w->copies, copy, json_object_get(member, "Record"));
	} else if (strcmp(op, "abort") == 0) {
		json_object_del(w->copies, copy);
	}
	return row;
}

static json_t *list(const struct workers *w, const char *role)
{
	json_t *copies = json_array(), *record;
	const char *copy;

	json_object_foreach(w->copies, copy, record) {
		json_t *provider = json_object_get(json_object_get(record, "Volume"), "Provider");
		if (json_is_object(record) && strcmp(json_string_value(provider) ?: "btrfs", role) == 0)
			json_array_append_new(copies, json_pack("{ss sO}", "Copy", copy, "Record", record));
	}
	return json_pack("{s[{ss so}]}", "Filesystems", "Uuid", strcmp(role, "lvm") == 0 ? "vg-1" : "fs-1", "Copies", copies);
}

static json_t *roots(json_t *volumes, int *fds, size_t *n_fds)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < json_array_size(volumes); i++)
		json_array_append_new(rows, json_pack("{so}", "Fd", hand_out(fds, n_fds)));
	return json_pack("{so}", "Roots", rows);
}

static json_t *usual_answer(struct workers *w, const struct job *job, int *fds, size_t *n_fds)
{
	if (strcmp(job->op, "roots") == 0)
		return roots(json_object_get(job->request, "Volumes"), fds, n_fds);
	json_t *members = json_array(), *member, *answer;
	size_t i;

	if (strcmp(job->op, "resolve") == 0 || strcmp(job->op, "list") == 0) {
		json_decref(members);
		return job->op[0] == 'r' ? resolve(w, job->request) : list(w, job->role);
	}
	if (strcmp(job->op, "storage-list") == 0) {
		json_decref(members);
		return storage(job->role);
	}
	if (strcmp(job->op, "remove") == 0)
		json_object_del(w->copies, json_string_value(json_object_get(job->request, "Copy")));
	json_array_foreach(json_object_get(job->request, "Members"), i, member)
		json_array_append_new(members, do_member(w, job, member, fds, n_fds));
	answer = json_pack("{so}", "Members", members);
	if (strcmp(job->op, "arm") == 0 && strcmp(job->role, "lvm") == 0)
		json_object_set_new(answer, "Locks", json_pack("[o]", hand_out(fds, n_fds)));
	return answer;
}

/* ---- jobs ---- */

/* "OP", or "ROLE OP". */
static bool is_named(const char *name, const char *role, const char *op)
{
	size_t n = strlen(role);

	return strcmp(name, op) == 0 || (strncmp(name, role, n) == 0 && name[n] == ' ' && strcmp(name + n + 1, op) == 0);
}

static void end_job(struct job *job, enum vss_error error, const char *answer)
{
	int fds[FRAME_FDS_MAX];
	size_t n_fds = 0;
	struct err err = { 0 };
	autojson json_t *value = NULL;

	if (!job->open)
		abort();
	job->open = false;
	job->source = sd_event_source_disable_unref(job->source);
	if (error)
		err_set(&err, error, "The worker says: %s at %s", error_text(error), job->op);
	else
		value = answer ? json_loads(answer, 0, NULL) : usual_answer(job->pool, job, fds, &n_fds);
	job->fn(&err, value, fds, n_fds, job->data);
	for (size_t i = 0; i < n_fds; i++)
		cleanup_close(&fds[i]);
}

static int answer_now(sd_event_source *source, void *data)
{
	struct job *job = data;

	end_job(job, job->rule.mode == FAKE_ERROR ? job->rule.error : VSS_OK, job->rule.answer);
	return 0;
}

static int deadline_passed(sd_event_source *source, uint64_t usec, void *data)
{
	end_job(data, VSS_E_TIMED_OUT, NULL);
	return 0;
}

static struct rule find_rule(const struct workers *w, const char *role, const char *op)
{
	for (size_t i = w->n_rules; i-- > 0;)
		if (is_named(w->rules[i].op, role, op))
			return w->rules[i];
	return (struct rule){ .mode = FAKE_OK };
}

struct job *workers_run(struct workers *w, const char *role, const char *op, json_t *request, const int *fds,
			size_t n_fds, uint64_t deadline, job_done_fn fn, void *data, struct err *err)
{
	struct rule rule = find_rule(w, role, op);
	struct job *job, **end = &w->jobs;

	if (!request || !*role)
		abort(); /* json_pack failed: somebody packed what is not there */
	for (size_t i = 0; i < n_fds; i++)
		if (fcntl(fds[i], F_GETFD) < 0)
			abort(); /* lent a descriptor that is closed */
	if (rule.mode == FAKE_REFUSE) {
		json_decref(request);
		err_set(err, VSS_E_LIMITS_EXCEEDED, "The queue of jobs is full");
		return NULL;
	}
	job = calloc(1, sizeof *job);
	*job = (struct job){ .pool = w, .request = request, .rule = rule, .deadline = deadline, .open = true, .fn = fn,
			     .data = data };
	snprintf(job->op, sizeof job->op, "%s", op);
	snprintf(job->role, sizeof job->role, "%s", role);
	while (*end)
		end = &(*end)->next;
	*end = job;
	tape_add("job %s", op);
	if (rule.mode == FAKE_OK || rule.mode == FAKE_ERROR)
		sd_event_add_defer(w->event, &job->source, answer_now, job);
	else
		sd_event_add_time(w->event, &job->source, CLOCK_MONOTONIC, deadline, 1, deadline_passed, job);
	return job;
}

void job_cancel(struct job *job)
{
	tape_add("cancel %s", job->op);
	end_job(job, VSS_E_CANCELLED, NULL);
}

size_t workers_busy(const struct workers *w)
{
	size_t n = 0;

	for (const struct job *job = w->jobs; job; job = job->next)
		n += job->open;
	return n;
}

void workers_warm(struct workers *w, const char *role)
{
}

void fake_workers_rule(struct workers *w, const char *op, enum fake_mode mode, enum vss_error error, const char *answer)
{
	if (w->n_rules == RULES_MAX)
		abort();
	w->rules[w->n_rules++] = (struct rule){ op, answer, mode, error };
}

void fake_workers_obey(struct workers *w)
{
	w->n_rules = 0;
}

static struct job *oldest_open(const struct workers *w, const char *op)
{
	for (struct job *job = w->jobs; job; job = job->next)
		if (job->open && is_named(op, job->role, job->op))
			return job;
	abort(); /* the test waits for a job that was not given */
}

void fake_workers_answer(struct workers *w, const char *op, enum vss_error error)
{
	struct job *job = oldest_open(w, op);

	end_job(job, error, job->rule.answer);
}

void fake_workers_answer_with(struct workers *w, const char *op, const char *answer)
{
	end_job(oldest_open(w, op), VSS_OK, answer);
}

static const struct job *newest(const struct workers *w, const char *op)
{
	const struct job *found = NULL;

	for (const struct job *job = w->jobs; job; job = job->next)
		if (is_named(op, job->role, job->op))
			found = job;
	return found;
}

json_t *fake_workers_request(const struct workers *w, const char *op)
{
	const struct job *job = newest(w, op);

	return job ? job->request : NULL;
}

uint64_t fake_workers_deadline(const struct workers *w, const char *op)
{
	const struct job *job = newest(w, op);

	return job ? job->deadline : 0;
}

json_t *fake_workers_copies(const struct workers *w)
{
	return w->copies;
}
