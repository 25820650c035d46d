/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads that wait for work, one task each at a time, made before they are needed: an ioctl that hangs keeps its
 * thread and nobody else. Posting and finishing allocate nothing and never block. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct crew;

typedef void (*crew_fn)(void *context, size_t index);

/* n threads with small stacks; *ret is NULL on failure. */
int crew_new(struct crew **ret, size_t n, struct err *err);
/* Ends the threads; all must be idle. */
struct crew *crew_free(struct crew *crew);

bool crew_idle(const struct crew *crew, size_t thread);
size_t crew_busy(const struct crew *crew); /* how many are not idle */
/* Has an idle thread call fn(context, index), once crew_go is called: one call for all that were posted. */
void crew_post(struct crew *crew, size_t thread, crew_fn fn, void *context, size_t index);
void crew_go(struct crew *crew);
/* Of a thread of a crew: its own number. */
int32_t crew_thread_id(void);

/* Readable when the last of the tasks has ended since crew_clear. */
int crew_fd(const struct crew *crew);
void crew_clear(struct crew *crew);
