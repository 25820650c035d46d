/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes the place of examples/ledger/freeze.c in ledger-careless: a writer that says yes to everything and does nothing.
 * The proofs of the quickstart must notice. */
#include "ledger.h"

int ledger_freeze(struct ledger *ledger, int64_t *ret_last)
{
	pthread_mutex_lock(&ledger->lock);
	*ret_last = ledger->last;
	pthread_mutex_unlock(&ledger->lock);
	return 0;
}

void ledger_thaw(struct ledger *ledger)
{
}
