/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers that run on this machine, seen in /proc. */
#pragma once

#include <jansson.h>

/* Processes with one of the names (at most 15 characters, NULL-ended list) that see our root directory: an array of
 * {Pid i, Directory s (where it works, "" if that cannot be told), Uid i, Gid i, Sockets [s] (paths), Ports [i] (TCP)}; where it
 * listens is known only to root and its own user. */
json_t *processes_find(const char *const *names);
