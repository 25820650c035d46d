/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PostgreSQL's own backup, for copies of several instants: begun before them, ended after them, and what makes the copies
 * one consistent cluster written into them: the label, the map of tablespaces, and the WAL from start to stop. */
#pragma once

#include "writers/postgresql/hold.h"

/* Both on hold->connection. */
enum vss_result backup_start(struct bundled_task *task, struct hold *hold);
/* *ret_stop gets the WAL position that the copy becomes consistent at. */
enum vss_result backup_finish(struct bundled_task *task, struct hold *hold, char stop[32]);
