/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/frame.h"

struct pair {
	int a, b;
	int fds_before;
};

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));)
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static int setup(void **state)
{
	static struct pair pair;
	int ends[2];

	pair.fds_before = count_fds();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -1;
	pair.a = ends[0];
	pair.b = ends[1];
	*state = &pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	if (pair->a >= 0)
		close(pair->a);
	close(pair->b);
	assert_int_equal(count_fds(), pair->fds_before);
	return 0;
}

static void send_value(int fd, json_t *value, const int *fds, size_t n)
{
	struct frame frame;
	struct err err = { 0 };

	assert_int_equal(frame_init(&frame, value, fds, n, &err), 0);
	assert_int_equal(frame_send(&frame, fd, &err), 1);
	frame_done(&frame);
	json_decref(value);
}

static void put_bytes(int fd, const void *bytes, size_t size)
{
	assert_int_equal(write(fd, bytes, size), size);
}

static void expect_error(int fd, enum vss_error code)
{
	struct frame frame = { 0 };
	struct err err = { 0 };

	assert_int_equal(frame_receive(&frame, fd, &err), -1);
	assert_int_equal(err.code, code);
	assert_true(*err.text);
	frame_done(&frame);
}

static void values_of_every_kind_pass(void **state)
{
	struct pair *pair = *state;
	const char *texts[] = { "{}", "[]", "0", "\"x\"", "null", "true", "{\"a\":[1,2,{\"b\":\"ü\"}],\"c\":1.5}" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct frame frame = { 0 };
		autojson json_t *value = json_loads(texts[i], JSON_DECODE_ANY, NULL);
		send_value(pair->a, json_incref(value), NULL, 0);
		assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
		assert_true(json_equal(frame.value, value));
		frame_done(&frame);
	}
}

static void several_frames_lie_behind_each_other(void **state)
{
	struct pair *pair = *state;

	for (int i = 0; i < 10; i++)
		send_value(pair->a, json_integer(i), NULL, 0);
	for (int i = 0; i < 10; i++) {
		struct frame frame = { 0 };
		assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
		assert_int_equal(json_integer_value(frame.value), i);
		frame_done(&frame);
	}
}

static void arrives_byte_by_byte(void **state)
{
	struct pair *pair = *state;
	const char *text = "{\"key\":\"value\"}";
	uint32_t length = (uint32_t)strlen(text);
	char wire[64];
	struct frame frame = { 0 };

	memcpy(wire, &length, sizeof length);
	memcpy(wire + sizeof length, text, length);
	for (size_t i = 0; i < sizeof length + length; i++) {
		assert_int_equal(frame_receive(&frame, pair->b, NULL), 0);
		put_bytes(pair->a, wire + i, 1);
	}
	assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
	assert_string_equal(json_string_value(json_object_get(frame.value, "key")), "value");
	frame_done(&frame);
}

static void large_ones_go_piece_by_piece_with_descriptors(void **state)
{
	struct pair *pair = *state;
	size_t size = FRAME_SIZE_MAX - 2;
	autofree char *text = malloc(size + 1);
	autojson json_t *value = NULL;
	autoclose int fd = memfd_create("x", MFD_CLOEXEC);
	struct frame out, in = { 0 };
	struct stat sent, received;
	int r = 0;

	memset(text, 'x', size);
	text[size] = '\0';
	value = json_string(text);
	assert_int_equal(frame_init(&out, value, &fd, 1, NULL), 0);
	assert_int_equal(frame_send(&out, pair->a, NULL), 0);
	while (r == 0) {
		assert_true(frame_send(&out, pair->a, NULL) >= 0);
		r = frame_receive(&in, pair->b, NULL);
	}
	assert_int_equal(r, 1);
	assert_int_equal(json_string_length(in.value), size);
	assert_int_equal(in.n_fds, 1);
	fstat(fd, &sent);
	fstat(in.fds[0], &received);
	assert_int_equal(sent.st_ino, received.st_ino);
	frame_done(&out);
	frame_done(&in);
}

static void most_descriptors_pass_and_more_are_refused(void **state)
{
	struct pair *pair = *state;
	autojson json_t *value = json_true();
	int fds[FRAME_FDS_MAX + 1];
	struct frame frame = { 0 };
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = STDIN_FILENO;
	send_value(pair->a, json_true(), fds, FRAME_FDS_MAX);
	assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
	assert_int_equal(frame.n_fds, FRAME_FDS_MAX);
	assert_true(fcntl(frame.fds[FRAME_FDS_MAX - 1], F_GETFD) & FD_CLOEXEC);
	frame_done(&frame);
	assert_int_equal(frame_init(&frame, value, fds, FRAME_FDS_MAX + 1, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	frame_done(&frame);
}

static void too_many_descriptors_from_a_peer_are_closed(void **state)
{
	struct pair *pair = *state;
	struct frame frame = { 0 };
	union {
		char space[CMSG_SPACE(sizeof(int[FRAME_FDS_MAX]))];
		struct cmsghdr align;
	} control = { .align = { CMSG_LEN(sizeof(int[FRAME_FDS_MAX])), SOL_SOCKET, SCM_RIGHTS } };
	const char *pieces[] = { "\4\0\0\0", "true" };

	/* Stdin, again and again, with both pieces: 256 in one frame. */
	memset(CMSG_DATA(&control.align), 0, sizeof(int[FRAME_FDS_MAX]));
	for (size_t i = 0; i < 2; i++) {
		struct iovec data = { (char *)pieces[i], 4 };
		struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
					  .msg_controllen = sizeof control };
		assert_int_equal(sendmsg(pair->a, &message, 0), 4);
	}
	assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
	assert_int_equal(frame.n_fds, FRAME_FDS_MAX);
	frame_done(&frame);
}

static void descriptor_that_is_kept_stays_open(void **state)
{
	struct pair *pair = *state;
	struct frame frame = { 0 };
	int kept;

	send_value(pair->a, json_true(), (int[]){ 0, 0 }, 2);
	assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
	kept = steal_fd(frame.fds[1]);
	frame_done(&frame);
	assert_true(fcntl(kept, F_GETFD) >= 0);
	close(kept);
}

static void sizes_beyond_the_limit_are_refused(void **state)
{
	struct pair *pair = *state;
	autofree char *text = malloc(FRAME_SIZE_MAX + 1);
	autojson json_t *value = NULL;
	struct frame frame;
	struct err err = { 0 };

	memset(text, 'x', FRAME_SIZE_MAX);
	text[FRAME_SIZE_MAX] = '\0';
	value = json_string(text);
	assert_int_equal(frame_init(&frame, value, NULL, 0, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	frame_done(&frame);
	put_bytes(pair->a, &(uint32_t){ FRAME_SIZE_MAX + 1 }, 4);
	expect_error(pair->b, VSS_E_LIMITS_EXCEEDED);
	put_bytes(pair->a, &(uint32_t){ UINT32_MAX }, 4);
	expect_error(pair->b, VSS_E_LIMITS_EXCEEDED);
	put_bytes(pair->a, &(uint32_t){ 0 }, 4);
	expect_error(pair->b, VSS_E_LIMITS_EXCEEDED);
}

static void malformed_text_is_refused_and_the_stream_goes_on(void **state)
{
	struct pair *pair = *state;
	const char *texts[] = { "{", "[1,", "nope", "{}x", "\"\xff\"", "{\"a\":1,\"a\":", "\0\0\0" };
	struct frame frame = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		uint32_t length = i + 1 == ARRAY_SIZE(texts) ? 3 : (uint32_t)strlen(texts[i]);
		put_bytes(pair->a, &length, sizeof length);
		put_bytes(pair->a, texts[i], length);
		expect_error(pair->b, VSS_E_INVALID_DOCUMENT);
	}
	send_value(pair->a, json_true(), NULL, 0);
	assert_int_equal(frame_receive(&frame, pair->b, NULL), 1);
	frame_done(&frame);
}

static void deep_nesting_is_refused(void **state)
{
	struct pair *pair = *state;
	char text[8192];
	uint32_t length = sizeof text;

	memset(text, '[', sizeof text);
	put_bytes(pair->a, &length, sizeof length);
	put_bytes(pair->a, text, sizeof text);
	expect_error(pair->b, VSS_E_INVALID_DOCUMENT);
}

static void end_of_the_peer_is_told(void **state)
{
	struct pair *pair = *state;
	struct frame frame;
	struct err err = { 0 };
	autojson json_t *value = json_true();

	put_bytes(pair->a, "\10\0\0\0half", 8);
	close(steal_fd(pair->a));
	expect_error(pair->b, VSS_E_UNEXPECTED);
	assert_int_equal(frame_init(&frame, value, NULL, 0, NULL), 0);
	assert_int_equal(frame_send(&frame, pair->b, &err), -1); /* EPIPE, not a signal */
	frame_done(&frame);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(values_of_every_kind_pass),
		test(several_frames_lie_behind_each_other),
		test(arrives_byte_by_byte),
		test(large_ones_go_piece_by_piece_with_descriptors),
		test(most_descriptors_pass_and_more_are_refused),
		test(too_many_descriptors_from_a_peer_are_closed),
		test(descriptor_that_is_kept_stays_open),
		test(sizes_beyond_the_limit_are_refused),
		test(malformed_text_is_refused_and_the_stream_goes_on),
		test(deep_nesting_is_refused),
		test(end_of_the_peer_is_told),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
