/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client that knows what a database has promised it. Threads with a connection each enter numbers, each its own from 1 on, and note
 * when each was issued and when it was acknowledged, in microseconds of CLOCK_MONOTONIC: "i NUMBER TIME" and "a NUMBER TIME"
 * in LOG.THREAD. A server that goes is waited for; the number under way is then entered again.
 *
 * Usage: NAME-ledger SERVER THREADS LOG, until SIGTERM; says READY when it has begun. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ledger_database {
	void *(*connect)(const char *server);
	bool (*enter)(void *connection, unsigned thread, uint64_t number);
	void (*close)(void *connection); /* one that failed, too, and NULL */
	unsigned rest; /* usec between two numbers */
};

/* Ends with an exit code. */
int ledger_client(const struct ledger_database *database, int argc, char **argv);
