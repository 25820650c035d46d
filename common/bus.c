/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection and its loop glue. Three rules that libdbus' own examples leave out: watches of one descriptor are
 * merged (epoll takes a descriptor once), dispatching happens in bus_dispatch only (never inside libdbus' callbacks),
 * and what is queued without the socket being readable wakes the host through kick_fd. */
#include "common/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <poll.h>

#include "common/bus-internal.h"
#include "common/bus-value.h"
#include "common/cleanup.h"
#include "common/clock.h"

struct bus_fd_watch {
	struct bus_fd_watch *next;
	int fd;
	DBusWatch *watches[4];
	unsigned events; /* as registered with epoll */
};

/* libdbus makes timeouts of its own for authentication; our calls have none of its. */
struct bus_timeout {
	struct bus_timeout *next;
	DBusTimeout *timeout;
	uint64_t due;
};

/* ---- libdbus' watches ---- */

static void fd_watch_update(struct bus *bus, struct bus_fd_watch *w)
{
	unsigned events = 0;

	for (size_t i = 0; i < ARRAY_SIZE(w->watches); i++) {
		if (!w->watches[i] || !dbus_watch_get_enabled(w->watches[i]))
			continue;
		unsigned flags = dbus_watch_get_flags(w->watches[i]);
		events |= flags & DBUS_WATCH_READABLE ? (unsigned)EPOLLIN : 0;
		events |= flags & DBUS_WATCH_WRITABLE ? (unsigned)EPOLLOUT : 0;
	}
	struct epoll_event event = { .events = events, .data.ptr = w };
	if (events == w->events)
		return;
	/* A descriptor with no events is taken out: epoll would report its hang-up for ever. */
	epoll_ctl(bus->epoll_fd, events == 0 ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &event);
	w->events = events;
}

static struct bus_fd_watch *fd_watch_find(struct bus *bus, int fd)
{
	for (struct bus_fd_watch *w = bus->fd_watches; w; w = w->next)
		if (w->fd == fd)
			return w;
	return NULL;
}

static dbus_bool_t watch_add(DBusWatch *watch, void *data)
{
	struct bus *bus = data;
	int fd = dbus_watch_get_unix_fd(watch);
	struct bus_fd_watch *w = fd_watch_find(bus, fd);

	if (!w) {
		w = calloc(1, sizeof *w);
		if (!w)
			return FALSE;
		w->fd = fd;
		w->next = bus->fd_watches;
		bus->fd_watches = w;
	}
	for (size_t i = 0; i < ARRAY_SIZE(w->watches); i++) {
		if (w->watches[i])
			continue;
		w->watches[i] = watch;
		fd_watch_update(bus, w);
		return TRUE;
	}
	return FALSE;
}

static void watch_remove(DBusWatch *watch, void *data)
{
	struct bus *bus = data;
	struct bus_fd_watch *w = fd_watch_find(bus, dbus_watch_get_unix_fd(watch));
	bool empty = true;

	if (!w)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(w->watches); i++) {
		if (w->watches[i] == watch)
			w->watches[i] = NULL;
		empty = empty && !w->watches[i];
	}
	fd_watch_update(bus, w);
	if (!empty)
		return;
	for (struct bus_fd_watch **link = &bus->fd_watches; *link; link = &(*link)->next) {
		if (*link == w) {
			*link = w->next;
			free(w);
			return;
		}
	}
}

static void watch_toggled(DBusWatch *watch, void *data)
{
	struct bus *bus = data;
	struct bus_fd_watch *w = fd_watch_find(bus, dbus_watch_get_unix_fd(watch));

	if (w)
		fd_watch_update(bus, w);
}

static bool fd_watch_is_listed(const struct bus *bus, const struct bus_fd_watch *wanted)
{
	for (const struct bus_fd_watch *w = bus->fd_watches; w; w = w->next)
		if (w == wanted)
			return true;
	return false;
}

static void fd_watch_handle(struct bus *bus, struct bus_fd_watch *w, unsigned events)
{
	unsigned flags = 0;

	flags |= events & EPOLLIN ? DBUS_WATCH_READABLE : 0u;
	flags |= events & EPOLLOUT ? DBUS_WATCH_WRITABLE : 0u;
	flags |= events & EPOLLHUP ? DBUS_WATCH_HANGUP : 0u;
	flags |= events & EPOLLERR ? DBUS_WATCH_ERROR : 0u;
	for (size_t i = 0; i < ARRAY_SIZE(w->watches); i++) {
		DBusWatch *watch = w->watches[i];
		if (!watch || !dbus_watch_get_enabled(watch))
			continue;
		unsigned wanted = dbus_watch_get_flags(watch) | DBUS_WATCH_HANGUP | DBUS_WATCH_ERROR;
		if (flags & wanted)
			dbus_watch_handle(watch, flags & wanted);
		if (!fd_watch_is_listed(bus, w))
			return; /* the connection went, and its watches with it */
	}
}

/* ---- time ---- */

void bus_arm(struct bus *bus, uint64_t deadline)
{
	struct itimerspec spec = { 0 };

	if (deadline >= bus->timer_armed)
		return;
	bus->timer_armed = deadline;
	spec.it_value.tv_sec = (time_t)(deadline / USEC_PER_SEC);
	spec.it_value.tv_nsec = (long)(deadline % USEC_PER_SEC) * 1000 + 1; /* never the all-zero that disarms */
	timerfd_settime(bus->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* The deadline of a call that has been answered must not wake a host that waits for nothing. */
static void disarm_if_idle(struct bus *bus)
{
	if (bus->timer_armed == USEC_INFINITY || bus->pendings || bus->timeouts)
		return;
	bus->timer_armed = USEC_INFINITY;
	timerfd_settime(bus->timer_fd, TFD_TIMER_ABSTIME, &(struct itimerspec){ 0 }, NULL);
}

static void timeout_toggled(DBusTimeout *timeout, void *data)
{
	struct bus *bus = data;

	for (struct bus_timeout *t = bus->timeouts; t; t = t->next) {
		if (t->timeout != timeout)
			continue;
		t->due = USEC_INFINITY;
		if (dbus_timeout_get_enabled(timeout))
			t->due = clock_now() + (uint64_t)dbus_timeout_get_interval(timeout) * USEC_PER_MSEC;
		bus_arm(bus, t->due);
	}
}

static dbus_bool_t timeout_add(DBusTimeout *timeout, void *data)
{
	struct bus *bus = data;
	struct bus_timeout *t = calloc(1, sizeof *t);

	if (!t)
		return FALSE;
	t->timeout = timeout;
	t->next = bus->timeouts;
	bus->timeouts = t;
	timeout_toggled(timeout, bus);
	return TRUE;
}

static void timeout_remove(DBusTimeout *timeout, void *data)
{
	struct bus *bus = data;

	for (struct bus_timeout **link = &bus->timeouts; *link; link = &(*link)->next) {
		struct bus_timeout *t = *link;
		if (t->timeout != timeout)
			continue;
		*link = t->next;
		free(t);
		return;
	}
}

static void timer_handle(struct bus *bus)
{
	uint64_t expirations, now = clock_now(), next;

	if (read(bus->timer_fd, &expirations, sizeof expirations) < 0 || bus->timer_armed > now)
		return;
	bus->timer_armed = USEC_INFINITY;
	for (struct bus_timeout *t = bus->timeouts, *following; t; t = following) {
		following = t->next;
		if (t->due > now)
			continue;
		t->due = now + (uint64_t)dbus_timeout_get_interval(t->timeout) * USEC_PER_MSEC;
		dbus_timeout_handle(t->timeout);
	}
	bus_calls_expire(bus, now);
	next = bus_calls_next_deadline(bus);
	for (struct bus_timeout *t = bus->timeouts; t; t = t->next)
		next = t->due < next ? t->due : next;
	bus_arm(bus, next);
}

/* ---- sending and dispatching ---- */

void bus_kick(struct bus *bus)
{
	uint64_t one = 1;

	(void)!write(bus->kick_fd, &one, sizeof one);
}

static void dispatch_status_changed(DBusConnection *connection, DBusDispatchStatus status, void *data)
{
	struct bus *bus = data;

	if (status == DBUS_DISPATCH_DATA_REMAINS && !bus->dispatching)
		bus_kick(bus);
}

/* Also right before Hello is answered: it is the first message on the wire, and the bus handles them in order. */
int bus_send(struct bus *bus, DBusMessage *message)
{
	return !bus->lost && dbus_connection_send(bus->connection, message, NULL) ? 0 : -1;
}

static DBusHandlerResult filter(DBusConnection *connection, DBusMessage *message, void *data)
{
	struct bus *bus = data;

	if (dbus_message_is_signal(message, DBUS_INTERFACE_LOCAL, "Disconnected")) {
		bus->lost = true;
		return DBUS_HANDLER_RESULT_HANDLED;
	}
	if (dbus_message_get_type(message) == DBUS_MESSAGE_TYPE_SIGNAL)
		bus_signal_received(bus, message);
	return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
}

static void handle_epoll(struct bus *bus)
{
	struct epoll_event events[8];
	int n = epoll_wait(bus->epoll_fd, events, ARRAY_SIZE(events), 0);

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == &bus->timer_fd) {
			timer_handle(bus);
		} else if (events[i].data.ptr == &bus->kick_fd) {
			uint64_t count;
			(void)!read(bus->kick_fd, &count, sizeof count);
		} else {
			/* An earlier event of this round may have freed it (reconnection closes descriptors). */
			for (struct bus_fd_watch *w = bus->fd_watches; w; w = w->next) {
				if (w == events[i].data.ptr) {
					fd_watch_handle(bus, w, events[i].events);
					break;
				}
			}
		}
	}
}

int bus_dispatch(struct bus *bus)
{
	bus->dispatching = true;
	handle_epoll(bus);
	for (int i = 0; dbus_connection_get_dispatch_status(bus->connection) == DBUS_DISPATCH_DATA_REMAINS; i++) {
		if (dbus_connection_get_outgoing_size(bus->connection) > BUS_OUTGOING_MAX)
			break; /* the socket's becoming writable wakes us */
		if (i == BUS_TURN_MESSAGES) {
			bus_kick(bus);
			break;
		}
		dbus_connection_dispatch(bus->connection);
	}
	bus_objects_flush(bus);
	disarm_if_idle(bus);
	bus->dispatching = false;
	if (!bus->lost)
		return 0;
	bus_calls_fail(bus, VSS_E_WRITER_NOT_RESPONDING, "The connection to the bus was lost");
	return -ECONNRESET;
}

int bus_flush(struct bus *bus)
{
	dbus_connection_flush(bus->connection);
	return 0;
}

int bus_fd(const struct bus *bus)
{
	return bus->epoll_fd;
}

const char *bus_unique_name(const struct bus *bus)
{
	return bus->ready ? dbus_bus_get_unique_name(bus->connection) : NULL;
}

/* ---- making and ending ---- */

static int add_own_fd(struct bus *bus, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = fd };

	return *fd < 0 ? -1 : epoll_ctl(bus->epoll_fd, EPOLL_CTL_ADD, *fd, &event);
}

static int loop_init(struct bus *bus, struct err *err)
{
	bus->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bus->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	bus->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bus->epoll_fd < 0 || add_own_fd(bus, &bus->timer_fd) < 0 || add_own_fd(bus, &bus->kick_fd) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot set up the connection to the bus");
	return 0;
}

static const char *address_or_default(const char *address)
{
	const char *system = getenv("DBUS_SYSTEM_BUS_ADDRESS");

	if (address)
		return address;
	return system && *system ? system : "unix:path=/run/dbus/system_bus_socket";
}

static int connection_init(struct bus *bus, const char *address, struct err *err)
{
	DBusError error = DBUS_ERROR_INIT;

	bus->connection = dbus_connection_open_private(address_or_default(address), &error);
	if (!bus->connection) {
		err_set(err, VSS_E_NOT_AVAILABLE, "Cannot connect to the bus at %s: %s", address_or_default(address),
			error.message);
		dbus_error_free(&error);
		return -1;
	}
	dbus_connection_set_exit_on_disconnect(bus->connection, FALSE);
	dbus_connection_set_max_received_unix_fds(bus->connection, BUS_FDS_QUEUED);
	if (!dbus_connection_set_watch_functions(bus->connection, watch_add, watch_remove, watch_toggled, bus, NULL) ||
	    !dbus_connection_set_timeout_functions(bus->connection, timeout_add, timeout_remove, timeout_toggled, bus,
						   NULL) ||
	    !dbus_connection_add_filter(bus->connection, filter, bus, NULL))
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the connection to the bus");
	dbus_connection_set_dispatch_status_function(bus->connection, dispatch_status_changed, bus, NULL);
	return 0;
}

static struct bus *bus_new(const char *address, struct err *err)
{
	struct bus *bus = calloc(1, sizeof *bus);

	if (!bus) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the connection to the bus");
		return NULL;
	}
	bus->epoll_fd = bus->timer_fd = bus->kick_fd = -1;
	bus->timer_armed = USEC_INFINITY;
	if (loop_init(bus, err) < 0 || connection_init(bus, address, err) < 0)
		return bus_free(bus);
	return bus;
}

int bus_open(struct bus **ret_bus, const char *address, struct err *err)
{
	DBusError error = DBUS_ERROR_INIT;
	struct bus *bus = bus_new(address, err);

	if (!bus)
		return -1;
	if (!dbus_bus_register(bus->connection, &error)) {
		err_set(err, VSS_E_NOT_AVAILABLE, "The bus at %s refused the connection: %s", address_or_default(address),
			error.message);
		dbus_error_free(&error);
		bus_free(bus);
		return -1;
	}
	bus->ready = true;
	*ret_bus = bus;
	return 0;
}

static void hello_answered(DBusPendingCall *call, void *data)
{
	struct bus *bus = data;
	DBusMessage *reply = dbus_pending_call_steal_reply(call);
	const char *name;

	if (dbus_message_get_type(reply) == DBUS_MESSAGE_TYPE_METHOD_RETURN &&
	    dbus_message_get_args(reply, NULL, DBUS_TYPE_STRING, &name, DBUS_TYPE_INVALID) &&
	    dbus_bus_set_unique_name(bus->connection, name)) {
		bus->ready = true;
	} else {
		bus->lost = true;
	}
	dbus_message_unref(reply);
	dbus_pending_call_unref(steal_pointer(bus->hello));
}

int bus_open_async(struct bus **ret_bus, const char *address, struct err *err)
{
	struct bus *bus = bus_new(address, err);

	if (!bus)
		return -1;
	DBusMessage *hello =
		dbus_message_new_method_call(DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS, "Hello");
	if (!hello || !dbus_connection_send_with_reply(bus->connection, hello, &bus->hello, DBUS_TIMEOUT_INFINITE) ||
	    !bus->hello) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the connection to the bus");
		if (hello)
			dbus_message_unref(hello);
		bus_free(bus);
		return -1;
	}
	dbus_message_unref(hello);
	dbus_pending_call_set_notify(bus->hello, hello_answered, bus, NULL);
	*ret_bus = bus;
	return 0;
}

void bus_cancel_calls(struct bus *bus)
{
	bus_calls_fail(bus, VSS_E_CANCELLED, "The service is ending");
}

struct bus *bus_free(struct bus *bus)
{
	if (!bus)
		return NULL;
	bus->closing = true;
	bus_calls_fail(bus, VSS_E_CANCELLED, "The connection was closed");
	bus_incoming_free(bus);
	bus_watches_free(bus);
	bus_objects_free(bus);
	if (bus->hello) {
		dbus_pending_call_cancel(bus->hello);
		dbus_pending_call_unref(bus->hello);
	}
	if (bus->connection) {
		dbus_connection_remove_filter(bus->connection, filter, bus);
		dbus_connection_close(bus->connection);
		dbus_connection_set_dispatch_status_function(bus->connection, NULL, NULL, NULL);
		dbus_connection_set_watch_functions(bus->connection, NULL, NULL, NULL, NULL, NULL);
		dbus_connection_set_timeout_functions(bus->connection, NULL, NULL, NULL, NULL, NULL);
		dbus_connection_unref(bus->connection);
	}
	for (int *fd = (int[]){ bus->epoll_fd, bus->timer_fd, bus->kick_fd, -1 }; *fd >= 0; fd++)
		close(*fd);
	free(bus->manager_path);
	free(bus);
	return NULL;
}
