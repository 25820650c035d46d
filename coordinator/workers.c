/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two rules carry this file. A job's end is told from the event loop only: what fails while a job is being started is
 * written down in the job and told by its timer. A worker's place is free only when the kernel has reported its end
 * (pidfd), so that workers that cannot die (a hung device) count, and there are never more than WORKERS_MAX. */
#include "coordinator/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"
#include "common/text.h"
#include "coordinator/worker-spawn.h"

#define ROLE_SIZE 32
#define OP_SIZE 32
#define FREE_PATIENCE (2 * USEC_PER_SEC) /* for killed workers when the pool ends; a hung one is left to init */

struct worker {
	struct workers *pool;
	char role[ROLE_SIZE];
	pid_t pid;
	int pidfd, fd;
	sd_event_source *io, *exit;
	struct job *job;
	struct frame in, out;
	bool discarded; /* killed: takes no job, waits for its end */
};

struct job_list {
	struct job *first, *last;
	size_t n;
};

/* Has a worker or is on one of the pool's lists. */
struct job {
	struct workers *pool;
	struct worker *worker;
	struct job_list *list;
	struct job *prev, *next;
	char role[ROLE_SIZE], op[OP_SIZE];
	json_t *request;
	int *fds; /* a list of our own: the job may queue for longer than the caller's lives */
	size_t n_fds;
	sd_event_source *timer; /* deadline, or at once when err is set */
	struct err err;
	job_done_fn fn;
	void *data;
};

struct workers {
	sd_event *event;
	char *program;
	bool ending;
	struct worker *items[WORKERS_MAX];
	size_t n_items;
	struct job_list queue;
	struct job_list failed; /* could not be started; their timers will tell */
	size_t n_jobs;
};

static void pump(struct workers *pool);

/* ---- processes ---- */

static void worker_free(struct worker *w)
{
	struct workers *pool = w->pool;

	for (size_t i = 0; i < pool->n_items; i++) {
		if (pool->items[i] == w) {
			pool->items[i] = pool->items[--pool->n_items];
			break;
		}
	}
	sd_event_source_disable_unref(w->io);
	sd_event_source_disable_unref(w->exit);
	frame_done(&w->in);
	frame_done(&w->out);
	if (w->fd >= 0)
		close(w->fd);
	if (w->pidfd >= 0)
		close(w->pidfd);
	free(w);
}

/* Kills the worker and the helpers that it may have started (it leads a process group); its place stays taken until it
 * is gone. The group id cannot be somebody else's: the leader is not waited for yet. */
static void worker_discard(struct worker *w)
{
	if (w->discarded)
		return;
	w->discarded = true;
	w->io = sd_event_source_disable_unref(w->io);
	close(steal_fd(w->fd));
	frame_done(&w->in);
	frame_done(&w->out);
	kill(-w->pid, SIGKILL);
	pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data);
static int on_exit_of_worker(sd_event_source *source, int fd, uint32_t events, void *data);

static int worker_watch(struct worker *w)
{
	int r = sd_event_add_io(w->pool->event, &w->io, w->fd, EPOLLIN, on_io, w);

	if (r >= 0)
		r = sd_event_add_io(w->pool->event, &w->exit, w->pidfd, EPOLLIN, on_exit_of_worker, w);
	/* What it said last is read before its end is noticed. */
	return r < 0 ? r : sd_event_source_set_priority(w->exit, SD_EVENT_PRIORITY_NORMAL + 1);
}

/* Returns an errno value. A child without a pidfd could not be watched: it is ended on the spot. */
static int worker_start(struct worker *w)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return errno;
	w->fd = ends[0];
	autoclose int theirs = ends[1];
	/* Ours alone: O_NONBLOCK belongs to the end, and the worker's code is synchronous. */
	if (fcntl(w->fd, F_SETFL, O_NONBLOCK) < 0)
		return errno;
	r = worker_spawn(w->pool->program, w->role, theirs, &w->pid);
	if (r != 0)
		return r;
	w->pidfd = pidfd_open(w->pid, 0);
	r = w->pidfd < 0 ? errno : -worker_watch(w);
	if (w->pidfd < 0 || r > 0) {
		kill(-w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
	}
	return r > 0 ? r : 0;
}

static struct worker *worker_new(struct workers *pool, const char *role, struct err *err)
{
	struct worker *w = calloc(1, sizeof *w);

	if (!w) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a %s worker", role);
		return NULL;
	}
	w->pool = pool;
	w->fd = w->pidfd = -1;
	text_format(w->role, sizeof w->role, "%s", role);
	int r = worker_start(w);
	if (r != 0) {
		worker_free(w);
		err_errno(err, r, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The %s worker cannot be started from %s", role,
			  pool->program);
		return NULL;
	}
	pool->items[pool->n_items++] = w;
	return w;
}

/* ---- jobs ---- */

static void job_link(struct job *job, struct job_list *list)
{
	job->list = list;
	job->prev = list->last;
	*(list->last ? &list->last->next : &list->first) = job;
	list->last = job;
	list->n++;
}

static void job_unlink(struct job *job)
{
	struct job_list *list = job->list;

	*(job->prev ? &job->prev->next : &list->first) = job->next;
	*(job->next ? &job->next->prev : &list->last) = job->prev;
	job->prev = job->next = NULL;
	job->list = NULL;
	list->n--;
}

static void job_free(struct job *job)
{
	job->pool->n_jobs--;
	sd_event_source_disable_unref(job->timer);
	json_decref(job->request);
	free(job->fds);
	free(job);
}

/* Ends a job that no worker and no queue holds any more. */
static void job_finish(struct job *job, const struct err *err, json_t *answer, int *fds, size_t n_fds)
{
	job_done_fn fn = job->fn;
	void *data = job->data;

	job_free(job);
	fn(err, answer, fds, n_fds, data);
}

static void job_detach(struct job *job)
{
	if (job->worker) {
		job->worker->job = NULL;
		worker_discard(job->worker);
		job->worker = NULL;
	} else {
		job_unlink(job);
	}
}

static void job_fail(struct job *job, const struct err *err)
{
	struct workers *pool = job->pool;
	struct err copy = *err; /* it may lie in the job */

	job_detach(job);
	job_finish(job, &copy, NULL, NULL, 0);
	pump(pool);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *data)
{
	struct job *job = data;
	struct err err = job->err;

	if (!err.code && job->worker)
		err_set(&err, VSS_E_TIMED_OUT, "The %s worker did not finish \"%s\" in time and was ended", job->role,
			job->op);
	else if (!err.code)
		err_set(&err, VSS_E_TIMED_OUT, "\"%s\" waited too long for a free %s worker (%d processes are at work)",
			job->op, job->role, WORKERS_MAX);
	job_fail(job, &err);
	return 0;
}

/* For a job that could not be begun: tells job->err from the event loop. */
static void job_fail_later(struct job *job)
{
	job_link(job, &job->pool->failed);
	sd_event_source_set_time(job->timer, 0);
	sd_event_source_set_enabled(job->timer, SD_EVENT_ONESHOT);
}

/* ---- talking ---- */

/* The worker talks nonsense. */
static void worker_broken(struct worker *w, const struct err *why)
{
	struct job *job = w->job;

	worker_discard(w);
	if (job)
		job_fail(job, why);
}

static void worker_ended(struct worker *w)
{
	w->io = sd_event_source_disable_unref(w->io);
	/* An ending process keeps its own exit status; one that has only closed its socket is made to end. */
	kill(-w->pid, SIGKILL);
}

static void read_failure(json_t *answer, struct err *err)
{
	json_t *error = json_object_get(answer, "error");
	const char *name = json_string_value(json_object_get(error, "Name"));
	const char *text = json_string_value(json_object_get(error, "Text"));
	enum vss_error code = name ? error_from_name(name) : VSS_E_UNEXPECTED_PROVIDER_ERROR;

	err_set(err, code, "%s", text && *text ? text : error_text(code));
}

/* The answer is complete: the worker is free again before fn runs, which may queue the next job. */
static void worker_answered(struct worker *w)
{
	struct workers *pool = w->pool;
	struct frame in = w->in;
	struct job *job = w->job;
	struct err err = { 0 };

	w->in = (struct frame){ 0 };
	w->job = NULL;
	job->worker = NULL;
	if (!json_is_true(json_object_get(in.value, "ok")))
		read_failure(in.value, &err);
	if (err.code)
		job_finish(job, &err, NULL, NULL, 0);
	else
		job_finish(job, &err, in.value, in.fds, in.n_fds);
	frame_done(&in);
	pump(pool);
}

static void worker_receive(struct worker *w)
{
	struct err err = { 0 };
	int r = frame_receive(&w->in, w->fd, &err);

	if (r == 0)
		return;
	if (r < 0 && err.code == VSS_E_UNEXPECTED) {
		worker_ended(w);
		return;
	}
	if (r < 0) {
		worker_broken(w, &err);
		return;
	}
	if (w->job && !w->out.buffer && json_is_boolean(json_object_get(w->in.value, "ok"))) {
		worker_answered(w);
		return;
	}
	err_set(&err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The %s worker sent what is no answer, and was ended", w->role);
	worker_broken(w, &err);
}

/* Sends what remains of the request; false when the connection is broken. */
static bool worker_send(struct worker *w)
{
	int r = frame_send(&w->out, w->fd, NULL);

	if (r > 0)
		frame_done(&w->out);
	if (r >= 0)
		sd_event_source_set_io_events(w->io, r == 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	return r >= 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct worker *w = data;

	if (!w->job)
		worker_discard(w); /* idle, and yet it speaks or breaks off */
	else if ((events & EPOLLOUT) && w->out.buffer && !worker_send(w))
		worker_ended(w);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		worker_receive(w);
	return 0;
}

static void describe_end(const struct worker *w, const siginfo_t *info, struct err *err)
{
	const char *op = w->job->op;

	if (info->si_code == CLD_EXITED)
		err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The %s worker ended in the midst of \"%s\" with exit status %d",
			w->role, op, info->si_status);
	else
		err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The %s worker was ended in the midst of \"%s\" by signal %d (%s)",
			w->role, op, info->si_status, strsignal(info->si_status));
}

static int on_exit_of_worker(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct worker *w = data;
	struct workers *pool = w->pool;
	struct job *job;
	siginfo_t info = { 0 };
	struct err err = { 0 };

	w->discarded = true;
	kill(-w->pid, SIGKILL); /* helpers that it left behind; before waitid, which gives the number back */
	/* It may have answered and ended in one breath, while this event was already chosen. */
	if (w->io && w->job)
		worker_receive(w);
	waitid(P_PIDFD, (id_t)w->pidfd, &info, WEXITED | WNOHANG);
	job = w->job;
	if (job) {
		describe_end(w, &info, &err);
		w->job = NULL;
		job->worker = NULL;
	}
	worker_free(w);
	if (job)
		job_finish(job, &err, NULL, NULL, 0);
	pump(pool);
	return 0;
}

/* ---- the pool ---- */

static struct worker *find_idle(const struct workers *pool, const char *role)
{
	for (size_t i = 0; i < pool->n_items; i++) {
		struct worker *w = pool->items[i];
		if (!w->job && !w->discarded && (!role || strcmp(w->role, role) == 0))
			return w;
	}
	return NULL;
}

/* An idle worker has nothing to say: input means that it has ended, or that an answer of it would be taken for the
 * next job's. */
static bool is_silent(const struct worker *w)
{
	char byte;

	return recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static struct worker *take_idle(struct workers *pool, const char *role)
{
	struct worker *w;

	while ((w = find_idle(pool, role))) {
		if (is_silent(w))
			return w;
		worker_discard(w);
	}
	return NULL;
}

static void worker_begin(struct worker *w, struct job *job)
{
	if (frame_init(&w->out, job->request, job->fds, job->n_fds, &job->err) < 0) {
		job_fail_later(job);
		return;
	}
	w->job = job;
	job->worker = w;
	if (!worker_send(w))
		worker_ended(w);
}

/* Starts the job at the queue's head; false if it has to wait for a place. Strictly in order: no role can starve
 * another one. */
static bool start_head(struct workers *pool)
{
	struct job *job = pool->queue.first;
	struct worker *w = take_idle(pool, job->role);

	if (!w && pool->n_items == WORKERS_MAX) {
		w = find_idle(pool, NULL);
		if (w)
			worker_discard(w); /* another role's: its place comes free in a moment */
		return false;
	}
	job_unlink(job);
	if (!w)
		w = worker_new(pool, job->role, &job->err);
	if (w)
		worker_begin(w, job);
	else
		job_fail_later(job);
	return true;
}

/* Starts what can be started, then lets go of all idle workers but one of each role. Runs no job_done_fn. */
static void pump(struct workers *pool)
{
	if (pool->ending)
		return;
	while (pool->queue.first && start_head(pool))
		;
	for (size_t i = 0; i < pool->n_items; i++) {
		struct worker *w = pool->items[i];
		if (!w->job && !w->discarded && find_idle(pool, w->role) != w)
			worker_discard(w);
	}
}

int workers_new(struct workers **ret, sd_event *event, const char *program, struct err *err)
{
	struct workers *pool = calloc(1, sizeof *pool);

	if (!pool || !(pool->program = strdup(program))) {
		free(pool);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the worker processes");
	}
	pool->event = sd_event_ref(event);
	*ret = pool;
	return 0;
}

static struct job *any_job(const struct workers *pool)
{
	for (size_t i = 0; i < pool->n_items; i++)
		if (pool->items[i]->job)
			return pool->items[i]->job;
	return pool->queue.first ? pool->queue.first : pool->failed.first;
}

struct workers *workers_free(struct workers *pool)
{
	uint64_t end = clock_now() + FREE_PATIENCE;
	struct job *job;

	if (!pool)
		return NULL;
	pool->ending = true;
	while ((job = any_job(pool)))
		job_cancel(job);
	for (size_t i = 0; i < pool->n_items; i++)
		worker_discard(pool->items[i]);
	while (pool->n_items > 0) {
		struct worker *w = pool->items[0];
		uint64_t now = clock_now();
		poll(&(struct pollfd){ .fd = w->pidfd, .events = POLLIN }, 1,
		     now < end ? (int)((end - now) / USEC_PER_MSEC) : 0);
		waitid(P_PIDFD, (id_t)w->pidfd, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
		worker_free(w);
	}
	sd_event_unref(pool->event);
	free(pool->program);
	free(pool);
	return NULL;
}

static struct job *job_new(struct workers *pool, const char *role, const char *op, const int *fds, size_t n_fds,
			   uint64_t deadline)
{
	struct job *job = calloc(1, sizeof *job);

	if (job && n_fds > 0 && (job->fds = malloc(n_fds * sizeof *fds)))
		memcpy(job->fds, fds, n_fds * sizeof *fds);
	if (!job || (n_fds > 0 && !job->fds)) {
		free(job);
		return NULL;
	}
	job->n_fds = n_fds;
	text_format(job->role, sizeof job->role, "%s", role);
	text_format(job->op, sizeof job->op, "%s", op);
	/* 1: as exact as can be (0 would be a quarter of a second). */
	if (sd_event_add_time(pool->event, &job->timer, CLOCK_MONOTONIC, deadline, 1, on_deadline, job) < 0) {
		free(job->fds);
		free(job);
		return NULL;
	}
	job->pool = pool;
	pool->n_jobs++;
	return job;
}

struct job *workers_run(struct workers *pool, const char *role, const char *op, json_t *request, const int *fds,
			size_t n_fds, uint64_t deadline, job_done_fn fn, void *data, struct err *err)
{
	autojson json_t *owned = request;
	struct job *job;

	if (pool->ending) {
		err_set(err, VSS_E_CANCELLED, "\"%s\" was not begun: vssd is ending", op);
		return NULL;
	}
	if (pool->queue.n >= WORKER_QUEUE_MAX) {
		err_set(err, VSS_E_LIMITS_EXCEEDED, "\"%s\" was not begun: %d jobs are waiting for a worker already", op,
			WORKER_QUEUE_MAX);
		return NULL;
	}
	job = owned && json_object_set_new(owned, "op", json_string(op)) == 0 ?
		      job_new(pool, role, op, fds, n_fds, deadline) :
		      NULL;
	if (!job) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for \"%s\"", op);
		return NULL;
	}
	job->request = steal_pointer(owned);
	job->fn = fn;
	job->data = data;
	job_link(job, &pool->queue);
	pump(pool);
	return job;
}

void job_cancel(struct job *job)
{
	struct err err = { 0 };

	err_set(&err, VSS_E_CANCELLED, "\"%s\" was cancelled", job->op);
	job_fail(job, &err);
}

size_t workers_busy(const struct workers *pool)
{
	return pool->n_jobs;
}

void workers_warm(struct workers *pool, const char *role)
{
	if (pool->n_items < WORKERS_MAX && !find_idle(pool, role))
		worker_new(pool, role, NULL);
}
