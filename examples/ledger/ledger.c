/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THINK_NSEC 500000 /* what a customer of ours needs for the next transaction */

int ledger_open(struct ledger *ledger, const char *debit_directory, const char *credit_directory)
{
	struct book_total debit, credit;

	memset(ledger, 0, sizeof *ledger);
	pthread_mutex_init(&ledger->lock, NULL);
	pthread_cond_init(&ledger->go_on, NULL);
	if (book_open(&ledger->debit, debit_directory, "debit") < 0 ||
	    book_open(&ledger->credit, credit_directory, "credit") < 0 || book_total(&ledger->debit, &debit) < 0 ||
	    book_total(&ledger->credit, &credit) < 0)
		return -1;
	if (debit.last != credit.last || debit.amount != credit.amount) {
		fprintf(stderr, "ledger: the books do not balance: see `ledger check`\n");
		return -1;
	}
	ledger->last = debit.last;
	return 0;
}

/* Called with the lock. */
static int enter_transaction(struct ledger *ledger, int64_t amount)
{
	int64_t number = ledger->last + 1;

	if (book_enter(&ledger->debit, number, amount) < 0 || book_enter(&ledger->credit, number, amount) < 0)
		return -1;
	ledger->last = number;
	return 0;
}

static void *customer(void *data)
{
	struct ledger *ledger = data;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	const struct timespec think = { .tv_nsec = THINK_NSEC };

	while (!atomic_load(&ledger->stopping)) {
		int64_t amount = 1 + rand_r(&seed) % 100000;

		pthread_mutex_lock(&ledger->lock);
		while (atomic_load(&ledger->frozen) && !atomic_load(&ledger->stopping))
			pthread_cond_wait(&ledger->go_on, &ledger->lock);
		if (!atomic_load(&ledger->stopping) && enter_transaction(ledger, amount) < 0) {
			ledger->failed = true;
			atomic_store(&ledger->stopping, true);
		}
		pthread_mutex_unlock(&ledger->lock);
		nanosleep(&think, NULL);
	}
	return NULL;
}

int ledger_start(struct ledger *ledger, unsigned n_threads)
{
	while (ledger->n_threads < n_threads) {
		if (pthread_create(&ledger->threads[ledger->n_threads], NULL, customer, ledger) != 0) {
			fprintf(stderr, "ledger: cannot start thread %u\n", ledger->n_threads + 1);
			return -1;
		}
		ledger->n_threads++;
	}
	return 0;
}

void ledger_close(struct ledger *ledger)
{
	pthread_mutex_lock(&ledger->lock);
	atomic_store(&ledger->stopping, true);
	pthread_cond_broadcast(&ledger->go_on);
	pthread_mutex_unlock(&ledger->lock);
	while (ledger->n_threads > 0)
		pthread_join(ledger->threads[--ledger->n_threads], NULL);
	book_close(&ledger->debit);
	book_close(&ledger->credit);
	pthread_cond_destroy(&ledger->go_on);
	pthread_mutex_destroy(&ledger->lock);
}

int ledger_settle(struct ledger *ledger)
{
	/* Beside the running threads: most of the write-ahead log goes to the files now, so that the freeze has
	 * little left to do. SQLite serializes this with the entries. */
	if (book_checkpoint(&ledger->debit, false) < 0)
		return -1;
	return book_checkpoint(&ledger->credit, false);
}
