/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log never blocks: stderr is a pipe here that nobody reads until the test does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/names.h"
#include "coordinator/log.h"

static struct {
	int stderr_before, reader;
} io;

static int setup(void **state)
{
	int fds[2];

	unsetenv("JOURNAL_STREAM");
	unsetenv(VSS_ENV_DEBUG);
	io.stderr_before = dup(STDERR_FILENO);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	dup2(fds[1], STDERR_FILENO); /* blocking on purpose: the log has to ask before it writes */
	close(fds[1]);
	io.reader = fds[0];
	fcntl(io.reader, F_SETFL, O_NONBLOCK);
	return 0;
}

static int teardown(void **state)
{
	dup2(io.stderr_before, STDERR_FILENO);
	close(io.stderr_before);
	close(io.reader);
	return 0;
}

static char *drain(void)
{
	static char text[4u << 20];
	size_t used = 0;
	ssize_t n;

	do {
		log_flush();
		n = read(io.reader, text + used, sizeof text - 1 - used);
		used += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	text[used] = '\0';
	return text;
}

static void a_line_is_a_line(void **state)
{
	log_info("hello %d", 42);
	assert_string_equal(drain(), "hello 42\n");
	log_info("one\ntwo\tthree\r\x1b[31m\x7f");
	assert_string_equal(drain(), "one two three  [31m \n");
}

static void long_lines_are_cut(void **state)
{
	char text[5000];
	char *line;

	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = '\0';
	log_info("%s", text);
	line = drain();
	assert_int_equal(strlen(line), 1023);
	assert_int_equal(line[1022], '\n');
	memset(text, 0xC3, sizeof text); /* cut between the bytes of a character, not inside */
	for (size_t i = 1; i < sizeof text - 1; i += 2)
		text[i] = (char)0xA9;
	text[sizeof text - 2] = '\0';
	log_info("%s", text);
	line = drain();
	assert_int_equal((strlen(line) - 1) % 2, 0);
}

static void levels_for_the_journal(void **state)
{
	setenv("JOURNAL_STREAM", "8:1", true);
	log_error("bad");
	log_warning("hm");
	assert_string_equal(drain(), "<3>bad\n<4>hm\n");
}

static void debug_only_if_wanted(void **state)
{
	log_line(LOG_LEVEL_DEBUG, "secret");
	assert_string_equal(drain(), "");
	setenv(VSS_ENV_DEBUG, "1", true);
	log_line(LOG_LEVEL_DEBUG, "shown");
	assert_string_equal(drain(), "shown\n");
}

/* More than pipe and ring hold: nothing blocks, the newest lines survive, the lost ones are counted. */
static void never_blocks(void **state)
{
	uint64_t began = clock_now();
	unsigned long lost = 0;
	int first = -1, expected = -1, n;
	const char *text;

	for (int i = 0; i < 20000; i++)
		log_info("line %d of a flood that nobody reads", i);
	assert_true(clock_now() - began < 20 * USEC_PER_SEC);
	text = drain();
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		const char *number = *line == '<' ? strchr(line, '>') + 1 : line;
		if (sscanf(line, "line %d of a flood", &n) == 1) {
			assert_true(expected < 0 || n == expected || lost > 0);
			first = first < 0 ? n : first;
			expected = n + 1;
		} else {
			assert_int_equal(sscanf(number, "%lu lines of the log were lost", &lost), 1);
		}
	}
	assert_int_equal(first, 0);
	assert_int_equal(expected, 20000); /* the newest one came through */
	assert_true(lost > 1000 && lost < 20000);
	log_info("after it");
	assert_string_equal(drain(), "after it\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(a_line_is_a_line), TEST(long_lines_are_cut), TEST(levels_for_the_journal),
					    TEST(debug_only_if_wanted), TEST(never_blocks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
