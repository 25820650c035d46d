/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes the place of examples/ledger/freeze.c in ledger-careless: a writer that says yes to everything and does
 * nothing. The proofs of the quickstart must notice. */
#include "ledger.h"

#include <unistd.h>

static int64_t last_transaction(struct ledger *ledger)
{
	pthread_mutex_lock(&ledger->lock);
	int64_t last = ledger->last;
	pthread_mutex_unlock(&ledger->lock);
	return last;
}

int ledger_freeze(struct ledger *ledger, int64_t *ret_last)
{
	int64_t before = last_transaction(ledger);

	/* At least one transaction goes by, so that the proof never holds by luck. */
	while ((*ret_last = last_transaction(ledger)) == before && !atomic_load(&ledger->stopping))
		usleep(1000);
	return 0;
}

void ledger_thaw(struct ledger *ledger)
{
}
