/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One half of the ledger: a SQLite database in WAL mode, with one entry for each transaction. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct book {
	const char *side; /* "debit" or "credit", for messages */
	char *path;
	struct sqlite3 *db;
	struct sqlite3_stmt *insert;
};

struct book_total {
	int64_t last;	 /* number of the last transaction, 0 in an empty book */
	int64_t entries; /* equals last unless entries are missing */
	int64_t amount;	 /* sum of all entries */
};

/* All of these return 0, or -1 after telling stderr what went wrong. A zeroed book may be closed. */
int book_open(struct book *book, const char *directory, const char *side);   /* made if it is not there */
int book_attach(struct book *book, const char *directory, const char *side); /* must be there */
void book_close(struct book *book);

int book_enter(struct book *book, int64_t number, int64_t amount);
int book_total(struct book *book, struct book_total *ret_total);
/* Moves what the write-ahead log holds into the database file. The complete checkpoint ends with an empty log, and
 * needs that nobody writes; the other one does what it can beside writers. */
int book_checkpoint(struct book *book, bool complete);
/* SQLite's own word on the file. */
int book_verify(struct book *book);
