/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "writers/qemu/libvirt.h"

#define BUSY_RETRY (20 * USEC_PER_MSEC)

void channel_init(struct channel *channel)
{
	*channel = (struct channel){ .fd = -1 };
}

/* It may hang in a call of libvirt's. */
static void end_bridge(struct channel *channel)
{
	if (channel->bridge <= 0)
		return;
	kill(channel->bridge, SIGKILL);
	while (waitpid(channel->bridge, NULL, 0) < 0 && errno == EINTR)
		;
	channel->bridge = 0;
}

void channel_close(struct channel *channel)
{
	end_bridge(channel);
	cleanup_close(&channel->fd);
	free(channel->buffer);
	channel->fd = -1;
	channel->buffer = NULL;
	channel->used = channel->line = 0;
}

static enum channel_result say(struct channel *channel, enum channel_result result, const char *why)
{
	text_format(channel->why, sizeof channel->why, "%s", why);
	return result;
}

static enum channel_result waited(struct channel *channel, int r)
{
	if (r == -ETIMEDOUT)
		return say(channel, CHANNEL_SILENT, "there was no answer in time");
	if (r == -ECANCELED)
		return say(channel, CHANNEL_CANCELLED, "it was called off");
	return r < 0 ? say(channel, CHANNEL_FAILED, strerror(-r)) : CHANNEL_OK;
}

/* ---- opening ---- */

/* 0; -EAGAIN: the listener's queue is full, as long as another client has the one place that QEMU gives. */
static int connect_once(int fd, const struct sockaddr_un *address)
{
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0)
		return 0;
	return -errno;
}

static enum channel_result connect_patiently(struct channel *channel, const struct sockaddr_un *address,
					     const struct patience *patience)
{
	for (;;) {
		int r = connect_once(channel->fd, address);
		if (r == 0)
			return CHANNEL_OK;
		if (r == -ENOENT || r == -ECONNREFUSED)
			return say(channel, CHANNEL_ABSENT, "nobody listens at its socket");
		if (r != -EAGAIN && r != -EINTR)
			return say(channel, CHANNEL_FAILED, strerror(-r));
		const struct patience pause = patience_within(patience, BUSY_RETRY);
		r = patience_wait(&pause, -1, 0);
		if (r == -ECANCELED)
			return waited(channel, r);
		if (clock_now() >= patience->until)
			return say(channel, CHANNEL_SILENT, "its socket is taken by others");
	}
}

/* The bridge's first line says how the domain stands. */
static enum channel_result open_bridge(struct channel *channel, const char *address, const struct patience *patience)
{
	char *line = NULL;

	channel->fd = libvirt_agent(address, &channel->bridge);
	if (channel->fd < 0)
		return say(channel, CHANNEL_FAILED, strerror(-channel->fd));
	enum channel_result result = channel_line(channel, &line, patience);
	if (result == CHANNEL_OK && strcmp(line, "off") == 0)
		result = say(channel, CHANNEL_ABSENT, "libvirt says that it is off");
	else if (result == CHANNEL_OK && strcmp(line, "running") != 0)
		result = say(channel, CHANNEL_FAILED, line);
	return result;
}

static enum channel_result open_socket(struct channel *channel, const char *address, const struct patience *patience)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	if (strlen(address) >= sizeof name.sun_path)
		return say(channel, CHANNEL_FAILED, "the path of its socket is longer than 107 bytes");
	memcpy(name.sun_path, address, strlen(address));
	channel->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (channel->fd < 0)
		return say(channel, CHANNEL_FAILED, strerror(errno));
	return connect_patiently(channel, &name, patience);
}

enum channel_result channel_open(struct channel *channel, const char *address, const struct patience *patience)
{
	bool bridged = strncmp(address, LIBVIRT_ADDRESS, strlen(LIBVIRT_ADDRESS)) == 0;

	channel_close(channel);
	enum channel_result result = bridged ? open_bridge(channel, address, patience) :
					       open_socket(channel, address, patience);
	if (result != CHANNEL_OK)
		channel_close(channel);
	return result;
}

/* ---- sending ---- */

enum channel_result channel_send(struct channel *channel, const void *bytes, size_t n, const struct patience *patience)
{
	const char *from = bytes;

	while (n > 0) {
		ssize_t sent = send(channel->fd, from, n, MSG_NOSIGNAL);
		if (sent > 0) {
			from += sent;
			n -= (size_t)sent;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return say(channel, CHANNEL_GONE, "it hung up");
		if (errno != EAGAIN && errno != EINTR)
			return say(channel, CHANNEL_FAILED, strerror(errno));
		enum channel_result result = waited(channel, patience_wait(patience, channel->fd, POLLOUT));
		if (result != CHANNEL_OK)
			return result;
	}
	return CHANNEL_OK;
}

/* ---- receiving ---- */

static void drop(struct channel *channel, size_t n)
{
	if (n == 0)
		return;
	memmove(channel->buffer, channel->buffer + n, channel->used - n);
	channel->used -= n;
}

/* Reads what is there; waits if nothing is. */
static enum channel_result fill(struct channel *channel, const struct patience *patience)
{
	if (!channel->buffer && !(channel->buffer = malloc(CHANNEL_LINE_MAX)))
		return say(channel, CHANNEL_FAILED, strerror(ENOMEM));
	if (channel->used == CHANNEL_LINE_MAX)
		return say(channel, CHANNEL_GARBLED, "its answer is longer than 1 MiB");
	for (;;) {
		/* First, so that one who never stops sending is stopped by the clock. */
		enum channel_result result = waited(channel, patience_wait(patience, channel->fd, POLLIN));
		if (result != CHANNEL_OK)
			return result;
		ssize_t n = recv(channel->fd, channel->buffer + channel->used, CHANNEL_LINE_MAX - channel->used, 0);
		if (n > 0) {
			channel->used += (size_t)n;
			return CHANNEL_OK;
		}
		if (n == 0 || errno == ECONNRESET)
			return say(channel, CHANNEL_GONE, "it hung up");
		if (errno != EAGAIN && errno != EINTR)
			return say(channel, CHANNEL_FAILED, strerror(errno));
	}
}

enum channel_result channel_line(struct channel *channel, char **ret_line, const struct patience *patience)
{
	size_t seen = 0;

	drop(channel, channel->line);
	channel->line = 0;
	for (;;) {
		char *end = channel->used > seen ? memchr(channel->buffer + seen, '\n', channel->used - seen) : NULL;
		if (end == channel->buffer && end) {
			drop(channel, 1);
			continue;
		}
		if (end) {
			*end = '\0';
			channel->line = (size_t)(end - channel->buffer) + 1;
			*ret_line = channel->buffer;
			return CHANNEL_OK;
		}
		seen = channel->used;
		enum channel_result result = fill(channel, patience);
		if (result != CHANNEL_OK)
			return result;
	}
}

enum channel_result channel_skip_to_sentinel(struct channel *channel, const struct patience *patience)
{
	size_t skipped = 0;

	drop(channel, channel->line);
	channel->line = 0;
	for (;;) {
		char *found = channel->used > 0 ? memchr(channel->buffer, CHANNEL_SENTINEL, channel->used) : NULL;
		if (found) {
			drop(channel, (size_t)(found - channel->buffer) + 1);
			return CHANNEL_OK;
		}
		skipped += channel->used;
		channel->used = 0;
		if (skipped > CHANNEL_SKIP_MAX)
			return say(channel, CHANNEL_GARBLED, "it sends without end and never answers");
		enum channel_result result = fill(channel, patience);
		if (result != CHANNEL_OK)
			return result;
	}
}

enum channel_result channel_json(struct channel *channel, json_t **ret, const struct patience *patience)
{
	char *line;
	enum channel_result result = channel_line(channel, &line, patience);

	if (result != CHANNEL_OK)
		return result;
	*ret = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(*ret))
		return CHANNEL_OK;
	json_decref(*ret);
	*ret = NULL;
	return say(channel, CHANNEL_GARBLED, "its answer is no JSON object");
}
