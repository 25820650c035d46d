/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/ledger/client.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"

#define THREADS_MAX 64
#define PATIENCE 50000 /* usec, before a server that went is asked again */

static atomic_bool ending;
static const struct ledger_database *database;
static const char *server, *log_name;

static void *enter_surely(void *connection, unsigned thread, uint64_t number, bool *ret_done)
{
	*ret_done = database->enter(connection, thread, number);
	while (!*ret_done && !atomic_load(&ending)) {
		database->close(connection);
		usleep(PATIENCE);
		connection = database->connect(server);
		*ret_done = database->enter(connection, thread, number);
	}
	return connection;
}

static void *client(void *data)
{
	unsigned thread = (unsigned)(uintptr_t)data;
	void *connection = database->connect(server);
	char name[512];
	bool done;

	snprintf(name, sizeof name, "%s.%u", log_name, thread);
	FILE *file = fopen(name, "we");
	if (!file)
		exit(1);
	setvbuf(file, NULL, _IOLBF, 1 << 16);
	for (uint64_t number = 1; !atomic_load(&ending); number++) {
		fprintf(file, "i %" PRIu64 " %" PRIu64 "\n", number, clock_now());
		connection = enter_surely(connection, thread, number, &done);
		if (done)
			fprintf(file, "a %" PRIu64 " %" PRIu64 "\n", number, clock_now());
		if (database->rest)
			usleep(database->rest);
	}
	fclose(file);
	database->close(connection);
	return NULL;
}

int ledger_client(const struct ledger_database *which, int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];
	sigset_t signals;
	int number;

	if (argc != 4)
		return 2;
	database = which;
	server = argv[1];
	log_name = argv[3];
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	unsigned n = (unsigned)atoi(argv[2]);
	for (unsigned i = 0; i < n && i < THREADS_MAX; i++)
		if (pthread_create(&threads[i], NULL, client, (void *)(uintptr_t)(i + 1)) != 0)
			return 1;
	puts("READY");
	fflush(stdout);
	sigwait(&signals, &number);
	atomic_store(&ending, true);
	for (unsigned i = 0; i < n && i < THREADS_MAX; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
