/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger client (client.h) of PostgreSQL: enters each number into the tables ledger and ledger_far, in one transaction.
 * Usage: pg-ledger CONNINFO THREADS LOG */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>

#include "tests/ledger/client.h"

static const char enter[] =
	"WITH a AS (INSERT INTO ledger VALUES (%u, %" PRIu64 ") ON CONFLICT DO NOTHING)"
	" INSERT INTO ledger_far VALUES (%u, %" PRIu64 ") ON CONFLICT DO NOTHING";

static void *connect_to(const char *conninfo)
{
	return PQconnectdb(conninfo);
}

static bool enter_number(void *connection, unsigned thread, uint64_t number)
{
	char sql[256];

	snprintf(sql, sizeof sql, enter, thread, number, thread, number);
	PGresult *result = PQexec(connection, sql);
	bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	return done;
}

static void finish(void *connection)
{
	PQfinish(connection);
}

int main(int argc, char **argv)
{
	static const struct ledger_database postgresql = { .connect = connect_to, .enter = enter_number, .close = finish };

	return ledger_client(&postgresql, argc, argv);
}
