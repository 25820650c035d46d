/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Standing still, and going on; no VSS in here. */
#include "ledger.h"

int ledger_freeze(struct ledger *ledger, int64_t *ret_last)
{
	int done = 0;

	/* First the flag, then the lock: threads on their way see the flag and leave the lock to us. Whoever has the
	 * lock is inside a transaction, so having it means that none is half done. */
	atomic_store(&ledger->frozen, true);
	pthread_mutex_lock(&ledger->lock);
	if (ledger->failed || book_checkpoint(&ledger->debit, true) < 0 || book_checkpoint(&ledger->credit, true) < 0)
		done = -1;
	*ret_last = ledger->last;
	pthread_mutex_unlock(&ledger->lock);
	if (done < 0)
		ledger_thaw(ledger);
	return done;
}

void ledger_thaw(struct ledger *ledger)
{
	pthread_mutex_lock(&ledger->lock);
	atomic_store(&ledger->frozen, false);
	pthread_cond_broadcast(&ledger->go_on);
	pthread_mutex_unlock(&ledger->lock);
}
