/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "book.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_TIMEOUT_MSEC 5000

static int complain(const struct book *book, const char *what)
{
	fprintf(stderr, "ledger: %s: %s: %s\n", book->path ? book->path : book->side, what,
		book->db ? sqlite3_errmsg(book->db) : "out of memory");
	return -1;
}

static int run(struct book *book, const char *sql)
{
	if (sqlite3_exec(book->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return complain(book, sql);
	return 0;
}

static int open_database(struct book *book, const char *directory, const char *side, int flags)
{
	memset(book, 0, sizeof *book);
	book->side = side;
	if (asprintf(&book->path, "%s/%s.db", directory, side) < 0) {
		book->path = NULL;
		return complain(book, "cannot open");
	}
	if (sqlite3_open_v2(book->path, &book->db, flags, NULL) != SQLITE_OK)
		return complain(book, "cannot open");
	sqlite3_busy_timeout(book->db, BUSY_TIMEOUT_MSEC);
	return 0;
}

int book_attach(struct book *book, const char *directory, const char *side)
{
	return open_database(book, directory, side, SQLITE_OPEN_READWRITE);
}

int book_open(struct book *book, const char *directory, const char *side)
{
	static const char insert[] = "INSERT INTO entry (number, amount, booked) VALUES (?1, ?2, unixepoch())";

	if (open_database(book, directory, side, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) < 0)
		return -1;
	/* NORMAL: a commit goes to the write-ahead log without waiting for the disk. The log may grow to 40 MB before a
	 * transaction has to wait for its checkpoint: steady service is worth more to us than a short log. */
	if (run(book, "PRAGMA journal_mode = WAL") < 0 || run(book, "PRAGMA synchronous = NORMAL") < 0 ||
	    run(book, "PRAGMA wal_autocheckpoint = 10000") < 0 ||
	    run(book, "CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, amount INTEGER NOT NULL,"
		      " booked INTEGER NOT NULL)") < 0)
		return -1;
	if (sqlite3_prepare_v3(book->db, insert, -1, SQLITE_PREPARE_PERSISTENT, &book->insert, NULL) != SQLITE_OK)
		return complain(book, "cannot prepare the insertion of entries");
	return 0;
}

void book_close(struct book *book)
{
	sqlite3_finalize(book->insert);
	sqlite3_close(book->db);
	free(book->path);
	memset(book, 0, sizeof *book);
}

int book_enter(struct book *book, int64_t number, int64_t amount)
{
	sqlite3_bind_int64(book->insert, 1, number);
	sqlite3_bind_int64(book->insert, 2, amount);

	int done = sqlite3_step(book->insert);
	if (done != SQLITE_DONE)
		complain(book, "cannot enter a transaction");
	sqlite3_reset(book->insert);
	return done == SQLITE_DONE ? 0 : -1;
}

int book_total(struct book *book, struct book_total *ret_total)
{
	static const char sql[] = "SELECT coalesce(max(number), 0), count(*), coalesce(sum(amount), 0) FROM entry";
	sqlite3_stmt *query;

	if (sqlite3_prepare_v2(book->db, sql, -1, &query, NULL) != SQLITE_OK)
		return complain(book, "cannot read the entries");
	int row = sqlite3_step(query);
	if (row == SQLITE_ROW)
		*ret_total = (struct book_total){
			.last = sqlite3_column_int64(query, 0),
			.entries = sqlite3_column_int64(query, 1),
			.amount = sqlite3_column_int64(query, 2),
		};
	else
		complain(book, "cannot read the entries");
	sqlite3_finalize(query);
	return row == SQLITE_ROW ? 0 : -1;
}

int book_checkpoint(struct book *book, bool complete)
{
	int mode = complete ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;

	if (sqlite3_wal_checkpoint_v2(book->db, NULL, mode, NULL, NULL) != SQLITE_OK)
		return complain(book, "cannot checkpoint");
	return 0;
}

int book_verify(struct book *book)
{
	sqlite3_stmt *query;

	if (sqlite3_prepare_v2(book->db, "PRAGMA integrity_check(1)", -1, &query, NULL) != SQLITE_OK)
		return complain(book, "cannot be checked");
	const char *verdict = sqlite3_step(query) == SQLITE_ROW ? (const char *)sqlite3_column_text(query, 0) : NULL;
	bool good = verdict && strcmp(verdict, "ok") == 0;
	if (!good)
		fprintf(stderr, "ledger: %s is damaged: %s\n", book->path,
			verdict ? verdict : sqlite3_errmsg(book->db));
	sqlite3_finalize(query);
	return good ? 0 : -1;
}
