/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MariaDB's servers on this machine, running or not. */
#pragma once

#include "writers/bundled/bundled.h"

json_t *servers_discover(const json_t *settings, struct err *err);
/* Whether a server runs on the data directory: its socket, "" if that cannot be told. -1: err (its files are in use by something
 * that cannot be found). */
int servers_running(const json_t *settings, const char *name, const char *data, bool *ret_running, char *socket, size_t size,
		    struct err *err);
