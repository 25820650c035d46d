/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/watch/storage-worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"
#include "coordinator/worker-spawn.h"

#define REST_AFTER (30 * USEC_PER_SEC)

static void end(struct storage_worker *worker, int signal_number)
{
	if (worker->pid == 0)
		return;
	cleanup_close(&worker->fd);
	worker->fd = -1;
	if (signal_number)
		kill(worker->pid, signal_number);
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
		;
	worker->pid = 0;
}

static int start(struct storage_worker *worker, struct err *err)
{
	int pair[2], r;

	if (worker->pid)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "No socket for a worker");
	/* The worker's end blocks, as it expects. */
	autoclose int theirs = pair[1];
	if (fcntl(theirs, F_SETFL, 0) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "No socket for a worker");
	r = worker_spawn(worker->program, "lvm", theirs, &worker->pid);
	if (r != 0) {
		close(pair[0]);
		worker->pid = 0;
		return err_errno(err, r, VSS_E_UNEXPECTED, "Cannot start %s", worker->program);
	}
	worker->fd = pair[0];
	return 0;
}

/* 0 when the descriptor is ready before the deadline. */
static int wait_until(int fd, short events, uint64_t deadline, struct err *err)
{
	struct pollfd ready = { .fd = fd, .events = events };
	uint64_t now = clock_now();
	int r = now < deadline ? poll(&ready, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1) : 0;

	if (r > 0 || (r < 0 && errno == EINTR))
		return 0;
	return err_set(err, VSS_E_TIMED_OUT, "The worker for LVM does not answer");
}

static int exchange(struct storage_worker *worker, json_t *request, struct frame *answer, uint64_t deadline,
		    struct err *err)
{
	struct frame frame;
	int r = frame_init(&frame, request, NULL, 0, err);

	while (r >= 0 && (r = frame_send(&frame, worker->fd, err)) == 0)
		r = wait_until(worker->fd, POLLOUT, deadline, err);
	frame_done(&frame);
	while (r >= 0 && (r = frame_receive(answer, worker->fd, err)) == 0)
		r = wait_until(worker->fd, POLLIN, deadline, err);
	return r;
}

json_t *storage_worker_ask(struct storage_worker *worker, const char *op, json_t *request, uint64_t limit,
			   struct err *err)
{
	autojson json_t *owned = request, *answer = NULL;
	struct frame frame = { 0 };

	json_object_set_new(owned, "op", json_string(op));
	if (start(worker, err) < 0)
		return NULL;
	if (exchange(worker, owned, &frame, clock_now() + limit, err) < 0) {
		frame_done(&frame);
		end(worker, SIGKILL);
		return NULL;
	}
	answer = json_incref(frame.value);
	frame_done(&frame);
	worker->used = clock_now();
	if (json_is_true(json_object_get(answer, "ok")))
		return json_incref(answer);
	json_t *error = json_object_get(answer, "error");
	err_set(err, error_from_name(json_string_value(json_object_get(error, "Name")) ?: ""), "%s",
		json_string_value(json_object_get(error, "Text")) ?: "The worker for LVM fails without a word");
	return NULL;
}

void storage_worker_rest(struct storage_worker *worker, uint64_t now)
{
	if (now == UINT64_MAX || (worker->pid && now > worker->used + REST_AFTER))
		end(worker, 0);
}
