/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers that run on this machine, seen in /proc. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Processes with one of the names (at most 15 characters, NULL-ended list) that see our root directory: an array of
 * {Pid i, Directory s (where it works, "" if that cannot be told), Uid i, Gid i, Sockets [s] (paths), Ports [i] (TCP)}; where it
 * listens is known only to root and its own user. */
json_t *processes_find(const char *const *names);
/* Where a process listens that may not be looked into because it has rights that we have not: which of the unix sockets that belong
 * to its user is its own is found out by connecting to them. */
bool processes_listens_at(pid_t pid, uid_t uid, char *socket, size_t size);
