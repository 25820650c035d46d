/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/guard-client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"

/* A guard that does not answer hangs: it names what is stuck 700 ms after the deadline. */
#define ARM_LIMIT (3 * USEC_PER_SEC)
#define END_LIMIT (2 * USEC_PER_SEC) /* after the window's deadline */

struct guard {
	sd_event *event;
	char *socket;
	struct window *first;
};

struct window {
	struct guard *guard;
	struct window *next;
	int fd;
	sd_event_source *io, *timer;
	struct frame in, out;
	uint64_t deadline;
	guard_fn fn; /* of the order that is being carried out */
	void *data;
	struct err err; /* to be told by the timer */
};

struct guard *guard_new(sd_event *event, const char *socket)
{
	struct guard *guard = calloc(1, sizeof *guard);

	if (!guard || !(guard->socket = strdup(socket ? socket : GUARD_SOCKET))) {
		free(guard);
		return NULL;
	}
	guard->event = sd_event_ref(event);
	return guard;
}

struct guard *guard_free(struct guard *guard)
{
	if (!guard)
		return NULL;
	while (guard->first)
		window_close(guard->first);
	sd_event_unref(guard->event);
	free(guard->socket);
	free(guard);
	return NULL;
}

struct window *window_close(struct window *w)
{
	if (!w)
		return NULL;
	for (struct window **p = &w->guard->first; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	sd_event_source_disable_unref(w->io);
	sd_event_source_disable_unref(w->timer);
	frame_done(&w->in);
	frame_done(&w->out);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
	return NULL;
}

/* ---- answers ---- */

/* fn may close the window: nothing is touched afterwards. */
static void tell(struct window *w, const struct err *err, json_t *answer)
{
	guard_fn fn = w->fn;

	w->fn = NULL;
	sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
	if (fn)
		fn(err, answer, w->data);
}

/* The guard is gone, or is treated so: it releases everything when the connection ends. */
static void break_off(struct window *w, const struct err *err)
{
	w->io = sd_event_source_disable_unref(w->io);
	if (w->fd >= 0)
		close(steal_fd(w->fd));
	w->err = *err;
	tell(w, err, NULL);
}

static void read_failure(json_t *answer, struct err *err)
{
	json_t *error = json_object_get(answer, "error");
	const char *name = json_string_value(json_object_get(error, "Name"));
	const char *text = json_string_value(json_object_get(error, "Text"));
	enum vss_error code = name ? error_from_name(name) : VSS_E_UNEXPECTED;

	err_set(err, code, "%s", text && *text ? text : error_text(code));
}

static void receive(struct window *w)
{
	struct err err = { 0 };
	int r = frame_receive(&w->in, w->fd, &err);

	if (r == 0)
		return;
	if (r < 0) {
		err_set(&err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			"vss-guard ended or broke off while it had a window; whatever was held is released. See "
			"systemctl status "
			"vss-guard, and try again");
		break_off(w, &err);
		return;
	}
	struct frame in = w->in;
	w->in = (struct frame){ 0 };
	if (!json_is_true(json_object_get(in.value, "ok")))
		read_failure(in.value, &err);
	tell(w, &err, in.value);
	frame_done(&in);
}

static void flush(struct window *w)
{
	struct err err = { 0 };
	int r = frame_send(&w->out, w->fd, &err);

	if (r < 0) {
		/* What the guard said last explains more than the broken pipe. */
		receive(w);
		return;
	}
	if (r > 0)
		frame_done(&w->out);
	sd_event_source_set_io_events(w->io, r == 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct window *w = data;

	if ((events & EPOLLOUT) && w->out.buffer)
		flush(w);
	else
		receive(w);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct window *w = data;
	struct err err = w->err;

	if (!err.code)
		err_set(&err, VSS_E_TIMED_OUT,
			"vss-guard does not answer; what it may hold is released by its other half. See vssctl status");
	break_off(w, &err);
	return 0;
}

/* ---- orders ---- */

static void expect(struct window *w, guard_fn fn, uint64_t limit)
{
	w->fn = fn;
	sd_event_source_set_time(w->timer, limit);
	sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static int send_order(struct window *w, json_t *order, const int *fds, size_t n_fds, struct err *err)
{
	autojson json_t *owned = order;

	if (!owned)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for an order to vss-guard");
	if (frame_init(&w->out, owned, fds, n_fds, err) < 0)
		return -1;
	/* Sent from the loop: no answer runs from within the caller. */
	sd_event_source_set_io_events(w->io, EPOLLIN | EPOLLOUT);
	return 0;
}

static void order(struct window *w, const char *op, guard_fn fn)
{
	struct err err = { 0 };

	expect(w, fn, w->deadline + END_LIMIT);
	if (w->fd >= 0 && send_order(w, json_pack("{ss}", "op", op), NULL, 0, &err) == 0)
		return;
	if (!w->err.code)
		w->err = err;
	sd_event_source_set_time(w->timer, 0);
}

void window_go(struct window *w, guard_fn fn)
{
	order(w, "go", fn);
}

void window_release(struct window *w, guard_fn fn)
{
	order(w, "release", fn);
}

/* A full backlog is the only reason for which connecting could have to wait: the guard hangs then. */
static int connect_guard(const struct guard *guard, int *ret_fd, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(guard->socket) >= sizeof address.sun_path)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The path of vss-guard's socket is too long: %s",
			       guard->socket);
	strcpy(address.sun_path, guard->socket);
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "vss-guard cannot be reached");
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_set(err, VSS_E_NOT_AVAILABLE, "vss-guard is not running: start vss-guard.service");
		return err_errno(err, errno, VSS_E_NOT_AVAILABLE, "vss-guard cannot be reached at %s", guard->socket);
	}
	*ret_fd = steal_fd(fd);
	return 0;
}

static struct window *window_connect(struct guard *guard, uint64_t deadline, struct err *err)
{
	struct window *w = calloc(1, sizeof *w);

	if (!w) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a window");
		return NULL;
	}
	*w = (struct window){ .guard = guard, .next = guard->first, .fd = -1, .deadline = deadline };
	guard->first = w;
	if (connect_guard(guard, &w->fd, err) < 0)
		return window_close(w);
	if (sd_event_add_io(guard->event, &w->io, w->fd, EPOLLIN, on_io, w) < 0 ||
	    sd_event_add_time(guard->event, &w->timer, CLOCK_MONOTONIC, 0, 1, on_timer, w) < 0) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a window");
		return window_close(w);
	}
	return w;
}

struct window *guard_arm(struct guard *guard, json_t *plan, const int *fds, size_t n_fds, uint64_t deadline,
			 guard_fn fn, void *data, struct err *err)
{
	struct window *w = window_connect(guard, deadline, err);

	if (!w) {
		json_decref(plan);
		return NULL;
	}
	json_object_set_new(plan, "op", json_string("arm"));
	json_object_set_new(plan, "Deadline", json_integer((json_int_t)deadline));
	w->data = data;
	expect(w, fn, clock_now() + ARM_LIMIT);
	return send_order(w, plan, fds, n_fds, err) < 0 ? window_close(w) : w;
}
