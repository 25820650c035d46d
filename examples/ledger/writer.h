/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger as a VSS writer. */
#pragma once

#include "ledger.h"

struct ledger_writer {
	struct ledger *ledger;
	const char *debit_directory, *credit_directory;
	const char *status_file; /* gets the number of the transaction at which the last freeze stopped; may be NULL */
	int64_t frozen_at;
	struct vss_writer *vss;
};

/* 0, or -1 after telling stderr. Fill the first four fields before. */
int ledger_writer_start(struct ledger_writer *writer);
void ledger_writer_stop(struct ledger_writer *writer);
