/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guard's socket understands. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "coordinator/guard/releaser.h"
#include "coordinator/guard/verdict.h"

#define ORDER_PATIENCE (800 * USEC_PER_MSEC)

static void client_close(struct client *c)
{
	struct window *w = c->window;

	if (w) {
		w->client = NULL;
		window_fence(w, FAULT_CLIENT);
	}
	close(c->fd);
	frame_done(&c->in);
	frame_done(&c->out);
	json_decref(c->ordered);
	*c = (struct client){ .releaser = c->releaser, .fd = -1 };
}

static void client_send(struct client *c)
{
	int r = frame_send(&c->out, c->fd, NULL);

	if (r > 0)
		frame_done(&c->out);
	if (r < 0)
		c->ended = true;
}

static void reply(struct client *c, json_t *text)
{
	autojson json_t *owned = text;

	c->waiting = false;
	if (!owned || frame_init(&c->out, owned, NULL, 0, NULL) < 0)
		c->ended = true;
	else
		client_send(c);
}

static void reply_error(struct client *c, const struct err *err)
{
	reply(c, verdict_failure(err));
}

/* ---- orders ---- */

static void on_window(struct window *window, json_t *text, void *client)
{
	struct client *c = client;

	if (window->state >= WINDOW_FENCED)
		c->window = NULL;
	/* A window may end while nobody has asked: its end is then the answer to the next order. */
	if (c->waiting)
		reply(c, json_incref(text));
	else if (window->state >= WINDOW_FENCED) {
		json_decref(c->ordered);
		c->ordered = json_incref(text);
	}
}

static int arm(struct client *c, json_t *request, struct err *err)
{
	struct releaser *r = c->releaser;
	struct window *w;

	if (c->window)
		return err_set(err, VSS_E_BAD_STATE, "This connection has a window already");
	if (releaser_reserve(r, err) < 0 ||
	    window_new(&w, request, c->in.fds, c->in.n_fds, r->directory, &r->reserve, err) < 0)
		return -1;
	w->tell = on_window;
	w->client = c;
	c->window = w;
	r->windows[r->n_windows++] = w;
	return 0;
}

static json_t *status(const struct releaser *r)
{
	json_t *rows = json_array();
	pid_t executor = r->reserve.pid;

	for (size_t i = 0; i < r->n_windows; i++) {
		verdict_held(r->windows[i]->board, rows);
		if (r->windows[i]->half.pid)
			executor = r->windows[i]->half.pid;
	}
	return json_pack("{sb so si si}", "ok", 1, "Held", rows, "Executor", (int)executor, "Releaser", (int)getpid());
}

static void add_stuck(const struct releaser *r, json_t *names)
{
	for (size_t i = 0; i < r->n_windows; i++) {
		autojson json_t *stuck = verdict_stuck(r->windows[i]->board);
		json_array_extend(names, stuck);
	}
}

static void release_all(struct client *c)
{
	struct releaser *r = c->releaser;

	json_decref(c->ordered);
	c->ordered = json_array();
	add_stuck(r, c->ordered);
	c->order_due = clock_now() + ORDER_PATIENCE;
	for (size_t i = 0; i < r->n_windows; i++)
		window_fence(r->windows[i], FAULT_ORDER);
}

static int window_order(struct client *c, const char *op, struct err *err)
{
	if (!c->window && c->ordered) {
		reply(c, steal_pointer(c->ordered));
		return 0;
	}
	if (!c->window)
		return err_set(err, VSS_E_BAD_STATE, "This connection has no window: arm one");
	return strcmp(op, "go") == 0 ? window_go(c->window, err) : window_release(c->window, err);
}

static int run_order(struct client *c, json_t *request, struct err *err)
{
	const char *op = json_string_value(json_object_get(request, "op"));

	if (op && strcmp(op, "arm") == 0)
		return arm(c, request, err);
	if (op && (strcmp(op, "go") == 0 || strcmp(op, "release") == 0))
		return window_order(c, op, err);
	if (op && strcmp(op, "status") == 0)
		reply(c, status(c->releaser));
	else if (op && strcmp(op, "release-all") == 0)
		release_all(c);
	else
		return err_set(err, VSS_E_INVALID_ARGUMENT, "vss-guard knows no order \"%.40s\"", op ? op : "");
	return 0;
}

static void client_receive(struct client *c)
{
	struct err err = { 0 };
	int r = frame_receive(&c->in, c->fd, &err);

	if (r == 0)
		return;
	if (r < 0 && err.code != VSS_E_INVALID_DOCUMENT) {
		c->ended = true;
		return;
	}
	c->waiting = true;
	if (r < 0 || run_order(c, c->in.value, &err) < 0)
		reply_error(c, &err);
	frame_done(&c->in);
}

short client_events(const struct client *c)
{
	if (c->out.buffer)
		return POLLOUT | POLLRDHUP;
	return c->waiting ? POLLRDHUP : POLLIN | POLLRDHUP;
}

void client_event(struct client *c, short events)
{
	if (c->out.buffer && (events & POLLOUT))
		client_send(c);
	else if (!c->waiting && (events & POLLIN))
		client_receive(c);
	if (!(events & POLLIN) && (events & (POLLHUP | POLLERR | POLLRDHUP)))
		c->ended = true;
	if (c->waiting && (events & POLLRDHUP))
		c->ended = true;
	if (c->ended)
		client_close(c);
}

/* ---- all of them ---- */

static bool may_speak(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

void clients_accept(struct releaser *r)
{
	autoclose int fd = accept4(r->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 || !may_speak(fd))
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (r->clients[i].fd < 0) {
			r->clients[i] = (struct client){ .releaser = r, .fd = steal_fd(fd) };
			return;
		}
	}
}

static void answer_order(struct client *c)
{
	autojson json_t *stuck = json_array();
	struct releaser *r = c->releaser;

	add_stuck(r, stuck);
	if (json_array_size(stuck) > 0 && clock_now() < c->order_due)
		return;
	size_t held = json_array_size(c->ordered), left = json_array_size(stuck);
	c->order_due = 0;
	reply(c, json_pack("{sb sI so sO}", "ok", 1, "Released", (json_int_t)(held > left ? held - left : 0), "Objects",
			   steal_pointer(c->ordered), "Stuck", stuck));
}

void clients_step(struct releaser *r)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (r->clients[i].fd >= 0 && r->clients[i].order_due > 0)
			answer_order(&r->clients[i]);
		if (r->clients[i].fd >= 0 && r->clients[i].ended)
			client_close(&r->clients[i]);
	}
}

uint64_t clients_due(const struct releaser *r)
{
	uint64_t due = USEC_INFINITY;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (r->clients[i].fd >= 0 && r->clients[i].order_due > 0 && r->clients[i].order_due < due)
			due = r->clients[i].order_due;
	return due;
}
