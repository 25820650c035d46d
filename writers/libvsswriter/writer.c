/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public face: life cycle, loop, and what may be called from other threads. */
#include "writers/libvsswriter/writer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "common/cleanup.h"
#include "common/clock.h"

/* ---- making and ending ---- */

static void read_machine_id(char *id, int size)
{
	static const char *const places[] = { "/etc/machine-id", "/var/lib/dbus/machine-id" };

	id[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places) && !*id; i++) {
		FILE *file = fopen(places[i], "re");
		if (!file)
			continue;
		if (!fgets(id, size, file))
			id[0] = '\0';
		fclose(file);
	}
	id[strcspn(id, "\n")] = '\0';
}

static int open_fds(struct vss_writer *writer)
{
	struct epoll_event event = { .events = EPOLLIN };

	writer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	writer->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	writer->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (writer->epoll_fd < 0 || writer->wake_fd < 0 || writer->timer_fd < 0 ||
	    epoll_ctl(writer->epoll_fd, EPOLL_CTL_ADD, writer->wake_fd, &event) < 0 ||
	    epoll_ctl(writer->epoll_fd, EPOLL_CTL_ADD, writer->timer_fd, &event) < 0)
		return -errno;
	return 0;
}

static int writer_init(struct vss_writer *writer, const struct vss_writer_ops *ops, char *error, size_t error_size)
{
	char machine_id[64];
	int r = ops_copy(&writer->ops, ops, error, error_size);

	if (r < 0)
		return r;
	read_machine_id(machine_id, sizeof machine_id);
	ops_instance_id(&writer->ops, machine_id, writer->instance);
	writer->sessions.wants_prepare = writer->ops.prepare_snapshot;
	/* Microseconds since 1970: a restarted writer is later than all its freezes before. */
	writer->sessions.last_sequence = clock_usec(CLOCK_REALTIME);
	writer->components = json_array();
	r = open_fds(writer);
	if (r < 0 && error && error_size > 0)
		snprintf(error, error_size, "cannot open descriptors: %s", strerror(-r));
	return r;
}

int vss_writer_new(struct vss_writer **ret, const struct vss_writer_ops *ops, void *data, char *error, size_t error_size)
{
	struct vss_writer *writer = calloc(1, sizeof *writer);

	if (!writer)
		return -ENOMEM;
	if (error && error_size > 0)
		error[0] = '\0';
	writer->data = data;
	writer->epoll_fd = writer->wake_fd = writer->timer_fd = -1;
	writer->freeze_until = USEC_INFINITY;
	writer->link.register_at = USEC_INFINITY;
	writer->link.connect_backoff = 100 * USEC_PER_MSEC;
	pthread_mutex_init(&writer->lock, NULL);
	int r = writer_init(writer, ops, error, error_size);
	if (r < 0) {
		vss_writer_free(writer);
		return r;
	}
	*ret = writer;
	return 0;
}

static void leave_sessions(struct vss_writer *writer)
{
	if (writer->work.busy)
		job_cancel(writer, &writer->work, VSS_E_CANCELLED, "the writer is ending");
	if (writer->abort.busy)
		job_cancel(writer, &writer->abort, VSS_E_CANCELLED, "the writer is ending");
	sessions_coordinator_lost(&writer->sessions, "the writer is ending");
	aborts_run(writer);
	if (writer->abort.busy)
		job_cancel(writer, &writer->abort, VSS_E_CANCELLED, "the writer is ending");
}

struct vss_writer *vss_writer_free(struct vss_writer *writer)
{
	if (!writer)
		return NULL;
	if (writer->has_thread) {
		vss_writer_stop(writer);
		pthread_join(writer->thread, NULL);
	}
	leave_sessions(writer);
	link_close(writer); /* vssd forgets a writer with its connection */
	requests_free(writer);
	json_decref(writer->components);
	json_decref(writer->metadata);
	ops_free(&writer->ops);
	free(writer->bus_address);
	cleanup_close(&writer->epoll_fd);
	cleanup_close(&writer->wake_fd);
	cleanup_close(&writer->timer_fd);
	pthread_mutex_destroy(&writer->lock);
	free(writer);
	return NULL;
}

/* ---- the loop ---- */

static void arm(struct vss_writer *writer)
{
	uint64_t next = link_next_time(writer), jobs = jobs_next_time(writer);
	struct itimerspec spec = { 0 };

	if (jobs < next)
		next = jobs;
	if (next != USEC_INFINITY) {
		spec.it_value.tv_sec = (time_t)(next / USEC_PER_SEC);
		spec.it_value.tv_nsec = (long)(next % USEC_PER_SEC) * 1000 + 1; /* all zero would disarm */
	}
	timerfd_settime(writer->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void drain(int fd)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof count);
}

int vss_writer_fd(const struct vss_writer *writer)
{
	return writer->epoll_fd;
}

int vss_writer_dispatch(struct vss_writer *writer)
{
	drain(writer->wake_fd);
	drain(writer->timer_fd);
	if (!writer->started)
		return -ENOTCONN;
	int r = link_dispatch(writer);
	link_turn(writer);
	jobs_turn(writer);
	requests_run(writer);
	arm(writer);
	return r;
}

int vss_writer_run(struct vss_writer *writer)
{
	while (!atomic_exchange(&writer->stop, false)) {
		vss_writer_dispatch(writer);
		poll(&(struct pollfd){ .fd = writer->epoll_fd, .events = POLLIN }, 1, -1);
	}
	return 0;
}

void writer_wake(struct vss_writer *writer)
{
	uint64_t one = 1;
	int saved = errno; /* called in signal handlers */

	(void)!write(writer->wake_fd, &one, sizeof one);
	errno = saved;
}

void vss_writer_stop(struct vss_writer *writer)
{
	atomic_store(&writer->stop, true);
	writer_wake(writer);
}

static void *thread_main(void *data)
{
	vss_writer_run(data);
	return NULL;
}

/* The host's signals are the host's. */
static int start_thread(struct vss_writer *writer)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&writer->thread, NULL, thread_main, writer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	writer->has_thread = r == 0;
	return -r;
}

int vss_writer_start(struct vss_writer *writer, unsigned flags, const char *bus_address)
{
	if (writer->started)
		return -EALREADY;
	if (flags & ~(unsigned)VSS_WRITER_THREAD)
		return -EINVAL;
	if (bus_address && !(writer->bus_address = strdup(bus_address)))
		return -ENOMEM;
	writer->started = true;
	writer_wake(writer); /* the first dispatch connects */
	return flags & VSS_WRITER_THREAD ? start_thread(writer) : 0;
}

/* ---- status ---- */

void writer_set_status(struct vss_writer *writer, const char *text)
{
	enum vss_writer_status status = VSS_WRITER_UNREGISTERED;

	if (sessions_held(&writer->sessions))
		status = VSS_WRITER_FROZEN;
	else if (!writer->link.bus || !writer->link.set_up)
		status = VSS_WRITER_DISCONNECTED;
	else if (writer->link.registered)
		status = VSS_WRITER_REGISTERED;
	atomic_store(&writer->status, (int)status);
	if (!text)
		return;
	pthread_mutex_lock(&writer->lock);
	snprintf(writer->text, sizeof writer->text, "%s", text);
	pthread_mutex_unlock(&writer->lock);
}

enum vss_writer_status vss_writer_status(const struct vss_writer *writer, const char **ret_text)
{
	struct vss_writer *w = (struct vss_writer *)writer; /* the lock and the shown text are not the caller's state */

	if (ret_text) {
		pthread_mutex_lock(&w->lock);
		memcpy(w->text_shown, w->text, sizeof w->text_shown);
		pthread_mutex_unlock(&w->lock);
		*ret_text = w->text_shown;
	}
	return (enum vss_writer_status)atomic_load(&w->status);
}

const char *vss_writer_version(void)
{
	return VSSD_VERSION;
}

const char *vss_event_name(enum vss_event event)
{
	static const char *const names[EVENT_COUNT] = {
		[VSS_EVENT_IDENTIFY] = "Identify",
		[VSS_EVENT_PREPARE_BACKUP] = "PrepareBackup",
		[VSS_EVENT_PREPARE_SNAPSHOT] = "PrepareSnapshot",
		[VSS_EVENT_FREEZE] = "Freeze",
		[VSS_EVENT_THAW] = "Thaw",
		[VSS_EVENT_POST_SNAPSHOT] = "PostSnapshot",
		[VSS_EVENT_BACKUP_COMPLETE] = "BackupComplete",
		[VSS_EVENT_BACKUP_SHUTDOWN] = "BackupShutdown",
		[VSS_EVENT_ABORT] = "Abort",
		[VSS_EVENT_PRE_RESTORE] = "PreRestore",
		[VSS_EVENT_POST_RESTORE] = "PostRestore",
	};

	return (unsigned)event < EVENT_COUNT ? names[event] : "Unknown";
}
