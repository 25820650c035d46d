/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection to a cluster's server, never waited for longer than a task may. */
#pragma once

#include <libpq-fe.h>

#include "writers/bundled/bundled.h"

/* Connects to the server of task->instance, and makes sure that it is the one that serves that data directory. What goes
 * wrong is in task->message. */
enum vss_result server_connect(struct bundled_task *task, PGconn **ret_connection);

/* One statement, until `until` at most. *ret_result (nullable) is to be given to PQclear; set only with VSS_RESULT_OK. After a
 * failure the connection is of no more use. what: "The checkpoint". */
enum vss_result server_query(struct bundled_task *task, PGconn *connection, const char *what, const char *sql, uint64_t until,
			     PGresult **ret_result);

/* Is the server process at the other end still there? */
bool server_is_there(PGconn *connection);
