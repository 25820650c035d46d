/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/ini.h"

/* What was read, one "[section]key=value|" after the other. */
struct log {
	char text[512];
	const char *refuse; /* a key at which the callback fails */
};

static int note(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	struct log *log = data;
	size_t n = strlen(log->text);

	if (log->refuse && strcmp(key, log->refuse) == 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s is not wanted", key);
	snprintf(log->text + n, sizeof log->text - n, "[%s]%s=%s|", section, key, value);
	return 0;
}

static int read_bytes(const void *bytes, size_t size, struct log *log, struct err *err)
{
	autoclose int fd = memfd_create("ini", MFD_CLOEXEC);

	assert_int_equal(write(fd, bytes, size), size);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return ini_read(fd, "test.ini", note, log, err);
}

static void expect(const char *text, const char *read)
{
	struct log log = { 0 };
	struct err err = { 0 };

	if (read_bytes(text, strlen(text), &log, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(log.text, read);
}

static void expect_error(const char *text, const char *error)
{
	struct log log = { .refuse = "Bad" };
	struct err err = { 0 };

	assert_int_equal(read_bytes(text, strlen(text), &log, &err), -1);
	if (strncmp(err.text, error, strlen(error)) != 0)
		fail_msg("'%s' is not '%s'", err.text, error);
}

static void reads_the_dialect(void **state)
{
	expect("", "");
	expect("[A]\nx=1\n", "[A]x=1|");
	expect("[A]\nx=1", "[A]x=1|");
	expect("\n# comment\n; comment\n[A]\n  x  =  1 2  \n\n[B]\ny=\n", "[A]x=1 2|[B]y=|");
	expect("[A]\r\nx=1\r\n", "[A]x=1|");
	expect("[A]\nx=a=b # not a comment\n", "[A]x=a=b # not a comment|");
	expect("[A]\nName=Größe \xF0\x9F\x92\xBE\n", "[A]Name=Größe \xF0\x9F\x92\xBE|");
}

static void names_file_and_line_of_errors(void **state)
{
	expect_error("[A]\nx\n", "test.ini:2: ");
	expect_error("x=1\n", "test.ini:1: ");
	expect_error("[A]\n=1\n", "test.ini:2: ");
	expect_error("[A\n", "test.ini:1: ");
	expect_error("[]\n", "test.ini:1: ");
	expect_error("[A]\n\nBad=1\n", "test.ini:3: Bad is not wanted");
	expect_error("[A]\nx=\xFF\n", "test.ini:2: ");
	expect_error("[A]\nx=\xC0\x80\n", "test.ini:2: ");
	expect_error("[A]\nx=\xED\xA0\x80\n", "test.ini:2: ");
	expect_error("[A]\nx=\xF4\x90\x80\x80\n", "test.ini:2: ");
	expect_error("[A]\nx=\xC3", "test.ini:2: ");
}

static void stops_at_the_first_error(void **state)
{
	const char *text = "[A]\na=1\nBad=1\nb=1\n";
	struct log log = { .refuse = "Bad" };
	struct err err = { 0 };

	assert_int_equal(read_bytes(text, strlen(text), &log, &err), -1);
	assert_int_equal(err.code, VSS_E_INVALID_ARGUMENT);
	assert_string_equal(log.text, "[A]a=1|");
}

static void refuses_what_is_no_text(void **state)
{
	struct log log = { 0 };
	struct err err = { 0 };

	assert_int_equal(read_bytes("[A]\nx=1\0y=2\n", 12, &log, &err), -1);
	assert_int_equal(err.code, VSS_E_INVALID_DOCUMENT);
	assert_string_equal(log.text, "");
	assert_int_equal(ini_read(-1, "test.ini", note, &log, &err), -1);
}

static void size_is_bounded(void **state)
{
	size_t size = 64u << 10;
	autofree char *text = malloc(size + 1);
	struct log log = { 0 };
	struct err err = { 0 };

	memset(text, '\n', size + 1);
	memcpy(text, "[A]\nx=1", 7);
	assert_int_equal(read_bytes(text, size, &log, &err), 0);
	assert_string_equal(log.text, "[A]x=1|");
	assert_int_equal(read_bytes(text, size + 1, &log, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_dialect),
		cmocka_unit_test(names_file_and_line_of_errors),
		cmocka_unit_test(stops_at_the_first_error),
		cmocka_unit_test(refuses_what_is_no_text),
		cmocka_unit_test(size_is_bounded),
	};

	return cmocka_run_group_tests_name("ini", tests, NULL, NULL);
}
