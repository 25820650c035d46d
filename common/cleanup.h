/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scope-bound release of memory, descriptors and JSON values. */
#pragma once

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(fn) __attribute__((cleanup(fn)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

static inline void cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

/* Keeps errno: it runs on error paths whose caller has yet to read it. */
static inline void cleanup_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_json(json_t **value)
{
	json_decref(*value);
}

#define autofree cleanup(cleanup_free)
#define autoclose cleanup(cleanup_close)
#define autojson cleanup(cleanup_json)

/* Hands over what a cleanup attribute would release: returns the value and leaves the neutral one. */
#define steal_pointer(pointer)                  \
	({                                      \
		__typeof__(pointer) _p = (pointer); \
		(pointer) = NULL;               \
		_p;                             \
	})
#define steal_fd(fd)            \
	({                      \
		int _fd = (fd); \
		(fd) = -1;      \
		_fd;            \
	})
