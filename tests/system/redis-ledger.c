/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client that knows what a Redis server has promised it: THREADS connections enter numbers, each its own from 1 on, into the
 * sorted set ledger:THREAD, and note when each was issued and when it was acknowledged, in microseconds of CLOCK_MONOTONIC:
 * "i NUMBER TIME" and "a NUMBER TIME" in LOG.THREAD. A server that goes is waited for; the number under way is then entered
 * again.
 *
 * Usage: redis-ledger SOCKET THREADS LOG, until SIGTERM */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"

static atomic_bool ending;
static const char *socket_name, *log_name;

static redisContext *connect_again(redisContext *context)
{
	const struct timeval limit = { 1, 0 };

	if (context)
		redisFree(context);
	usleep(50000);
	context = redisConnectUnixWithTimeout(socket_name, limit);
	if (context)
		redisSetTimeout(context, limit);
	return context;
}

static bool enter_number(redisContext *context, unsigned thread, uint64_t number)
{
	redisReply *reply =
		context && !context->err ? redisCommand(context, "ZADD ledger:%u %" PRIu64 " %" PRIu64, thread, number, number) : NULL;
	bool done = reply && reply->type == REDIS_REPLY_INTEGER;

	freeReplyObject(reply);
	return done;
}

static void *client(void *data)
{
	unsigned thread = (unsigned)(uintptr_t)data;
	redisContext *context = connect_again(NULL);
	char name[512];

	snprintf(name, sizeof name, "%s.%u", log_name, thread);
	FILE *file = fopen(name, "we");
	if (!file)
		exit(1);
	setvbuf(file, NULL, _IOLBF, 1 << 16);
	for (uint64_t number = 1; !atomic_load(&ending); number++) {
		fprintf(file, "i %" PRIu64 " %" PRIu64 "\n", number, clock_now());
		bool done = enter_number(context, thread, number);
		while (!done && !atomic_load(&ending)) {
			context = connect_again(context);
			done = enter_number(context, thread, number);
		}
		if (done)
			fprintf(file, "a %" PRIu64 " %" PRIu64 "\n", number, clock_now());
		usleep(200);
	}
	fclose(file);
	if (context)
		redisFree(context);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t signals;
	int number;

	if (argc != 4)
		return 2;
	socket_name = argv[1];
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
