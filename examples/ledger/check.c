/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "book.h"

static int audit_book(const char *directory, const char *side, struct book_total *ret_total)
{
	struct book book;
	int done = -1;

	if (book_attach(&book, directory, side) == 0 && book_verify(&book) == 0 && book_total(&book, ret_total) == 0)
		done = 0;
	if (done == 0)
		printf("%-6s  last transaction %" PRId64 ", %" PRId64 " entries, sum %" PRId64 "\n", side,
		       ret_total->last, ret_total->entries, ret_total->amount);
	book_close(&book);
	return done;
}

static bool is_complete(const char *side, const struct book_total *total)
{
	if (total->entries == total->last)
		return true;
	printf("WRONG: of the %" PRId64 " transactions up to the last one, the %s book holds %" PRId64 "\n",
	       total->last, side, total->entries);
	return false;
}

static bool ends_at(const char *side, const struct book_total *total, int64_t expected)
{
	if (expected < 0 || total->last == expected)
		return true;
	printf("WRONG: the %s book ends at transaction %" PRId64 ", not at %" PRId64 "\n", side, total->last, expected);
	return false;
}

int ledger_check(const char *debit_directory, const char *credit_directory, int64_t expected)
{
	struct book_total debit, credit;
	bool good;

	if (audit_book(debit_directory, "debit", &debit) < 0 || audit_book(credit_directory, "credit", &credit) < 0)
		return 1;
	good = is_complete("debit", &debit);
	good &= is_complete("credit", &credit);
	good &= ends_at("debit", &debit, expected);
	good &= ends_at("credit", &credit, expected);
	if (debit.last != credit.last || debit.amount != credit.amount) {
		printf("WRONG: the books do not balance: debits up to %" PRId64 " sum to %" PRId64
		       ", credits up to %" PRId64 " to %" PRId64 "\n",
		       debit.last, debit.amount, credit.last, credit.amount);
		good = false;
	}
	if (good)
		printf("The books balance.\n");
	return good ? 0 : 1;
}
