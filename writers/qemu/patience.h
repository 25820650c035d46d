/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long somebody waits for a guest, and what ends the waiting early. */
#pragma once

#include <stdint.h>

struct patience {
	uint64_t until; /* absolute */
	int cancel;	/* readable: nobody wants the answer any more; -1: never */
};

/* Waits for events (POLLIN, POLLOUT) of fd (-1: of none). 0; -ETIMEDOUT; -ECANCELED; another negative errno. */
int patience_wait(const struct patience *patience, int fd, short events);
/* At most usec from now, and no longer than the patience itself. */
struct patience patience_within(const struct patience *patience, uint64_t usec);
