/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/crew.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

/* mlockall(MCL_FUTURE) locks every stack whole; the default of 8 MiB each would lock gigabytes. */
#define STACK_SIZE (48 * 1024)

enum { IDLE, POSTED, ENDING };

/* While volumes are held every system call counts: one wakes all that have something to do, and one tells that the last
 * of them is idle again. A thread sleeps on the crew's generation, and hears only of wakings that name its bit. */

struct member {
	struct crew *crew;
	pthread_t thread;
	_Atomic uint32_t word;
	crew_fn fn;
	void *context;
	size_t index;
};

struct crew {
	int fd;
	_Atomic uint32_t generation; /* futex */
	_Atomic uint32_t pending;
	uint32_t posted; /* bits of those who have not been woken yet */
	size_t n;
	struct member members[];
};

static _Thread_local int32_t thread_id;

static uint32_t bit_of(const struct member *m)
{
	return 1u << (size_t)(m - m->crew->members) % 32;
}

static void wait_for_word(struct member *m)
{
	for (;;) {
		uint32_t generation = atomic_load(&m->crew->generation);
		if (atomic_load(&m->word) != IDLE)
			return;
		syscall(SYS_futex, &m->crew->generation, FUTEX_WAIT_BITSET_PRIVATE, generation, NULL, NULL, bit_of(m));
	}
}

static void set_word(struct member *m, uint32_t value)
{
	atomic_store(&m->word, value);
	m->crew->posted |= bit_of(m);
}

static void *work(void *data)
{
	struct member *m = data;

	thread_id = (int32_t)syscall(SYS_gettid);
	for (;;) {
		wait_for_word(m);
		if (atomic_load(&m->word) == ENDING)
			return NULL;
		m->fn(m->context, m->index);
		atomic_store(&m->word, IDLE);
		if (atomic_fetch_sub(&m->crew->pending, 1) == 1)
			(void)!write(m->crew->fd, &(uint64_t){ 1 }, sizeof(uint64_t));
	}
}

static int start(struct crew *crew, size_t n)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int r = pthread_attr_init(&attributes);

	if (r != 0)
		return r;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	/* Signals are the main thread's: it has to see them while these hang in the kernel. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (r == 0 && crew->n < n) {
		struct member *m = &crew->members[crew->n];
		m->crew = crew;
		r = pthread_create(&m->thread, &attributes, work, m);
		if (r == 0)
			crew->n++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return r;
}

int crew_new(struct crew **ret, size_t n, struct err *err)
{
	struct crew *crew = calloc(1, sizeof *crew + n * sizeof *crew->members);
	int r;

	*ret = NULL;
	if (!crew)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "vss-guard has no memory for %zu threads", n);
	crew->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = crew->fd < 0 ? errno : start(crew, n);
	if (r != 0) {
		crew_free(crew);
		return err_errno(err, r, VSS_E_OUT_OF_MEMORY, "vss-guard cannot start %zu threads", n);
	}
	*ret = crew;
	return 0;
}

struct crew *crew_free(struct crew *crew)
{
	if (!crew)
		return NULL;
	for (size_t i = 0; i < crew->n; i++)
		set_word(&crew->members[i], ENDING);
	crew_go(crew);
	for (size_t i = 0; i < crew->n; i++)
		pthread_join(crew->members[i].thread, NULL);
	if (crew->fd >= 0)
		close(crew->fd);
	free(crew);
	return NULL;
}

bool crew_idle(const struct crew *crew, size_t thread)
{
	return atomic_load(&crew->members[thread].word) == IDLE;
}

size_t crew_busy(const struct crew *crew)
{
	size_t n = 0;

	for (size_t i = 0; i < crew->n; i++)
		n += !crew_idle(crew, i);
	return n;
}

void crew_post(struct crew *crew, size_t thread, crew_fn fn, void *context, size_t index)
{
	struct member *m = &crew->members[thread];

	m->fn = fn;
	m->context = context;
	m->index = index;
	atomic_fetch_add(&crew->pending, 1);
	set_word(m, POSTED);
}

void crew_go(struct crew *crew)
{
	uint32_t posted = crew->posted;

	if (posted == 0)
		return;
	crew->posted = 0;
	atomic_fetch_add(&crew->generation, 1);
	syscall(SYS_futex, &crew->generation, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, posted);
}

int32_t crew_thread_id(void)
{
	return thread_id;
}

int crew_fd(const struct crew *crew)
{
	return crew->fd;
}

void crew_clear(struct crew *crew)
{
	(void)!read(crew->fd, &(uint64_t){ 0 }, sizeof(uint64_t));
}
