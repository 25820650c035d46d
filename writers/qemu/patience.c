/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/patience.h"

#include <errno.h>
#include <poll.h>

#include "common/clock.h"

int patience_wait(const struct patience *patience, int fd, short events)
{
	struct pollfd polled[] = { { patience->cancel, POLLIN, 0 }, { fd, events, 0 } };

	for (;;) {
		uint64_t now = clock_now();
		if (now >= patience->until)
			return -ETIMEDOUT;
		uint64_t left = patience->until - now;
		struct timespec span = { .tv_sec = (time_t)(left / USEC_PER_SEC),
					 .tv_nsec = (long)(left % USEC_PER_SEC * 1000) };
		int n = ppoll(polled, 2, &span, NULL);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && polled[0].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
	}
}

struct patience patience_within(const struct patience *patience, uint64_t usec)
{
	struct patience within = *patience;
	uint64_t end = clock_now() + usec;

	if (end < within.until)
		within.until = end;
	return within;
}
