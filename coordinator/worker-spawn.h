/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starting a vss-worker process, without a fork of vssd's memory. */
#pragma once

#include <sys/types.h>

/* Runs `program role` with fd as descriptor 3, standard output on standard error, none of vssd's other descriptors, no
 * signal blocked or ignored, and a process group of its own. Returns 0 or an errno value. */
int worker_spawn(const char *program, const char *role, int fd, pid_t *ret_pid);
