/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger: two books, and threads that enter transactions into both, first the debit, then the credit.
 *
 * Between the two entries of a transaction the books do not balance. That is the moment a copy must not see. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "book.h"

#define LEDGER_THREADS_MAX 64

struct ledger {
	struct book debit, credit;

	pthread_mutex_t lock; /* of one transaction; of everything below */
	pthread_cond_t go_on;
	int64_t last; /* number of the last complete transaction */
	bool failed;  /* a book could not be written: the threads have ended */

	/* Read without the lock too: a thread that may not go on should not even compete for the lock. */
	atomic_bool frozen, stopping;

	pthread_t threads[LEDGER_THREADS_MAX];
	unsigned n_threads;
};

/* 0, or -1 after telling stderr. */
int ledger_open(struct ledger *ledger, const char *debit_directory, const char *credit_directory);
int ledger_start(struct ledger *ledger, unsigned n_threads);
void ledger_close(struct ledger *ledger); /* stops the threads first */

/* Stops at a transaction boundary and brings both database files up to it; *ret_last is the transaction's number.
 * On failure the ledger is not frozen. Freezing what is frozen changes nothing. */
int ledger_freeze(struct ledger *ledger, int64_t *ret_last);
void ledger_thaw(struct ledger *ledger); /* any number of times */
/* Does beforehand what would make the freeze long. */
int ledger_settle(struct ledger *ledger);
