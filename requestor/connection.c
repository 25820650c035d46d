/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection: everything that waits, waits in connection_wait, which polls the bus and the eventfd of vss_cancel,
 * and pings vssd when it has been silent, so that nobody waits for a vssd that hangs. */
#include "requestor/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/cleanup.h"
#include "common/names.h"

static void owner_changed(const char *name, bool owned, void *data)
{
	struct vss_connection *c = data;

	c->heard = clock_now();
	if (!owned)
		c->losses++;
}

int vss_connect(struct vss_connection **ret, const char *address, struct vss_failure *error)
{
	struct vss_connection *c = calloc(1, sizeof *c);
	struct err err = { 0 };

	if (!c)
		return fail(error, VSS_E_OUT_OF_MEMORY, "Out of memory for a connection to vssd");
	c->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->cancel_fd < 0) {
		err_errno(&err, errno, VSS_E_UNEXPECTED, "Cannot set up the connection to vssd");
		goto fail;
	}
	if (bus_open_async(&c->bus, address, &err) < 0)
		goto fail;
	c->owner_watch = bus_watch_name(c->bus, VSS_BUS_NAME, owner_changed, c);
	if (!c->owner_watch) {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for a connection to vssd");
		goto fail;
	}
	*ret = c;
	return 0;
fail:
	vss_disconnect(c);
	return fail_from(error, &err);
}

struct vss_connection *vss_disconnect(struct vss_connection *c)
{
	if (!c)
		return NULL;
	if (c->ping)
		bus_pending_cancel(c->ping);
	bus_free(c->bus); /* and the watch with it: the bus forgets our match rules by itself */
	if (c->cancel_fd >= 0)
		close(c->cancel_fd);
	free(c);
	return NULL;
}

/* Async-signal-safe: one write(2), errno kept. */
void vss_cancel(struct vss_connection *c)
{
	uint64_t one = 1;
	int saved = errno;

	(void)!write(c->cancel_fd, &one, sizeof one);
	errno = saved;
}

void connection_uncancel(struct vss_connection *c)
{
	uint64_t count;

	(void)!read(c->cancel_fd, &count, sizeof count);
}

/* ---- calls ---- */

static bool is_one_of(const char *name, const char *const *names)
{
	for (; name && *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

/* What the bus (or systemd for it) says when it could not start vssd. */
static bool cannot_start(const char *name)
{
	return name && (strncmp(name, "org.freedesktop.DBus.Error.Spawn.", 33) == 0 ||
			strncmp(name, "org.freedesktop.systemd1.", 25) == 0);
}

/* That the caller's peer is not there any more; what vssd itself says of a writer has a name of its own. */
static bool is_gone(const struct bus_reply *reply)
{
	bool said = reply->error_name && strncmp(reply->error_name, VSS_ERROR_PREFIX, sizeof VSS_ERROR_PREFIX - 1) == 0;

	return reply->error && !said && (reply->error == VSS_E_WRITER_NOT_RESPONDING || cannot_start(reply->error_name));
}

static void answered(const struct bus_reply *reply, void *data)
{
	static const char *const unknown[] = { "org.freedesktop.DBus.Error.UnknownObject",
					       "org.freedesktop.DBus.Error.UnknownMethod",
					       "org.freedesktop.DBus.Error.UnknownInterface", NULL };
	struct answer *answer = data;

	answer->done = true;
	answer->pending = NULL;
	answer->error = reply->error;
	answer->late = reply->error == VSS_E_TIMED_OUT && !reply->error_name;
	answer->gone = is_gone(reply);
	answer->unknown = is_one_of(reply->error_name, unknown);
	if (!answer->gone)
		answer->connection->heard = clock_now();
	if (reply->error) {
		const char *text = *reply->message ? reply->message : reply->error_name;
		snprintf(answer->text, sizeof answer->text, "%s", text ? text : error_text(reply->error));
		return;
	}
	answer->args = json_incref(reply->args);
	if (reply->n_fds > 0)
		answer->fd = steal_fd(reply->fds[0]);
}

void answer_clear(struct answer *answer)
{
	if (answer->pending)
		bus_pending_cancel(answer->pending);
	json_decref(answer->args);
	if (answer->fd >= 0)
		close(answer->fd);
	*answer = (struct answer)ANSWER_INIT;
}

int connection_start(struct vss_connection *c, const struct target *target, json_t *args, const int *fds, size_t n_fds,
		     uint64_t limit_usec, struct answer *answer, struct vss_failure *error)
{
	struct err err = { 0 };

	*answer = (struct answer)ANSWER_INIT;
	answer->connection = c;
	answer->method = target->method;
	answer->limit_usec = limit_usec;
	if (!args)
		return fail(error, VSS_E_INVALID_ARGUMENT, "An argument of %s is not valid UTF-8", target->method);
	if (bus_call(c->bus, VSS_BUS_NAME, target->path, target->interface, target->method, target->signature, args,
		     fds, n_fds, clock_now() + limit_usec, answered, answer, &answer->pending, &err) == 0)
		return 0;
	return fail_from(error, &err);
}

static bool is_answered(const void *data)
{
	const struct answer *answer = data;

	return answer->done;
}

int connection_finish(struct vss_connection *c, struct answer *answer, struct vss_failure *error)
{
	if (connection_wait(c, is_answered, answer, USEC_INFINITY, error) != WAIT_DONE)
		return -1;
	return answer->error ? fail_from_answer(error, answer) : 0;
}

int connection_call(struct vss_connection *c, const struct target *target, json_t *args, uint64_t limit_usec,
		    struct answer *answer, struct vss_failure *error)
{
	if (connection_start(c, target, args, NULL, 0, limit_usec, answer, error) < 0)
		return -1;
	return connection_finish(c, answer, error);
}

/* ---- waiting ---- */

/* Any answer will do, an error too: it says that vssd turns its loop. While it is being restarted the bus answers for
 * it, and the wait goes on to the caller's own deadline. */
static void ping_answered(const struct bus_reply *reply, void *data)
{
	struct vss_connection *c = data;

	c->ping = NULL;
	c->ping_pending = false;
	if (reply->error == VSS_E_TIMED_OUT && !reply->error_name)
		c->hung = true;
	else
		c->heard = clock_now();
}

static void ping_if_silent(struct vss_connection *c)
{
	uint64_t now = clock_now();

	if (c->ping_pending || now < c->heard + PING_AFTER_USEC)
		return;
	c->ping_pending = bus_call(c->bus, VSS_BUS_NAME, VSS_ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping", "",
				   json_array(), NULL, 0, now + PING_LIMIT_USEC, ping_answered, c, &c->ping, NULL) == 0;
	if (!c->ping_pending)
		c->heard = now; /* not before another while; a lost bus shows itself in dispatch */
}

static int timeout_msec(const struct vss_connection *c, uint64_t deadline)
{
	uint64_t now = clock_now(), next = c->ping_pending ? USEC_INFINITY : c->heard + PING_AFTER_USEC;

	next = deadline < next ? deadline : next;
	if (next == USEC_INFINITY)
		return -1;
	return next <= now ? 0 : (int)((next - now) / USEC_PER_MSEC) + 1;
}

static enum wait_result wait_turn(struct vss_connection *c, uint64_t deadline, struct vss_failure *error)
{
	struct pollfd fds[] = { { .fd = bus_fd(c->bus), .events = POLLIN }, { .fd = c->cancel_fd, .events = POLLIN } };

	if (poll(fds, ARRAY_SIZE(fds), timeout_msec(c, deadline)) < 0 && errno != EINTR) {
		fail(error, VSS_E_UNEXPECTED, "Cannot wait for vssd: %s", strerror(errno));
		return WAIT_FAILED;
	}
	if (fds[1].revents & POLLIN) {
		connection_uncancel(c);
		fail(error, VSS_E_CANCELLED, "Cancelled");
		return WAIT_FAILED;
	}
	if (bus_dispatch(c->bus) < 0) {
		fail(error, VSS_E_NOT_AVAILABLE, "The connection to the bus is lost; is dbus running?");
		return WAIT_FAILED;
	}
	return WAIT_DONE;
}

enum wait_result connection_wait(struct vss_connection *c, bool (*ready)(const void *), const void *data,
				 uint64_t deadline, struct vss_failure *error)
{
	c->heard = clock_now();
	c->hung = false;
	while (!ready(data)) {
		if (clock_now() >= deadline)
			return WAIT_DEADLINE;
		ping_if_silent(c);
		if (wait_turn(c, deadline, error) < 0)
			return ready(data) ? WAIT_DONE : WAIT_FAILED;
		if (c->hung) {
			fail(error, VSS_E_NOT_AVAILABLE,
			     "vssd has not answered for %u seconds: it hangs or is stopped (see systemctl status vssd)",
			     (unsigned)(PING_LIMIT_USEC / USEC_PER_SEC));
			return WAIT_FAILED;
		}
	}
	return WAIT_DONE;
}

static bool never(const void *data)
{
	return false;
}

int connection_await_vssd(struct vss_connection *c, struct vss_failure *error)
{
	static const struct target ping = { VSS_ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping", "" };
	uint64_t deadline = clock_now() + OWNER_USEC;

	for (;;) {
		cleanup(answer_clear) struct answer answer = ANSWER_INIT;

		if (connection_call(c, &ping, json_array(), PING_LIMIT_USEC, &answer, error) == 0 ||
		    (answer.done && !answer.gone && !answer.late))
			return 0;
		if (!answer.done || clock_now() >= deadline)
			return -1; /* cancelled, hung, or away for too long: error says which */
		if (connection_wait(c, never, NULL, clock_now() + OWNER_POLL_USEC, error) == WAIT_FAILED)
			return -1;
	}
}
