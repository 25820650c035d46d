/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker that does what its requests' op says, good or bad; for test-workers.c. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/frame.h"

#define SOCKET 3

static void answer_with(json_t *answer, const int *fds, size_t n_fds)
{
	struct frame frame;

	if (frame_init(&frame, answer, fds, n_fds, NULL) == 0)
		frame_send(&frame, SOCKET, NULL);
	frame_done(&frame);
	json_decref(answer);
}

static void answer_ok(const char *key, json_t *value)
{
	answer_with(json_pack("{sb so}", "ok", 1, key, value), NULL, 0);
}

static void send_raw(const char *bytes, size_t size, uint32_t announced)
{
	uint32_t header = announced;

	(void)!write(SOCKET, &header, sizeof header);
	(void)!write(SOCKET, bytes, size);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -1; /* the directory's own */

	for (struct dirent *e; dir && (e = readdir(dir));)
		n += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

static int count_blocked_signals(void)
{
	sigset_t mask;
	int n = 0;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int s = 1; s < 32; s++)
		n += sigismember(&mask, s) == 1;
	return n + (signal(SIGPIPE, SIG_DFL) == SIG_IGN);
}

static void echo(json_t *request, struct frame *frame)
{
	answer_with(json_pack("{sb so so}", "ok", 1, "request", json_deep_copy(request), "pid", json_integer(getpid())),
		    frame->fds, frame->n_fds);
}

/* A child that outlives its worker, with the worker's socket. */
static void start_helper(void)
{
	if (fork() == 0) {
		pause();
		_exit(0);
	}
}

static void be_bad(const char *op)
{
	if (strcmp(op, "hang") == 0)
		pause();
	if (strcmp(op, "die") == 0)
		raise(SIGUSR1); /* not what a sanitizer would catch */
	if (strcmp(op, "exit") == 0)
		_exit(3);
	if (strcmp(op, "close") == 0) {
		close(SOCKET);
		pause();
	}
	if (strcmp(op, "text") == 0)
		send_raw("this is not JSON", 16, 16);
	if (strcmp(op, "no-answer") == 0)
		send_raw("[1,2]", 5, 5);
	if (strcmp(op, "half") == 0) {
		send_raw("{\"ok\":", 6, 100);
		_exit(0);
	}
	if (strcmp(op, "huge") == 0) {
		(void)!write(SOCKET, "\xff\xff\xff\x7f", 4);
		pause();
	}
	if (strcmp(op, "helper-die") == 0) {
		start_helper();
		_exit(4);
	}
}

static void fail(void)
{
	answer_with(json_pack("{sb s{ss ss}}", "ok", 0, "error", "Name", "VolumeInUse", "Text", "/srv is in use"), NULL, 0);
}

static void serve(struct frame *frame)
{
	json_t *request = frame->value;
	const char *op = json_string_value(json_object_get(request, "op"));

	be_bad(op);
	if (strcmp(op, "echo") == 0) {
		echo(request, frame);
	} else if (strcmp(op, "fail") == 0) {
		fail();
	} else if (strcmp(op, "fail-oddly") == 0) {
		answer_with(json_pack("{sb}", "ok", 0), NULL, 0);
	} else if (strcmp(op, "slow") == 0) {
		usleep((useconds_t)json_integer_value(json_object_get(request, "ms")) * 1000);
		answer_ok("slow", json_true());
	} else if (strcmp(op, "print") == 0) {
		printf("a library speaks on standard output\n");
		fflush(stdout);
		answer_ok("printed", json_true());
	} else if (strcmp(op, "twice") == 0) {
		answer_ok("number", json_integer(1));
		answer_ok("number", json_integer(2));
	} else if (strcmp(op, "last") == 0) {
		answer_ok("last", json_true());
		_exit(0);
	} else if (strcmp(op, "state") == 0) {
		answer_with(json_pack("{sb si si si}", "ok", 1, "fds", count_fds(), "signals", count_blocked_signals(),
				      "leader", getpgrp() == getpid()),
			    NULL, 0);
	} else if (strcmp(op, "many-fds") == 0) {
		int fds[64];
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			fds[i] = memfd_create("copy", 0);
		answer_with(json_pack("{sb}", "ok", 1), fds, ARRAY_SIZE(fds));
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			close(fds[i]);
	}
}

int main(int argc, char **argv)
{
	struct frame frame = { 0 };

	if (argc < 2 || strcmp(argv[1], "stillborn") == 0)
		return 2;
	while (frame_receive(&frame, SOCKET, NULL) > 0) {
		serve(&frame);
		frame_done(&frame);
	}
	return 0;
}
