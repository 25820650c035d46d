/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/session-channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/log.h"
#include "coordinator/session-internal.h"

#define RELEASE "release\n"

struct session_channel {
	int fd;
	sd_event_source *io;
	char order[16]; /* what has come of it */
	size_t n;
};

struct session_channel *session_channel_free(struct session_channel *c)
{
	if (!c)
		return NULL;
	sd_event_source_disable_unref(c->io);
	close(c->fd);
	free(c);
	return NULL;
}

static bool is_at_work(const struct session *s)
{
	return *s->operation || s->state == SESSION_HOLDING;
}

/* Its end may end the session, and us with it. */
static int ended(struct session *s)
{
	s->channel = session_channel_free(s->channel);
	if (is_at_work(s)) {
		log_notice("session %s: whoever holds volumes through it has gone", s->id);
		session_close(s, true);
	}
	return 0;
}

static void obey(struct session *s)
{
	struct err err = { 0 };

	if (session_release(s, &err) == 0)
		return;
	autojson json_t *result =
	    json_pack("{sb ss sI ss sb}", "Success", 0, "Error", error_name(err.code), "Code",
		      (json_int_t)error_code(err.code), "Message", err.text, "Retryable", error_is_retryable(err.code));
	session_channel_tell(s, "Release", result);
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct session *s = data;
	struct session_channel *c = s->channel;
	ssize_t got = recv(fd, c->order + c->n, sizeof c->order - c->n, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return ended(s);
	c->n += (size_t)got;
	if (c->n >= strlen(RELEASE) && memcmp(c->order, RELEASE, strlen(RELEASE)) == 0) {
		c->n = 0;
		obey(s);
	} else if (memcmp(c->order, RELEASE, c->n < strlen(RELEASE) ? c->n : strlen(RELEASE)) != 0) {
		return ended(s); /* nonsense */
	}
	return 0;
}

int session_channel_open(struct session *s, int fd, struct err *err)
{
	struct session_channel *c = calloc(1, sizeof *c);
	int type = 0;
	socklen_t size = sizeof type;

	if (!c || s->channel || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM) {
		free(c);
		close(fd);
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "The option \"Channel\" is not a stream socket, or there is one already");
	}
	c->fd = fd;
	if (sd_event_add_io(s->context->event, &c->io, fd, EPOLLIN, on_input, s) < 0) {
		session_channel_free(c);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a session");
	}
	s->channel = c;
	return 0;
}

/* What does not fit into the socket at once is a requestor that does not read: it gets nothing more. */
void session_channel_tell(struct session *s, const char *operation, json_t *result)
{
	autojson json_t *line = json_pack("{ss sO}", "Operation", operation, "Result", result);
	autofree char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	size_t length = text ? strlen(text) : 0;

	if (!s->channel || !text)
		return;
	text[length] = '\n'; /* in place of the end, which is not sent */
	if (send(s->channel->fd, text, length + 1, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length + 1)
		s->channel = session_channel_free(s->channel);
}
