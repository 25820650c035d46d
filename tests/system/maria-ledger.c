/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client that knows what a MariaDB server has promised it: THREADS connections enter numbers, each its own from 1 on, into
 * the table test.ledger, and note when each was issued and when it was acknowledged, in microseconds of CLOCK_MONOTONIC:
 * "i NUMBER TIME" and "a NUMBER TIME" in LOG.THREAD. A server that goes is waited for; the number under way is then entered again.
 *
 * Usage: maria-ledger SOCKET THREADS LOG, until SIGTERM */
#include <inttypes.h>
#include <mysql.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"

static atomic_bool ending;
static const char *server, *log_name;

static MYSQL *connect_again(MYSQL *connection)
{
	unsigned limit = 20;

	if (connection) {
		mysql_close(connection);
		usleep(50000);
	}
	connection = mysql_init(NULL);
	mysql_options(connection, MYSQL_OPT_READ_TIMEOUT, &limit);
	(void)!mysql_real_connect(connection, NULL, "mysql", NULL, "test", 0, server, 0);
	return connection;
}

static bool enter_number(MYSQL *connection, unsigned thread, uint64_t number)
{
	char sql[160];
	int n = snprintf(sql, sizeof sql, "INSERT IGNORE INTO ledger VALUES (%u, %" PRIu64 ")", thread, number);

	return mysql_real_query(connection, sql, (unsigned long)n) == 0;
}

static void *client(void *data)
{
	unsigned thread = (unsigned)(uintptr_t)data;
	MYSQL *connection = connect_again(NULL);
	char name[512];

	snprintf(name, sizeof name, "%s.%u", log_name, thread);
	FILE *file = fopen(name, "we");
	if (!file)
		exit(1);
	setvbuf(file, NULL, _IOLBF, 1 << 16);
	for (uint64_t number = 1; !atomic_load(&ending); number++) {
		fprintf(file, "i %" PRIu64 " %" PRIu64 "\n", number, clock_now());
		bool done = enter_number(connection, thread, number);
		while (!done && !atomic_load(&ending)) {
			connection = connect_again(connection);
			done = enter_number(connection, thread, number);
		}
		if (done)
			fprintf(file, "a %" PRIu64 " %" PRIu64 "\n", number, clock_now());
	}
	fclose(file);
	mysql_close(connection);
	mysql_thread_end();
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t signals;
	int number;

	if (argc != 4 || mysql_library_init(0, NULL, NULL) != 0)
		return 2;
	server = argv[1];
	log_name = argv[3];
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	unsigned n = (unsigned)atoi(argv[2]);
	pthread_t threads[64];
	for (unsigned i = 0; i < n && i < 64; i++)
		if (pthread_create(&threads[i], NULL, client, (void *)(uintptr_t)(i + 1)) != 0)
			return 1;
	puts("READY");
	fflush(stdout);
	sigwait(&signals, &number);
	atomic_store(&ending, true);
	for (unsigned i = 0; i < n && i < 64; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
