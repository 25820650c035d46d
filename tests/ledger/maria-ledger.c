/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger client (client.h) of MariaDB: enters each number into the table test.ledger.
 * Usage: maria-ledger SOCKET THREADS LOG */
#include <inttypes.h>
#include <mysql.h>
#include <stdio.h>

#include "tests/ledger/client.h"

static void *connect_to(const char *socket)
{
	MYSQL *connection = mysql_init(NULL);
	unsigned limit = 20;

	mysql_options(connection, MYSQL_OPT_READ_TIMEOUT, &limit);
	(void)!mysql_real_connect(connection, NULL, "mysql", NULL, "test", 0, socket, 0);
	return connection;
}

static bool enter_number(void *connection, unsigned thread, uint64_t number)
{
	char sql[160];
	int n = snprintf(sql, sizeof sql, "INSERT IGNORE INTO ledger VALUES (%u, %" PRIu64 ")", thread, number);

	return mysql_real_query(connection, sql, (unsigned long)n) == 0;
}

static void finish(void *connection)
{
	mysql_close(connection);
	mysql_thread_end();
}

int main(int argc, char **argv)
{
	static const struct ledger_database mariadb = { .connect = connect_to, .enter = enter_number, .close = finish };

	return mysql_library_init(0, NULL, NULL) == 0 ? ledger_client(&mariadb, argc, argv) : 2;
}
