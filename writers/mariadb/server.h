/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conversations with a MariaDB server, none of which outlasts the task's deadline. */
#pragma once

#include <mysql.h>

#include "writers/bundled/bundled.h"

/* As the user that this thread is, over the socket; OptionFile= may say otherwise. Not OK: the task's message. */
enum vss_result server_connect(struct bundled_task *task, const char *socket, MYSQL **ret);
/* what: "Blocking commits", for messages. ret may be NULL. After a failure that is not the server's answer the connection is of
 * no more use; mysql_errno tells. */
enum vss_result server_query(struct bundled_task *task, MYSQL *connection, const char *what, const char *sql, uint64_t until,
			     MYSQL_RES **ret);
/* At once, whatever is under way; the server lets go of what the connection held. NULL is fine. */
void server_close(MYSQL *connection);
