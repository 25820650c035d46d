/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection to a Redis or Valkey server, never waited for longer than a task may. */
#pragma once

#include <hiredis/hiredis.h>

#include "writers/bundled/bundled.h"

#define SERVER_DOWN (-ECONNREFUSED) /* nobody listens */

/* Connects to row's Address and authenticates with what the settings or the server's configuration file say. *ret_errno
 * gets 0, or SERVER_DOWN where nobody listens; what goes wrong is in task->message. */
enum vss_result server_connect(struct bundled_task *task, const json_t *row, uint64_t until, redisContext **ret_context,
			       int *ret_errno);

/* One command, until `until` at most, which a server that is busy with a script is asked again until then; an error
 * reply is a failure. *ret_reply (nullable) is to be given to freeReplyObject. what: "BGSAVE". Where there was no
 * answer context->err is set: the connection is of no more use. */
enum vss_result server_ask(struct bundled_task *task, redisContext *context, const char *what, uint64_t until,
			   redisReply **ret_reply, const char *format, ...);

/* Of CONFIG GET: a string to be freed, "" if the server does not know it; NULL: task->message. */
char *server_setting(struct bundled_task *task, redisContext *context, uint64_t until, const char *name);

/* Of the text of INFO: "" if it has no such line. */
const char *info_text(const char *info, const char *key, char *text, size_t size);
long long info_number(const char *info, const char *key);

/* Sends it without waiting for anything, even where an answer is still owed; whether it arrives is not known. */
void server_tell(redisContext *context, const char *command);
