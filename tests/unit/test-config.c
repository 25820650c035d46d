/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/config.h"

#define LINE(text) "[Coordinator]\n" text "\n"

struct fixture {
	char path[32];
	struct config config;
	struct err err;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ .path = "/tmp/vssd-test.XXXXXX" };
	int fd = mkostemp(f.path, O_CLOEXEC);
	if (fd < 0)
		return -1;
	close(fd);
	config_defaults(&f.config);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	return 0;
}

static int read_text(struct fixture *f, const char *text)
{
	FILE *out = fopen(f->path, "we");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	f->err = (struct err){ 0 };
	return config_read(&f->config, f->path, &f->err);
}

static void defaults_are_those_documented(void **state)
{
	struct config c;

	config_defaults(&c);
	assert_int_equal(c.idle_timeout, 180 * USEC_PER_SEC);
	assert_int_equal(c.max_sessions, 64);
	assert_int_equal(c.max_volumes, 64);
	assert_int_equal(c.max_writers, 4096);
	assert_int_equal(c.prepare_backup, 600 * USEC_PER_SEC);
	assert_int_equal(c.prepare_snapshot, 600 * USEC_PER_SEC);
	assert_int_equal(c.freeze, 60 * USEC_PER_SEC);
	assert_int_equal(c.probe, 2 * USEC_PER_SEC);
	assert_int_equal(c.cut, 10 * USEC_PER_SEC);
	assert_int_equal(c.remove_copies, 300 * USEC_PER_SEC);
	assert_int_equal(c.max_copies, 512);
}

/* The example that is installed must say what is true. */
static void shipped_example_says_the_defaults(void **state)
{
	struct fixture *f = *state;
	struct config defaults = f->config;
	char text[8192] = "", shown[8192], *to = shown;
	FILE *in = fopen(getenv("VSSD_CONF"), "re");

	assert_non_null(in);
	assert_true(fread(text, 1, sizeof text - 1, in) > 0);
	fclose(in);
	assert_int_equal(read_text(f, text), 0);
	for (char *c = text; *c; c++) /* comments in the settings, but for MachineId, which has no default to show */
		if (!(*c == '#' && c[1] >= 'A' && c[1] <= 'Z' && strncmp(c + 1, "MachineId", 9) != 0))
			*to++ = *c;
	*to = '\0';
	memset(&f->config, 0xAA, sizeof f->config);
	if (read_text(f, shown) < 0)
		fail_msg("%s", f->err.text);
	memcpy(f->config.machine_id, defaults.machine_id, sizeof defaults.machine_id);
	assert_int_equal(f->config.idle_timeout, defaults.idle_timeout);
	assert_int_equal(f->config.max_writers, defaults.max_writers);
	assert_memory_equal(&f->config.identify, &defaults.identify,
			    offsetof(struct config, max_copies) - offsetof(struct config, identify));
	assert_int_equal(f->config.max_copies, defaults.max_copies);
}

static void missing_file_is_no_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(config_read(&f->config, "/nonexistent/vssd.conf", &f->err), 0);
	assert_int_equal(f->config.max_sessions, 64);
}

static void reads_values(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "[Coordinator]\nIdleTimeoutSec=0\nMaxSessions=3\nMaxWriters=65536\n"
				      "[Limits]\nFreeze=500ms\nPrepareBackup=2min\nWait=0\nRemoveCopies=1h\n"
				      "[Copies]\nMaxCopiesPerVolume=1\n"),
			 0);
	assert_int_equal(f->config.idle_timeout, USEC_INFINITY);
	assert_int_equal(f->config.max_sessions, 3);
	assert_int_equal(f->config.max_writers, 65536);
	assert_int_equal(f->config.freeze, 500 * USEC_PER_MSEC);
	assert_int_equal(f->config.prepare_backup, 120 * USEC_PER_SEC);
	assert_int_equal(f->config.wait, 0);
	assert_int_equal(f->config.remove_copies, 3600 * USEC_PER_SEC);
	assert_int_equal(f->config.max_copies, 1);
	assert_int_equal(f->config.event, 60 * USEC_PER_SEC);
}

static void an_error_names_the_place_and_changes_nothing(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ LINE("MaxSessions=0"), "MaxSessions=0" },      { LINE("MaxSessions=-1"), "MaxSessions=-1" },
		{ LINE("MaxSessions=many"), "MaxSessions=many" }, { LINE("MaxSessions=1x"), "MaxSessions=1x" },
		{ LINE("MaxSessions=99999999999999999999"), "a number from 1 to" },
		{ LINE("Nonsense=1"), "\"Nonsense\"" },          { "[Nonsense]\nx=1\n", "[Nonsense]" },
		{ "[Limits]\nFreeze=61\n", "Freeze=61" },        { "[Limits]\nFreeze=0\n", "Freeze=0" },
		{ "[Limits]\nFreeze=soon\n", "Freeze=soon" },    { "[Limits]\nMaxSessions=1\n", "\"MaxSessions\"" },
	};
	struct fixture *f = *state;
	struct config before = f->config;
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(text, sizeof text, "[Limits]\nEvent=7\n%s", rows[i].text);
		assert_int_equal(read_text(f, text), -1);
		if (!strstr(f->err.text, rows[i].says) || strncmp(f->err.text, f->path, strlen(f->path)) != 0 ||
		    !strstr(f->err.text, ":4: "))
			fail_msg("%s", f->err.text);
		assert_memory_equal(&f->config, &before, sizeof before);
	}
}

static void unreadable_file_is_an_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(config_read(&f->config, "/tmp", &f->err), -1);
	assert_non_null(strstr(f->err.text, "/tmp"));
}

static void spans_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t usec;
	} good[] = { { "90", 90 * USEC_PER_SEC },   { "90s", 90 * USEC_PER_SEC },  { "90 s", 90 * USEC_PER_SEC },
		     { "90sec", 90 * USEC_PER_SEC }, { "500ms", 500000 },           { "7us", 7 },
		     { "2min", 120 * USEC_PER_SEC }, { "1h", 3600 * USEC_PER_SEC }, { "0", 0 },
		     { "1d", 86400 * USEC_PER_SEC } };
	static const char *const bad[] = { "", " ", "s", "-1", "+1", " 1", "1 ", "1x", "1.5s", "0x10", "1s1", "1m",
					   "18446744073709551615", "18446744073709551616", "99999999999999d" };
	uint64_t usec;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(config_parse_usec(good[i].text, &usec), 0);
		assert_int_equal(usec, good[i].usec);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (config_parse_usec(bad[i], &usec) == 0)
			fail_msg("'%s' was taken", bad[i]);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(defaults_are_those_documented),
		test(shipped_example_says_the_defaults),
		test(missing_file_is_no_error),
		test(reads_values),
		test(an_error_names_the_place_and_changes_nothing),
		test(unreadable_file_is_an_error),
		test(spans_as_people_write_them),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
