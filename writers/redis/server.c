/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/server.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "writers/redis/settings.h"

static void free_reply(redisReply **reply)
{
	freeReplyObject(*reply);
}
#define autoreply cleanup(free_reply)

static enum vss_result gave_up(struct bundled_task *task, int r, const char *what)
{
	if (r == -ETIMEDOUT)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT, "%s: the server does not answer within the limit", what);
	return bundled_fail(task, VSS_RESULT_RETRYABLE, "%s: %s", what, r == -ECANCELED ? "called off" : strerror(-r));
}

/* ---- connecting ---- */

static int connect_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return errno == ENOENT ? SERVER_DOWN : -errno;
	return steal_fd(fd);
}

static int connect_tcp(const char *host, const char *port)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int fd, r = 0;

	if (getaddrinfo(host, port, &hints, &found) != 0)
		return -EINVAL;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || (connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS))
		r = -errno;
	freeaddrinfo(found);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

static int finish_connect(struct bundled_task *task, int fd, uint64_t until)
{
	int why = 0, r = bundled_wait(task, fd, POLLOUT, until);
	socklen_t size = sizeof why;

	if (r < 0)
		return r;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) < 0 ? -errno : -why;
}

static int open_connection(struct bundled_task *task, const json_t *row, uint64_t until, redisContext **ret_context)
{
	const char *path = json_string_value(json_object_get(row, "Socket"));
	autoclose int fd = path ? connect_unix(path) :
				  connect_tcp(json_string_value(json_object_get(row, "Host")) ?: "",
					      json_string_value(json_object_get(row, "Port")) ?: "");
	int r = fd < 0 ? fd : finish_connect(task, fd, until);

	if (r < 0)
		return r;
	*ret_context = redisConnectFd(fd);
	if (!*ret_context)
		return -ENOMEM;
	(void)steal_fd(fd);
	return 0;
}

/* ---- passwords ---- */

/* The first line. */
static char *read_password(const char *path)
{
	char *line = NULL;
	size_t room = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return NULL;
	if (getline(&line, &room, file) < 0) {
		free(line);
		line = NULL;
	} else {
		line[strcspn(line, "\r\n")] = '\0';
	}
	fclose(file);
	return line;
}

static enum vss_result authenticate(struct bundled_task *task, redisContext *context, const json_t *row, uint64_t until)
{
	const char *user = bundled_setting_text(task->settings, task->name, "User");
	json_t *files = bundled_setting(task->settings, task->name, "PasswordFile");
	const char *file = json_string_value(json_array_get(files, 0));
	const char *configuration = json_string_value(json_object_get(row, "Config"));
	autojson json_t *settings = configuration ? settings_of_file(configuration) : NULL;
	const char *known = json_string_value(json_object_get(settings, "requirepass"));
	autofree char *password = file ? read_password(file) : known ? strdup(known) : NULL;

	if (file && !password)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "PasswordFile=%s cannot be read", file);
	if (!password)
		return VSS_RESULT_OK;
	if (*user)
		return server_ask(task, context, "AUTH", until, NULL, "AUTH %s %s", user, password);
	return server_ask(task, context, "AUTH", until, NULL, "AUTH %s", password);
}

enum vss_result server_connect(struct bundled_task *task, const json_t *row, uint64_t until, redisContext **ret_context,
			       int *ret_errno)
{
	redisContext *context = NULL;
	int r = open_connection(task, row, until, &context);

	*ret_errno = r;
	if (r < 0)
		return gave_up(task, r, "Connecting");
	enum vss_result result = authenticate(task, context, row, until);
	if (result == VSS_RESULT_OK)
		*ret_context = context;
	else
		redisFree(context);
	return result;
}

/* ---- commands ---- */

static int exchange(struct bundled_task *task, redisContext *context, uint64_t until, redisReply **ret_reply)
{
	int done = 0, r = 0;
	void *reply = NULL;

	while (!done) {
		r = bundled_wait(task, context->fd, POLLOUT, until);
		if (r < 0)
			return r;
		if (redisBufferWrite(context, &done) != REDIS_OK)
			return -EPIPE;
	}
	while (redisGetReplyFromReader(context, &reply) == REDIS_OK) {
		if (reply) {
			*ret_reply = reply;
			return 0;
		}
		r = bundled_wait(task, context->fd, POLLIN, until);
		if (r < 0)
			return r;
		if (redisBufferRead(context) != REDIS_OK)
			return -EPIPE;
	}
	return -EPIPE;
}

/* What trying again does not change, and what does; NULL: trying again may do. */
static const char *remedy(const char *why)
{
	static const char *const denied[] = { "NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password" };

	for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
		if (strncmp(why, denied[i], strlen(denied[i])) == 0)
			return "correct User=, PasswordFile= or the server's ACL";
	if (strncasecmp(why, "ERR unknown command", 19) == 0)
		return "the server does not know it, or its configuration takes it away (rename-command)";
	return NULL;
}

static enum vss_result refused(struct bundled_task *task, const char *what, const char *why)
{
	const char *helps = remedy(why);

	return bundled_fail(task, helps ? VSS_RESULT_NON_RETRYABLE : VSS_RESULT_RETRYABLE, "%s: %.300s%s%s", what, why,
			    helps ? ": " : "", helps ?: "");
}

enum vss_result server_ask(struct bundled_task *task, redisContext *context, const char *what, uint64_t until,
			   redisReply **ret_reply, const char *format, ...)
{
	autoreply redisReply *reply = NULL;
	va_list arguments;

	va_start(arguments, format);
	int r = redisvAppendCommand(context, format, arguments) == REDIS_OK ? 0 : -ENOMEM;
	va_end(arguments);
	if (r == 0)
		r = exchange(task, context, until, &reply);
	if (r == -EPIPE)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "%s: the server ended the connection: it was stopped, restarted, or has crashed",
				    what);
	if (r < 0)
		return gave_up(task, r, what);
	if (reply->type == REDIS_REPLY_ERROR)
		return refused(task, what, reply->str);
	if (ret_reply)
		*ret_reply = steal_pointer(reply);
	return VSS_RESULT_OK;
}

char *server_setting(struct bundled_task *task, redisContext *context, uint64_t until, const char *name)
{
	autoreply redisReply *reply = NULL;

	if (server_ask(task, context, "CONFIG GET", until, &reply, "CONFIG GET %s", name) != VSS_RESULT_OK)
		return NULL;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 || reply->element[1]->type != REDIS_REPLY_STRING)
		return strdup("");
	return strdup(reply->element[1]->str);
}

void server_tell(redisContext *context, const char *command)
{
	int done;

	if (redisAppendCommand(context, command) == REDIS_OK)
		(void)redisBufferWrite(context, &done); /* the descriptor does not block */
}

/* ---- INFO ---- */

const char *info_text(const char *info, const char *key, char *text, size_t size)
{
	size_t n = strlen(key);

	*text = '\0';
	for (const char *line = info; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ':') {
			text_format(text, size, "%.*s", (int)strcspn(line + n + 1, "\r\n"), line + n + 1);
			break;
		}
	}
	return text;
}

long long info_number(const char *info, const char *key)
{
	char text[32];

	return atoll(info_text(info, key, text, sizeof text));
}
