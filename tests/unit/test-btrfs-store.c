/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Marks and records need no btrfs: any directory holds a link and a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/btrfs/store.h"

#define COPY "b2014c9e-8711-4c5c-a5a9-3cf384484757"
#define SET "11111111-2222-3333-4444-555555555555"
#define HOST "0123456789abcdef0123456789abcdef"
#define VOLUME "btrfs:f93e9e2a-40b5-4d76-bfbe-284777495602:256"

struct fixture {
	char path[32];
	int place;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memcpy(fixture.path, "/tmp/vssd-test-store.XXXXXX", 28);
	if (!mkdtemp(fixture.path))
		return -1;
	fixture.place = open(fixture.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	unlinkat(fixture->place, VSS_STORE_RECORD, 0);
	unlinkat(fixture->place, MARK_UNFINISHED, 0);
	unlinkat(fixture->place, MARK_SEALED, 0);
	close(fixture->place);
	return rmdir(fixture->path);
}

static void write_record(struct fixture *fixture, const char *text)
{
	autoclose int fd = openat(fixture->place, VSS_STORE_RECORD, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static enum record_state read_back(struct fixture *fixture, struct err *err)
{
	autojson json_t *record = NULL;

	return record_read(fixture->place, COPY, &record, err);
}

static void test_mark_goes_there_and_back(void **state)
{
	struct mark mark, again;

	assert_true(mark_init(&mark, HOST, SET, VOLUME));
	assert_true(mark_parse(&again, HOST "," SET "," VOLUME));
	assert_string_equal(again.host, mark.host);
	assert_string_equal(again.set, mark.set);
	assert_string_equal(again.volume, mark.volume);
}

static void test_mark_refuses_what_is_not_one(void **state)
{
	char longest[400];
	struct mark mark;

	memset(longest, 'a', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	assert_false(mark_init(&mark, "a/b", SET, VOLUME));
	assert_false(mark_init(&mark, "a,b", SET, VOLUME));
	assert_false(mark_init(&mark, longest, SET, VOLUME));
	assert_false(mark_init(&mark, HOST, "set", VOLUME));
	assert_false(mark_init(&mark, HOST, SET, longest));
	assert_false(mark_parse(&mark, ""));
	assert_false(mark_parse(&mark, HOST));
	assert_false(mark_parse(&mark, HOST "," SET));
	assert_false(mark_parse(&mark, HOST "," SET "," VOLUME ",more"));
	assert_false(mark_parse(&mark, "../..," SET "," VOLUME));
	assert_false(mark_parse(&mark, longest));
}

static void test_mark_is_read_from_its_link_only(void **state)
{
	struct fixture *fixture = *state;
	struct mark mark;

	assert_false(mark_read(fixture->place, MARK_UNFINISHED, &mark));
	assert_int_equal(symlinkat(HOST "," SET "," VOLUME, fixture->place, MARK_UNFINISHED), 0);
	assert_true(mark_read(fixture->place, MARK_UNFINISHED, &mark));
	place_mark_sealed(fixture->place);
	assert_false(mark_read(fixture->place, MARK_UNFINISHED, &mark));
	assert_true(mark_read(fixture->place, MARK_SEALED, &mark));
	assert_string_equal(mark.host, HOST);
}

/* A worker that has made the place, and is slow to mark it. */
static pid_t be_slow_to_mark(struct fixture *fixture, int ready)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	int store = open(fixture->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flock(store, LOCK_SH);
	(void)!write(ready, "x", 1);
	usleep(100000);
	_exit(symlinkat(HOST "," SET "," VOLUME, fixture->place, MARK_UNFINISHED));
}

/* Otherwise whoever lists copies at that moment has it removed, as nobody's. */
static void test_place_that_is_being_made_is_not_left_over(void **state)
{
	struct fixture *fixture = *state;
	struct mark mark = { .host = "" };
	int ready[2], status = -1;
	char byte;

	assert_false(place_is_being_made(fixture->place, fixture->place, &mark));
	assert_int_equal(pipe(ready), 0);
	pid_t pid = be_slow_to_mark(fixture, ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_true(place_is_being_made(fixture->place, fixture->place, &mark));
	assert_string_equal(mark.set, SET);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
}

static void test_record_goes_there_and_back(void **state)
{
	struct fixture *fixture = *state;
	autojson json_t *record = json_pack("{s:s}", "Note", "caf\xc3\xa9"), *again = NULL;
	struct err err = { 0 };
	autoclose int fd = record_write(fixture->place, COPY, record, &err);

	assert_true(fd >= 0);
	assert_int_equal(record_read(fixture->place, COPY, &again, &err), RECORD_VALID);
	assert_true(json_equal(record, again));
	assert_int_equal(record_write(fixture->place, COPY, record, &err), -1); /* never over another */
}

static void test_record_too_large(void **state)
{
	struct fixture *fixture = *state;
	autofree char *text = malloc(RECORD_SIZE_MAX + 1);
	struct err err = { 0 };

	memset(text, 'x', RECORD_SIZE_MAX);
	text[RECORD_SIZE_MAX] = '\0';
	autojson json_t *record = json_pack("{s:s}", "Note", text);
	assert_int_equal(record_write(fixture->place, COPY, record, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	assert_int_equal(read_back(fixture, &err), RECORD_ABSENT);
}

static void test_broken_records(void **state)
{
	static const char *const broken[] = {
		"",
		"{",
		"5",
		"[]",
		"{}",
		"{\"Copy\":\"" COPY "\"}",
		"{\"Copy\":\"" COPY "\",\"Record\":5}",
		"{\"Copy\":\"" SET "\",\"Record\":{}}",
		"{\"Copy\":5,\"Record\":{}}",
		"{\"Copy\":\"" COPY "\",\"Copy\":\"" SET "\",\"Record\":{}}",
		"{\"Copy\":\"" COPY "\",\"Record\":{}}}",
		"{\"Copy\":\"" COPY "\",\"Record\":{\"a\":\"\xff\"}}",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct err err = { 0 };
		write_record(fixture, broken[i]);
		assert_int_equal(read_back(fixture, &err), RECORD_BROKEN);
		assert_int_equal(err.code, VSS_E_INVALID_DOCUMENT);
	}
	write_record(fixture, "{\"Copy\":\"" COPY "\",\"Record\":{}}");
	assert_int_equal(read_back(fixture, NULL), RECORD_VALID);
}

static void test_record_is_no_other_kind_of_file(void **state)
{
	struct fixture *fixture = *state;
	struct err err = { 0 };

	assert_int_equal(symlinkat("/etc/passwd", fixture->place, VSS_STORE_RECORD), 0);
	assert_int_equal(read_back(fixture, &err), RECORD_BROKEN);
	unlinkat(fixture->place, VSS_STORE_RECORD, 0);
	assert_int_equal(mkfifoat(fixture->place, VSS_STORE_RECORD, 0600), 0);
	assert_int_equal(read_back(fixture, &err), RECORD_BROKEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark_goes_there_and_back),
		cmocka_unit_test(test_mark_refuses_what_is_not_one),
		cmocka_unit_test_setup_teardown(test_mark_is_read_from_its_link_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_place_that_is_being_made_is_not_left_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record_goes_there_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record_is_no_other_kind_of_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
