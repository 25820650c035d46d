/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting this program once more: the file that runs, whatever has been installed or mounted since. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* To be called once, at the beginning. */
void spawn_remember_self(void);
/* With fd (or nothing, for -1) as descriptor 3 and no other one but the standard ones, no signal blocked. 0 or an
 * errno. */
int spawn_self(char *const *argv, int fd, bool new_session, pid_t *ret_pid);
