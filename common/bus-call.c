/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Outgoing calls with deadlines. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bus-internal.h"
#include "common/bus-value.h"
#include "common/cleanup.h"
#include "common/clock.h"

/* ---- calls ---- */

static void pending_unlink(struct bus_pending *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		p->bus->pendings = p->next;
	if (p->next)
		p->next->prev = p->prev;
	p->bus->n_pendings--;
}

/* Ends the call: takes it off the list first, so that fn may do anything, and runs fn once. */
static void pending_finish(struct bus_pending *p, const struct bus_reply *reply)
{
	pending_unlink(p);
	if (p->call) {
		dbus_pending_call_cancel(p->call);
		dbus_pending_call_unref(p->call);
	}
	p->fn(reply, p->data);
	free(p);
}

static void pending_fail(struct bus_pending *p, enum vss_error error, const char *message)
{
	autojson json_t *none = json_array();

	pending_finish(p, &(struct bus_reply){ .error = error, .message = message, .sender = "", .args = none });
}

static enum vss_error error_from_dbus(const char *name)
{
	static const struct {
		const char *name;
		enum vss_error error;
	} known[] = {
		{ DBUS_ERROR_NO_REPLY, VSS_E_WRITER_NOT_RESPONDING },
		{ DBUS_ERROR_NAME_HAS_NO_OWNER, VSS_E_WRITER_NOT_RESPONDING },
		{ DBUS_ERROR_SERVICE_UNKNOWN, VSS_E_WRITER_NOT_RESPONDING },
		{ DBUS_ERROR_DISCONNECTED, VSS_E_WRITER_NOT_RESPONDING },
		{ DBUS_ERROR_ACCESS_DENIED, VSS_E_ACCESS_DENIED },
		{ DBUS_ERROR_LIMITS_EXCEEDED, VSS_E_LIMITS_EXCEEDED },
		{ DBUS_ERROR_INVALID_ARGS, VSS_E_INVALID_ARGUMENT },
		{ DBUS_ERROR_NO_MEMORY, VSS_E_OUT_OF_MEMORY },
		{ DBUS_ERROR_TIMED_OUT, VSS_E_TIMED_OUT },
		{ DBUS_ERROR_TIMEOUT, VSS_E_TIMED_OUT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(name, known[i].name) == 0)
			return known[i].error;
	return error_from_name(name);
}

static const char *error_message(json_t *args)
{
	const char *text = json_string_value(json_array_get(args, 0));

	return text ? text : "";
}

static void pending_answered(DBusPendingCall *call, void *data)
{
	struct bus_pending *p = data;
	DBusMessage *message = dbus_pending_call_steal_reply(call);
	autojson json_t *args = NULL;
	int fds[BUS_VALUE_FDS_MAX];
	struct bus_reply reply = { .fds = fds, .message = "", .sender = dbus_message_get_sender(message) ?: "" };
	struct err err = { 0 };

	if (bus_value_read(message, &args, fds, &reply.n_fds, &err) < 0) {
		pending_fail(p, err.code, err.text);
		dbus_message_unref(message);
		return;
	}
	reply.args = args;
	reply.error_name = dbus_message_get_error_name(message);
	if (reply.error_name) {
		reply.error = error_from_dbus(reply.error_name);
		reply.message = error_message(args);
	}
	pending_finish(p, &reply);
	for (size_t i = 0; i < reply.n_fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	dbus_message_unref(message);
}

static DBusMessage *new_call(const char *destination, const char *path, const char *interface, const char *method,
			     const char *signature, json_t *args, const int *fds, size_t n_fds, struct err *err)
{
	DBusMessage *message = dbus_message_new_method_call(destination, path, interface, method);

	if (!message) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call of %s", method);
		return NULL;
	}
	if (bus_value_append(message, signature, args, fds, n_fds, err) == 0)
		return message;
	dbus_message_unref(message);
	return NULL;
}

static int send_call(struct bus *bus, DBusMessage *message, struct bus_pending *p)
{
	if (!dbus_connection_send_with_reply(bus->connection, message, &p->call, DBUS_TIMEOUT_INFINITE) || !p->call)
		return -1;
	return dbus_pending_call_set_notify(p->call, pending_answered, p, NULL) ? 0 : -1;
}

int bus_call(struct bus *bus, const char *destination, const char *path, const char *interface, const char *method,
	     const char *signature, json_t *args, const int *fds, size_t n_fds, uint64_t deadline, bus_reply_fn fn,
	     void *data, struct bus_pending **ret_pending, struct err *err)
{
	autojson json_t *owned = args;
	DBusMessage *message;
	int r;

	if (bus->lost || bus->closing)
		return err_set(err, VSS_E_NOT_AVAILABLE, "%s cannot be called: the connection to the bus is %s", method,
			       bus->lost ? "lost" : "being closed");
	message = new_call(destination, path, interface, method, signature, owned, fds, n_fds, err);
	if (!message)
		return -1;
	if (!fn) {
		dbus_message_set_no_reply(message, TRUE);
		r = bus_send(bus, message);
		dbus_message_unref(message);
		return r < 0 ? err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call of %s", method) : 0;
	}
	struct bus_pending *p = calloc(1, sizeof *p);
	if (p)
		*p = (struct bus_pending){ .bus = bus, .deadline = deadline, .fn = fn, .data = data };
	if (!p || send_call(bus, message, p) < 0) {
		if (p && p->call)
			dbus_pending_call_unref(p->call);
		dbus_message_unref(message);
		free(p);
		return err_set(err, VSS_E_NOT_AVAILABLE, "%s cannot be called: the connection to the bus is lost", method);
	}
	dbus_message_unref(message);
	p->next = bus->pendings;
	if (p->next)
		p->next->prev = p;
	bus->pendings = p;
	bus->n_pendings++;
	bus_arm(bus, deadline);
	if (ret_pending)
		*ret_pending = p;
	return 0;
}

void bus_pending_extend(struct bus_pending *pending, uint64_t deadline)
{
	pending->deadline = deadline;
	bus_arm(pending->bus, deadline);
}

void bus_pending_cancel(struct bus_pending *pending)
{
	pending_fail(pending, VSS_E_CANCELLED, "The call was cancelled");
}

size_t bus_pending_count(const struct bus *bus)
{
	return bus->n_pendings;
}

uint64_t bus_calls_next_deadline(const struct bus *bus)
{
	uint64_t next = USEC_INFINITY;

	for (const struct bus_pending *p = bus->pendings; p; p = p->next)
		next = p->deadline < next ? p->deadline : next;
	return next;
}

/* Callbacks may cancel other calls, so the list is searched again after each. */
static struct bus_pending *find_due(struct bus *bus, uint64_t now)
{
	for (struct bus_pending *p = bus->pendings; p; p = p->next)
		if (p->deadline <= now)
			return p;
	return NULL;
}

void bus_calls_expire(struct bus *bus, uint64_t now)
{
	struct bus_pending *p;

	while ((p = find_due(bus, now)))
		pending_fail(p, VSS_E_TIMED_OUT, "There was no answer in time");
}

void bus_calls_fail(struct bus *bus, enum vss_error error, const char *why)
{
	while (bus->pendings)
		pending_fail(bus->pendings, error, why);
}

/* ---- synchronous calls, for clients ---- */

struct sync_answer {
	bool done;
	enum vss_error error;
	struct err err;
	json_t *args;
	int *fds;
	size_t max_fds, n_fds;
};

static void sync_answered(const struct bus_reply *reply, void *data)
{
	struct sync_answer *answer = data;

	answer->done = true;
	answer->error = reply->error;
	if (reply->error) {
		err_set(&answer->err, reply->error, "%s", *reply->message ? reply->message : reply->error_name);
		return;
	}
	answer->args = json_incref(reply->args);
	for (size_t i = 0; i < reply->n_fds && answer->n_fds < answer->max_fds; i++) {
		answer->fds[answer->n_fds++] = reply->fds[i];
		reply->fds[i] = -1;
	}
}

int bus_call_sync(struct bus *bus, const char *destination, const char *path, const char *interface,
		  const char *method, const char *signature, json_t *args, const int *fds, size_t n_fds,
		  uint64_t deadline, json_t **ret_args, int *ret_fds, size_t max_fds, size_t *ret_n_fds,
		  struct err *err)
{
	struct sync_answer answer = { .fds = ret_fds, .max_fds = ret_fds ? max_fds : 0 };

	if (bus_call(bus, destination, path, interface, method, signature, args, fds, n_fds, deadline, sync_answered,
		     &answer, NULL, err) < 0)
		return -1;
	while (!answer.done) {
		bus_dispatch(bus);
		if (!answer.done)
			poll(&(struct pollfd){ .fd = bus_fd(bus), .events = POLLIN }, 1, -1);
	}
	if (answer.error)
		return err ? (*err = answer.err, -1) : -1;
	if (ret_n_fds)
		*ret_n_fds = answer.n_fds;
	if (ret_args)
		*ret_args = answer.args;
	else
		json_decref(answer.args);
	return 0;
}
