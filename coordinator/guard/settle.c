/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a half of the guard makes itself independent of the machine's state. */
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/guard.h"

#define HEAP_SIZE (2u << 20)
#define RCU_EXPEDITED "/sys/kernel/rcu_expedited"

/* Memory that is given out later comes from this, which is locked already, and is never given back. */
static void grow_heap(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	mallopt(M_TOP_PAD, HEAP_SIZE);
	char *heap = malloc(HEAP_SIZE);
	if (heap)
		memset(heap, 0, HEAP_SIZE);
	free(heap);
}

static void write_text(const char *path, const char *text)
{
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, text, strlen(text));
}

void settle(int priority)
{
	(void)!chdir("/");
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	write_text("/proc/self/oom_score_adj", "-1000");
	/* What the kernel allocates for us must not wait for a filesystem that we hold. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	mlockall(MCL_CURRENT | MCL_FUTURE);
	grow_heap();
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = priority });
}

int rcu_expedite(void)
{
	autoclose int fd = open(RCU_EXPEDITED, O_RDWR | O_CLOEXEC);
	char text[16] = "";

	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || pwrite(fd, "1\n", 2, 0) != 2)
		return -1;
	return atoi(text);
}

void rcu_restore(int before)
{
	char text[2] = { (char)('0' + before), '\n' };

	if (before < 0 || before > 9)
		return;
	autoclose int fd = open(RCU_EXPEDITED, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!pwrite(fd, text, sizeof text, 0);
}
