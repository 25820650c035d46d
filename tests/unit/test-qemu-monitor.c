/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's monitor, played by a thread that has its words from the test: what is learnt of it, and that nothing waits for ever. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka.h needs the above. */
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/qemu/monitor.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n"
#define DONE "{\"return\": {}}\n"
#define RUNNING "{\"return\": {\"status\": \"running\", \"running\": true}}\n"
#define EVENT "{\"event\": \"RTC_CHANGE\", \"data\": {}}\n"

static char directory[] = "/tmp/test-qemu-monitor.XXXXXX";
static char address[64];

/* Words: what it says when a client comes, and after each of its lines; NULL: hangs up. */
struct monitor {
	pthread_t thread;
	int listener;
	const char *words[5];
	size_t n;
};

static void *play(void *data)
{
	struct monitor *monitor = data;
	char line[4096];
	int client = accept4(monitor->listener, NULL, NULL, SOCK_CLOEXEC);

	for (size_t i = 0; client >= 0 && i < monitor->n && monitor->words[i]; i++) {
		if (i > 0 && recv(client, line, sizeof line, 0) <= 0)
			break;
		for (const char *rest = monitor->words[i]; *rest;) {
			ssize_t sent = send(client, rest, strlen(rest), MSG_NOSIGNAL);
			if (sent <= 0)
				break;
			rest += sent;
		}
	}
	/* One that says no more stays until its client has gone. */
	while (client >= 0 && monitor->n == 5 && recv(client, line, sizeof line, 0) > 0)
		;
	close(client);
	return NULL;
}

static void start(struct monitor *monitor)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	snprintf(name.sun_path, sizeof name.sun_path, "%s", address);
	unlink(address);
	monitor->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(monitor->listener, (struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(listen(monitor->listener, 1), 0);
	assert_int_equal(pthread_create(&monitor->thread, NULL, play, monitor), 0);
}

static void stop(struct monitor *monitor)
{
	shutdown(monitor->listener, SHUT_RDWR);
	pthread_join(monitor->thread, NULL);
	close(monitor->listener);
}

static enum channel_result ask(struct monitor *monitor, bool silent, char status[32], json_t *files, struct err *err)
{
	/* Who never answers is waited for to the end; an answer may take its time on a busy machine. */
	const struct patience patience = { clock_now() + (silent ? USEC_PER_SEC / 2 : 20 * USEC_PER_SEC), -1 };

	start(monitor);
	enum channel_result result = monitor_ask(address, status, files, &patience, err);
	stop(monitor);
	return result;
}

static const char *at(const char *name)
{
	static char paths[8][96];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static int set_up(void **state)
{
	static const char *const names[] = { "top", "base", "data", "medium" };

	if (!mkdtemp(directory))
		return -1;
	snprintf(address, sizeof address, "%s/qmp", directory);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		close(open(at(names[i]), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", directory);
	return system(command);
}

static void every_file_of_every_chain(void **state)
{
	autofree char *blocks = NULL;
	autojson json_t *files = json_array();
	char status[32];
	struct err err = { 0 };

	assert_true(asprintf(&blocks,
			     "{\"return\": [{\"device\": \"\", \"removable\": false, \"inserted\": {\"ro\": false, \"image\": "
			     "{\"filename\": \"%s\", \"format-specific\": {\"type\": \"qcow2\", \"data\": {\"data-file\": \"%s\"}}, "
			     "\"backing-image\": {\"filename\": \"json:{\\\"driver\\\":\\\"file\\\",\\\"filename\\\":\\\"%s\\\"}\"}}}}, "
			     "{\"device\": \"cd\", \"removable\": true, \"inserted\": {\"ro\": true, \"image\": {\"filename\": \"%s\"}}}, "
			     "{\"device\": \"empty\", \"removable\": true}]}\n",
			     at("top"), at("data"), at("base"), at("medium")) > 0);
	/* Events come when they like. */
	struct monitor monitor = { .words = { GREETING EVENT, EVENT DONE, EVENT EVENT RUNNING, NULL }, .n = 4 };
	monitor.words[3] = blocks;
	assert_int_equal(ask(&monitor, false, status, files, &err), CHANNEL_OK);
	assert_string_equal(err.text, "");
	assert_string_equal(status, "running");
	assert_int_equal(json_array_size(files), 3);
	assert_string_equal(json_string_value(json_array_get(files, 0)), at("top"));
	assert_string_equal(json_string_value(json_array_get(files, 1)), at("data"));
	assert_string_equal(json_string_value(json_array_get(files, 2)), at("base"));
}

/* The guest runs, and a part of it is not here: that is told, and the rest is known all the same. */
static void disks_elsewhere_are_told(void **state)
{
	struct monitor monitor = { .words = { GREETING, DONE, RUNNING,
					      "{\"return\": [{\"inserted\": {\"image\": {\"filename\": \"nbd://server/x\"}}}]}\n" },
				   .n = 4 };
	autojson json_t *files = json_array();
	char status[32];
	struct err err = { 0 };

	assert_int_equal(ask(&monitor, false, status, files, &err), CHANNEL_OK);
	assert_non_null(strstr(err.text, "nbd://server/x is no file of this host"));
}

static void nobody_there(void **state)
{
	const struct patience patience = { clock_now() + USEC_PER_SEC, -1 };
	autojson json_t *files = json_array();
	char status[32];
	struct err err = { 0 };

	unlink(address);
	assert_int_equal(monitor_ask(address, status, files, &patience, &err), CHANNEL_ABSENT);
	assert_string_equal(err.text, "");
}

static void strange_ones(void **state)
{
	static char endless[2 << 20];
	static const struct {
		const char *words[4];
		size_t n;
		enum channel_result result;
		const char *said;
	} rows[] = {
		{ { "SSH-2.0-OpenSSH\n" }, 5, CHANNEL_GARBLED, "no JSON" },
		{ { "{\"hello\": 1}\n" }, 5, CHANNEL_GARBLED, "is no QEMU monitor" },
		{ { "" }, 5, CHANNEL_SILENT, "no answer in time" },
		{ { NULL }, 1, CHANNEL_GONE, "hung up" },
		{ { GREETING, "" }, 5, CHANNEL_SILENT, "no answer in time" },
		{ { GREETING, "{\"error\": {\"class\": \"GenericError\"}}\n" }, 5, CHANNEL_GARBLED, "qmp_capabilities was refused" },
		{ { GREETING, DONE, RUNNING, NULL }, 4, CHANNEL_GONE, "hung up" },
		{ { GREETING, endless }, 5, CHANNEL_GARBLED, "longer than 1 MiB" },
	};

	memset(endless, 'x', sizeof endless - 1);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct monitor monitor = { .n = rows[i].n };
		autojson json_t *files = json_array();
		char status[32];
		struct err err = { 0 };
		uint64_t begin = clock_now();
		memcpy(monitor.words, rows[i].words, sizeof rows[i].words);
		assert_int_equal(ask(&monitor, rows[i].result == CHANNEL_SILENT, status, files, &err), rows[i].result);
		if (!strstr(err.text, rows[i].said))
			fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.text, rows[i].said);
		assert_true(clock_now() - begin < 10 * USEC_PER_SEC);
	}
}

/* Whatever shape the answers have. */
static void nonsense_is_survived(void **state)
{
	static const char *const blocks[] = {
		"{\"return\": 7}\n",
		"{\"return\": [7, null, {\"inserted\": 3}, {\"inserted\": {\"image\": []}}]}\n",
		"{\"return\": [{\"inserted\": {\"image\": {\"filename\": 9, \"backing-image\": \"x\"}}}]}\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		struct monitor monitor = { .words = { GREETING, DONE, "{\"return\": []}\n", NULL }, .n = 4 };
		autojson json_t *files = json_array();
		char status[32];
		struct err err = { 0 };
		monitor.words[3] = blocks[i];
		assert_int_equal(ask(&monitor, false, status, files, &err), CHANNEL_OK);
		assert_string_equal(status, "unknown");
		assert_int_equal(json_array_size(files), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_file_of_every_chain), cmocka_unit_test(disks_elsewhere_are_told),
		cmocka_unit_test(nobody_there),		     cmocka_unit_test(strange_ones),
		cmocka_unit_test(nonsense_is_survived),
	};

	return cmocka_run_group_tests_name("qemu-monitor", tests, set_up, tear_down);
}
