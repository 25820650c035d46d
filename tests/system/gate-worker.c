/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker that can be told to hang, to die or to be slow at an op: stands between vssd and the real worker and passes
 * frames through. Given to vssd with --worker; the real worker is $GATE_WORKER. What to do lies in the directory
 * $GATE_DIRECTORY, in a file named after the op; it is done once, and the file is gone then:
 *
 *	hang		neither passes the request on nor answers
 *	kill		SIGKILL before the request is passed on
 *	exit		ends with status 3 before the request is passed on
 *	kill-after	SIGKILL when the op is done, before it is answered
 *	hang-after	does not answer when the op is done; makes OP.after then
 *	kill-in MSEC	SIGKILL so long after the request was passed on
 *	stop-in MSEC	SIGSTOP so long after the request was passed on
 *	mark-in MSEC	makes OP.after so long after the request was passed on, and goes on
 *	delay MSEC	passes the request on so much later
 *
 * A file OP.done is made when the action begins, so that a script can wait for it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/frame.h"

#define VSSD_FD 3

struct order {
	char what[16];
	int milliseconds;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "gate-worker: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int start_worker(const char *role)
{
	const char *program = getenv("GATE_WORKER");
	int pair[2];
	char fd[16];

	if (!program || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		fail("cannot begin");
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		close(VSSD_FD);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* vssd knows of the gate alone */
		snprintf(fd, sizeof fd, "%d", pair[1]);
		fcntl(pair[1], F_SETFD, 0);
		execl(program, program, role, "--fd", fd, NULL);
		fail(program);
	}
	close(pair[1]);
	return pair[0];
}

static void mark(const char *op, const char *what)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/%s.%s", getenv("GATE_DIRECTORY") ?: "/nonexistent", op, what) < 0)
		fail("asprintf");
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

/* Reads the order for op, if there is one, and takes it away: the next time all is well. */
static struct order take_order(const char *op)
{
	struct order order = { .what = "" };
	autofree char *path = NULL;

	if (asprintf(&path, "%s/%s", getenv("GATE_DIRECTORY") ?: "/nonexistent", op) < 0)
		fail("asprintf");
	FILE *file = fopen(path, "re");
	if (!file)
		return order;
	if (fscanf(file, "%15s %d", order.what, &order.milliseconds) < 1)
		order.what[0] = '\0';
	fclose(file);
	unlink(path);
	mark(op, "done");
	return order;
}

static void before(const struct order *order)
{
	if (strcmp(order->what, "hang") == 0)
		for (;;)
			pause();
	if (strcmp(order->what, "kill") == 0)
		raise(SIGKILL);
	if (strcmp(order->what, "exit") == 0)
		_exit(3);
	if (strcmp(order->what, "delay") == 0)
		poll(NULL, 0, order->milliseconds);
}

static void after(const struct order *order, const char *op, int worker)
{
	if (strcmp(order->what, "kill-in") == 0 || strcmp(order->what, "stop-in") == 0) {
		poll(NULL, 0, order->milliseconds);
		/* The process group: the real worker in the midst of its op too. */
		kill(0, strcmp(order->what, "kill-in") == 0 ? SIGKILL : SIGSTOP);
	}
	if (strcmp(order->what, "mark-in") == 0) {
		poll(NULL, 0, order->milliseconds);
		mark(op, "after");
	}
	if (strcmp(order->what, "hang-after") == 0) {
		poll(&(struct pollfd){ .fd = worker, .events = POLLIN }, 1, -1);
		mark(op, "after");
		for (;;)
			pause();
	}
	if (strcmp(order->what, "kill-after") == 0) {
		poll(&(struct pollfd){ .fd = worker, .events = POLLIN }, 1, -1);
		raise(SIGKILL);
	}
}

static void pass(struct frame *in, int fd)
{
	struct frame out;
	struct err err = { 0 };

	if (frame_init(&out, in->value, in->fds, in->n_fds, &err) < 0 || frame_send(&out, fd, &err) < 0) {
		fprintf(stderr, "gate-worker: %s\n", err.text);
		exit(1);
	}
	frame_done(&out);
}

static bool serve_next(int worker)
{
	struct frame request = { 0 }, answer = { 0 };
	struct err err = { 0 };

	if (frame_receive(&request, VSSD_FD, &err) <= 0)
		return false;
	struct order order = take_order(json_string_value(json_object_get(request.value, "op")) ?: "");
	before(&order);
	pass(&request, worker);
	after(&order, json_string_value(json_object_get(request.value, "op")), worker);
	frame_done(&request);
	if (frame_receive(&answer, worker, &err) <= 0)
		return false;
	pass(&answer, VSSD_FD);
	frame_done(&answer);
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "gate-worker is started by vssd: gate-worker ROLE\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int worker = start_worker(argv[1]);
	while (serve_next(worker))
		;
	return 0;
}
