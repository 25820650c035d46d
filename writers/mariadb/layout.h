/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server's data consists of, and where it lies. */
#pragma once

#include "writers/mariadb/server.h"

/* {Version s, Supported b, Paths [as discover's], Places [s: directories, without links], Binlog b} as the server says, which
 * must be the one of the data directory. Not Supported, without BACKUP STAGE: it is not asked, and the rest is layout_look's.
 * NULL: the result, with the task's message. */
json_t *layout_ask(struct bundled_task *task, MYSQL *connection, const char *data, enum vss_result *ret_result);
/* Of a server that cannot be asked: what lies in the data directory, or is linked from it. */
json_t *layout_look(const char *data);
