/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-guard, as it is, on the real kernel, that stops at a step of its window until it is told to go on: the test then
 * does to it what it wants. GUARD_STEP_DIRECTORY/step holds "OP N WHEN", WHEN being before or after; at the N-th OP of
 * an executor "reached" is made there, and the thread waits for "go-on". Where "no-flush" is there, nothing is written
 * out before the freezes: what is slow is then found by them. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "coordinator/guard/guard.h"

#define LIMIT (60 * USEC_PER_SEC)

enum { FREEZE, THAW, SUSPEND, RESUME, STATUS, CUT, OPS };

static const char *const names[OPS] = { "freeze", "thaw", "suspend", "resume", "status", "cut" };
static atomic_int counts[OPS];
static bool is_executor;

static void path_of(const char *name, char path[512])
{
	snprintf(path, 512, "%s/%s", getenv("GUARD_STEP_DIRECTORY") ?: "/nonexistent", name);
}

static void stop_here(void)
{
	char reached[512], go_on[512];
	uint64_t end = clock_now() + LIMIT;

	path_of("reached", reached);
	path_of("go-on", go_on);
	FILE *f = fopen(reached, "we");
	if (f)
		fclose(f);
	while (access(go_on, F_OK) < 0 && clock_now() < end)
		usleep(5000); /* at a real-time priority: shorter, and a slow machine does nothing else */
}

static void step(int op, int count, const char *when)
{
	char path[512], wanted_op[16], wanted_when[16];
	int wanted_count;

	path_of("step", path);
	FILE *f = is_executor ? fopen(path, "re") : NULL;
	int fields = f ? fscanf(f, "%15s %d %15s", wanted_op, &wanted_count, wanted_when) : 0;
	if (f)
		fclose(f);
	if (fields == 3 && strcmp(wanted_op, names[op]) == 0 && wanted_count == count && strcmp(wanted_when, when) == 0)
		stop_here();
}

#define STEPPED(op, call)                                                                                              \
	({                                                                                                             \
		int _count = atomic_fetch_add(&counts[op], 1) + 1;                                                     \
		step(op, _count, "before");                                                                            \
		int _r = (call);                                                                                       \
		step(op, _count, "after");                                                                             \
		_r;                                                                                                    \
	})

static int flush(int fd)
{
	char path[512];

	path_of("no-flush", path);
	return access(path, F_OK) == 0 ? 0 : real_kernel.flush(fd);
}

static int step_freeze(int fd)
{
	return STEPPED(FREEZE, real_kernel.freeze(fd));
}

static int step_thaw(int fd)
{
	return STEPPED(THAW, real_kernel.thaw(fd));
}

static int step_suspend(int control, uint32_t major, uint32_t minor)
{
	return STEPPED(SUSPEND, real_kernel.suspend(control, major, minor));
}

/* LVM's flags tell a copy that is made live (low priority) from an origin. */
static int step_resume(int control, uint32_t major, uint32_t minor, uint32_t flags, bool *ret_changed)
{
	return STEPPED((flags & 0x10) ? CUT : RESUME, real_kernel.resume(control, major, minor, flags, ret_changed));
}

static int step_status(int control, uint32_t major, uint32_t minor, struct device_status *ret)
{
	return STEPPED(STATUS, real_kernel.status(control, major, minor, ret));
}

/* The cut of a thin volume. */
static int step_message(int control, uint32_t major, uint32_t minor, const char *text)
{
	return STEPPED(CUT, real_kernel.message(control, major, minor, text));
}

int main(int argc, char **argv)
{
	struct kernel stepping = real_kernel;
	stepping.flush = flush;

	stepping.freeze = step_freeze;
	stepping.thaw = step_thaw;
	stepping.suspend = step_suspend;
	stepping.resume = step_resume;
	stepping.status = step_status;
	stepping.message = step_message;
	is_executor = argc > 1 && strcmp(argv[1], "--executor") == 0;
	return guard_main(argc, argv, &stepping);
}
