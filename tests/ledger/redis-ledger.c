/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger client (client.h) of Redis: enters each number into the sorted set ledger:THREAD.
 * Usage: redis-ledger SOCKET THREADS LOG */
#include <hiredis/hiredis.h>
#include <inttypes.h>

#include "tests/ledger/client.h"

static void *connect_to(const char *socket)
{
	const struct timeval limit = { 1, 0 };
	redisContext *context = redisConnectUnixWithTimeout(socket, limit);

	if (context)
		redisSetTimeout(context, limit);
	return context;
}

static bool enter_number(void *connection, unsigned thread, uint64_t number)
{
	redisContext *context = connection;
	redisReply *reply =
		context && !context->err ? redisCommand(context, "ZADD ledger:%u %" PRIu64 " %" PRIu64, thread, number, number) : NULL;
	bool done = reply && reply->type == REDIS_REPLY_INTEGER;

	freeReplyObject(reply);
	return done;
}

static void finish(void *connection)
{
	if (connection)
		redisFree(connection);
}

int main(int argc, char **argv)
{
	static const struct ledger_database redis = { .connect = connect_to, .enter = enter_number, .close = finish, .rest = 200 };

	return ledger_client(&redis, argc, argv);
}
