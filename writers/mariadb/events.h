/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The events of a set, for one MariaDB server. */
#pragma once

#include "writers/bundled/bundled.h"

enum vss_result mariadb_serve(struct bundled_task *task);
void mariadb_forget(void *state);
