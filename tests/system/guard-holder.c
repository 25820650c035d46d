/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holds filesystems through vss-guard until its standard input ends; prints each of the guard's answers as a line.
 * Usage: guard-holder SOCKET SECONDS DIRECTORY... */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"

#define PATHS_MAX 64

static int die(const char *what)
{
	perror(what);
	exit(2);
}

static void ask(int fd, json_t *order, const int *fds, size_t n)
{
	struct frame out = { 0 }, in = { 0 };
	struct err err = { 0 };

	if (frame_init(&out, order, fds, n, &err) < 0 || frame_send(&out, fd, &err) < 0 ||
	    frame_receive(&in, fd, &err) < 0) {
		printf("{\"ok\": false, \"lost\": true}\n");
		exit(1);
	}
	json_dumpf(in.value, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	if (!json_is_true(json_object_get(in.value, "ok")))
		exit(1);
	frame_done(&out);
	frame_done(&in);
	json_decref(order);
}

static json_t *filesystem(const char *path, int *ret_fd)
{
	struct stat st;

	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0 || fstat(*ret_fd, &st) < 0)
		die(path);
	return json_pack("{ss so}", "Path", path, "Device", json_sprintf("%u:%u", major(st.st_dev), minor(st.st_dev)));
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[PATHS_MAX];
	json_t *list = json_array();

	if (argc < 4 || argc > 3 + PATHS_MAX || strlen(argv[1]) >= sizeof address.sun_path)
		return 2;
	strcpy(address.sun_path, argv[1]);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die(argv[1]);
	for (int i = 3; i < argc; i++) {
		json_t *entry = filesystem(argv[i], &fds[i - 3]);
		json_object_set_new(entry, "Fd", json_integer(i - 3));
		json_array_append_new(list, entry);
	}
	uint64_t deadline = clock_now() + (uint64_t)(strtod(argv[2], NULL) * (double)USEC_PER_SEC);
	ask(fd,
	    json_pack("{ss so ss sb so sI}", "op", "arm", "Set", json_sprintf("test-%d", (int)getpid()), "Owner",
		      "guard-holder", "Hold", 1, "Filesystems", list, "Deadline", (json_int_t)deadline),
	    fds, (size_t)argc - 3);
	ask(fd, json_pack("{ss}", "op", "go"), NULL, 0);
	while (getchar() != EOF)
		;
	ask(fd, json_pack("{ss}", "op", "release"), NULL, 0);
	return 0;
}
