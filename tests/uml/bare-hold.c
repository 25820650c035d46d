/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The baseline of how long a set holds writes: freezes, suspends, resumes and thaws, and nothing else, in the manner of
 * vss-guard: all written out before, a thread for each volume, expedited RCU, real-time, locked in memory. Prints the
 * usec from the first freeze to the last thaw.  bare-hold [--serial] [--plain-rcu] {DIRECTORY DEVICE-MAPPER-NAME}... */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"

#define VOLUMES_MAX 64
#define STACK (64u << 10)

enum step { STEP_FLUSH, STEP_FREEZE, STEP_SUSPEND, STEP_RESUME, STEP_THAW, STEP_END };

struct volume {
	const char *name;
	int directory;
};

static struct volume volumes[VOLUMES_MAX];
static int n_volumes, control;
static volatile enum step step;
static pthread_barrier_t begun, ended;

static void suspend(const char *name, bool on)
{
	struct dm_ioctl request = { .version = { DM_VERSION_MAJOR, 0, 0 },
				    .data_size = sizeof request,
				    .data_start = sizeof request,
				    .flags = on ? DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG : 0,
				    .event_nr = on ? 0 : 0x60u << 16 };

	strncpy(request.name, name, sizeof request.name - 1);
	if (ioctl(control, DM_DEV_SUSPEND, &request) < 0)
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
}

static void do_step(const struct volume *volume)
{
	switch (step) {
	case STEP_FLUSH:
		syncfs(volume->directory);
		break;
	case STEP_FREEZE:
		if (ioctl(volume->directory, FIFREEZE, 0) < 0)
			fprintf(stderr, "FIFREEZE of %s: %s\n", volume->name, strerror(errno));
		break;
	case STEP_SUSPEND:
	case STEP_RESUME:
		suspend(volume->name, step == STEP_SUSPEND);
		break;
	case STEP_THAW:
		ioctl(volume->directory, FITHAW, 0);
		break;
	case STEP_END:
		break;
	}
}

static void *work(void *data)
{
	for (;;) {
		pthread_barrier_wait(&begun);
		if (step == STEP_END)
			return NULL;
		do_step(data);
		pthread_barrier_wait(&ended);
	}
}

static void run_parallel(enum step next)
{
	step = next;
	pthread_barrier_wait(&begun);
	if (next != STEP_END)
		pthread_barrier_wait(&ended);
}

static void run_serial(enum step next)
{
	step = next;
	for (int i = 0; i < n_volumes; i++)
		do_step(&volumes[i]);
}

static void expedite(char value)
{
	int fd = open("/sys/kernel/rcu_expedited", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, &value, 1) != 1)
		fprintf(stderr, "rcu_expedited cannot be written\n");
	if (fd >= 0)
		close(fd);
}

static void start_threads(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	pthread_barrier_init(&begun, NULL, (unsigned)n_volumes + 1);
	pthread_barrier_init(&ended, NULL, (unsigned)n_volumes + 1);
	for (int i = 0; i < n_volumes; i++)
		if (pthread_create(&thread, &attributes, work, &volumes[i]) != 0)
			exit(2);
}

int main(int argc, char **argv)
{
	struct sched_param realtime = { .sched_priority = 40 };
	bool serial = false, expedited = true;
	uint64_t begin, end;

	for (argv++, argc--; argc > 0 && strncmp(*argv, "--", 2) == 0; argv++, argc--) {
		serial = serial || strcmp(*argv, "--serial") == 0;
		expedited = expedited && strcmp(*argv, "--plain-rcu") != 0;
	}
	for (; argc > 1 && n_volumes < VOLUMES_MAX; argv += 2, argc -= 2) {
		volumes[n_volumes] = (struct volume){ argv[1], open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
		if (volumes[n_volumes].directory < 0)
			return 2;
		n_volumes++;
	}
	control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (control < 0 || n_volumes == 0)
		return 2;
	sched_setscheduler(0, SCHED_FIFO, &realtime); /* which the threads inherit */
	if (!serial)
		start_threads();
	mlockall(MCL_CURRENT);
	void (*run)(enum step) = serial ? run_serial : run_parallel;
	if (expedited)
		expedite('1');
	run(STEP_FLUSH);
	begin = clock_now();
	for (enum step next = STEP_FREEZE; next < STEP_END; next++)
		run(next);
	end = clock_now();
	if (expedited)
		expedite('0');
	if (!serial)
		run_parallel(STEP_END);
	printf("%llu\n", (unsigned long long)(end - begin));
	return 0;
}
