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

struct member {
	struct crew *crew;
	pthread_t thread;
	_Atomic uint32_t word; /* futex */
	crew_fn fn;
	void *context;
	size_t index;
};

struct crew {
	int fd;
	size_t n;
	struct member members[];
};

static void wait_for_word(struct member *m)
{
	while (atomic_load(&m->word) == IDLE)
		syscall(SYS_futex, &m->word, FUTEX_WAIT_PRIVATE, IDLE, NULL, NULL, 0);
}

static void set_word(struct member *m, uint32_t value)
{
	atomic_store(&m->word, value);
	syscall(SYS_futex, &m->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *work(void *data)
{
	struct member *m = data;

	for (;;) {
		wait_for_word(m);
		if (atomic_load(&m->word) == ENDING)
			return NULL;
		m->fn(m->context, m->index);
		atomic_store(&m->word, IDLE);
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
	set_word(m, POSTED);
}

int crew_fd(const struct crew *crew)
{
	return crew->fd;
}

void crew_clear(struct crew *crew)
{
	(void)!read(crew->fd, &(uint64_t){ 0 }, sizeof(uint64_t));
}
