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
#include "common/clock.h"
#include "common/text.h"
#include "writers/redis/settings.h"

static void free_reply(redisReply **reply)
{
	freeReplyObject(*reply);
}
#define autoreply cleanup(free_reply)

#define BUSY_INTERVAL (10 * USEC_PER_MSEC)

static enum vss_result gave_up(struct bundled_task *task, int r, const char *what)
{
	if (r == -ETIMEDOUT)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT,
				    "%s: the server does not answer within the limit (CommandLimit=): it hangs, or a "
				    "slow command is in the way",
				    what);
	if (r == -EAGAIN)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "%s: the server accepts no connections: it hangs, or is overloaded", what);
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

static int reach(struct bundled_task *task, const json_t *row, uint64_t until)
{
	const char *path = json_string_value(json_object_get(row, "Socket"));
	const char *host = json_string_value(json_object_get(row, "Host")),
		   *port = json_string_value(json_object_get(row, "Port"));
	int r = path ? connect_unix(path) : SERVER_DOWN;

	/* A socket that stands in its configuration may not be there before it is started anew. */
	if (r == SERVER_DOWN && host && port)
		r = connect_tcp(host, port);
	if (r < 0)
		return r;
	autoclose int fd = r;
	r = finish_connect(task, fd, until);
	return r < 0 ? r : steal_fd(fd);
}

static int open_connection(struct bundled_task *task, const json_t *row, uint64_t until, redisContext **ret_context)
{
	autoclose int fd = reach(task, row, until);

	if (fd < 0)
		return fd;
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

/* The password of all is for servers that the administrator named: any user may call a process a server. */
static bool may_be_told(const struct bundled_task *task, const json_t *row)
{
	json_t *own = json_object_get(bundled_setting_instances(task->settings), task->name ?: "");

	return json_is_true(json_object_get(row, "Configured")) || (task->name && json_object_get(own, "PasswordFile"));
}

static enum vss_result authenticate(struct bundled_task *task, redisContext *context, const json_t *row, uint64_t until)
{
	const char *user = bundled_setting_text(task->settings, task->name, "User");
	json_t *files = bundled_setting(task->settings, task->name, "PasswordFile");
	const char *file = may_be_told(task, row) ? json_string_value(json_array_get(files, 0)) : NULL;
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

static int receive(struct bundled_task *task, redisContext *context, uint64_t until, redisReply **ret_reply)
{
	void *reply = NULL;

	while (redisGetReplyFromReader(context, &reply) == REDIS_OK) {
		if (reply) {
			*ret_reply = reply;
			return 0;
		}
		int r = bundled_wait(task, context->fd, POLLIN, until);
		if (r < 0)
			return r;
		if (redisBufferRead(context) != REDIS_OK)
			return -EPIPE;
	}
	return -EPIPE;
}

static int exchange(struct bundled_task *task, redisContext *context, uint64_t until, redisReply **ret_reply)
{
	int done = 0;

	while (!done) {
		int r = bundled_wait(task, context->fd, POLLOUT, until);
		if (r < 0)
			return r;
		if (redisBufferWrite(context, &done) != REDIS_OK) {
			context->err = 0; /* it may have said why before it ended the connection */
			done = 1;
		}
	}
	return receive(task, context, until, ret_reply);
}

struct refusal {
	const char *begins, *helps;
	bool lasting; /* trying again does not change it */
};

static const struct refusal *find_refusal(const char *why)
{
	static const char access[] = "correct User=, PasswordFile= or the server's ACL";
	static const struct refusal known[] = {
		{ "NOAUTH",
		  "give PasswordFile=; for a server that is found among the processes alone, in its own section",
		  true },
		{ "WRONGPASS", access, true },
		{ "NOPERM", access, true },
		{ "ERR AUTH", access, true },
		{ "ERR invalid password", access, true },
		{ "ERR unknown command",
		  "the server does not know it, or its configuration takes it away (rename-command)", true },
		{ "ERR max number of clients", "raise maxclients, or see who has the connections (CLIENT LIST)",
		  false },
		{ "BUSY ", "a script or function is in the way: wait for its end, or end it with SCRIPT KILL", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strncasecmp(why, known[i].begins, strlen(known[i].begins)) == 0)
			return &known[i];
	return NULL;
}

static enum vss_result refused(struct bundled_task *task, const char *what, const char *why)
{
	const struct refusal *refusal = find_refusal(why);
	bool lasting = refusal && refusal->lasting;

	return bundled_fail(task, lasting ? VSS_RESULT_NON_RETRYABLE : VSS_RESULT_RETRYABLE, "%s: %.300s%s%s", what,
			    why, refusal ? ": " : "", refusal ? refusal->helps : "");
}

/* A script that runs for long makes a server refuse all else at once, where it is otherwise silent until it is free. */
static bool wait_while_busy(struct bundled_task *task, const redisReply *reply, uint64_t until)
{
	uint64_t next = clock_now() + BUSY_INTERVAL;

	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "BUSY ", 5) == 0 && next < until &&
	       bundled_wait(task, -1, 0, next) == -ETIMEDOUT && !bundled_expired(task);
}

/* *ret_reply may be the last refusal even where the time ends without an answer. */
static int converse(struct bundled_task *task, redisContext *context, uint64_t until, const char *command, size_t size,
		    redisReply **ret_reply)
{
	int r;

	do {
		redisReply *reply = NULL;
		r = redisAppendFormattedCommand(context, command, size) == REDIS_OK ? 0 : -ENOMEM;
		if (r == 0)
			r = exchange(task, context, until, &reply);
		if (!reply)
			break;
		freeReplyObject(*ret_reply);
		*ret_reply = reply;
	} while (r == 0 && wait_while_busy(task, *ret_reply, until));
	return r;
}

enum vss_result server_ask(struct bundled_task *task, redisContext *context, const char *what, uint64_t until,
			   redisReply **ret_reply, const char *format, ...)
{
	autoreply redisReply *reply = NULL;
	char *command = NULL;
	va_list arguments;

	va_start(arguments, format);
	int size = redisvFormatCommand(&command, format, arguments);
	va_end(arguments);
	int r = context->err ? -EPIPE
		: size < 0   ? -ENOMEM
			     : converse(task, context, until, command, (size_t)size, &reply);
	redisFreeCommand(command);
	if (r < 0)
		context->err = REDIS_ERR_OTHER; /* an answer may still come, to another question */
	if (r == -EPIPE)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "%s: the server ended the connection: it was stopped, restarted, or has crashed",
				    what);
	if (r < 0 && !reply)
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

	context->err = 0;
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
