/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether filesystems can be frozen now, found by doing it for a moment before anything depends on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct probe {
	const char *path; /* for messages */
	int fd;		  /* the filesystem's root; -1: nothing is mounted */

	/* while it runs */
	int pid, pidfd;
};

/* Writes each filesystem out, freezes and thaws it, all at the same time. -1 with err naming the first that somebody
 * else has frozen, that cannot be frozen, or that had not answered by the deadline (absolute). */
int probe_filesystems(struct probe *probes, size_t n, uint64_t deadline, struct err *err);
