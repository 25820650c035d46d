/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes, in pieces, as frames; what is a frame must come out of frame_send as it went in. */
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/frame.h"
#include "fuzz.h"

static void send_back(json_t *value)
{
	struct frame out, in = { 0 };
	struct err err = { 0 };
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	must(frame_init(&out, value, &ends[0], 1, &err) == 0);
	must(frame_send(&out, ends[0], &err) == 1);
	must(frame_receive(&in, ends[1], &err) == 1);
	must(json_equal(in.value, value) && in.n_fds == 1);
	frame_done(&out);
	frame_done(&in);
	close(ends[0]);
	close(ends[1]);
}

/* Receives all that lies there; false after an error that ends the stream. */
static int receive(struct frame *frame, int fd)
{
	struct err err = { 0 };
	int r;

	while ((r = frame_receive(frame, fd, &err)) > 0) {
		send_back(frame->value);
		frame_done(frame);
	}
	must(r == 0 || (err.code && *err.text));
	return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame frame = { 0 };
	size_t piece = size ? data[0] + 1u : 1;
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	for (size_t done = 1; done < size; done += piece) {
		size_t n = size - done < piece ? size - done : piece;
		must(write(ends[0], data + done, n) == (ssize_t)n);
		if (!receive(&frame, ends[1]))
			break;
	}
	frame_done(&frame);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
