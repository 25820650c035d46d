/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"

#define HEADER_SIZE sizeof(uint32_t)

int frame_init(struct frame *frame, json_t *value, const int *fds, size_t n_fds, struct err *err)
{
	autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	size_t length = text ? strlen(text) : 0;

	*frame = (struct frame){ .outgoing = true };
	if (length == 0 || length > FRAME_SIZE_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "A message between vssd and a worker has %zu bytes; the limit is %u",
			       length, FRAME_SIZE_MAX);
	if (n_fds > FRAME_FDS_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED,
			       "A message between vssd and a worker carries %zu descriptors; the limit is %u", n_fds,
			       FRAME_FDS_MAX);
	frame->buffer = malloc(HEADER_SIZE + length);
	if (!frame->buffer)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message to a worker");
	memcpy(frame->buffer, &(uint32_t){ (uint32_t)length }, HEADER_SIZE);
	memcpy(frame->buffer + HEADER_SIZE, text, length);
	frame->size = HEADER_SIZE + length;
	if (n_fds)
		memcpy(frame->fds, fds, n_fds * sizeof *fds);
	frame->n_fds = n_fds;
	return 0;
}

static void close_received_fds(struct frame *frame)
{
	for (size_t i = 0; i < frame->n_fds; i++)
		if (frame->fds[i] >= 0)
			close(frame->fds[i]);
}

void frame_done(struct frame *frame)
{
	if (!frame->outgoing)
		close_received_fds(frame);
	json_decref(frame->value);
	free(frame->buffer);
	*frame = (struct frame){ 0 };
}

int frame_send(struct frame *frame, int fd, struct err *err)
{
	union {
		char space[CMSG_SPACE(sizeof(int[FRAME_FDS_MAX]))];
		struct cmsghdr align;
	} control = { 0 };

	while (frame->done < frame->size) {
		struct iovec data = { frame->buffer + frame->done, frame->size - frame->done };
		struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

		if (frame->done == 0 && frame->n_fds > 0) {
			size_t bytes = frame->n_fds * sizeof(int);
			control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(bytes),
							  .cmsg_level = SOL_SOCKET,
							  .cmsg_type = SCM_RIGHTS };
			memcpy(CMSG_DATA(&control.align), frame->fds, bytes);
			message.msg_control = &control;
			message.msg_controllen = CMSG_SPACE(bytes);
		}
		ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (sent < 0)
			return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot send to the worker process");
		frame->done += (size_t)sent;
	}
	return 1;
}

static int take_fds(struct frame *frame, struct msghdr *message, struct err *err)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
			if (frame->n_fds < FRAME_FDS_MAX)
				frame->fds[frame->n_fds++] = fd;
			else
				close(fd);
		}
	}
	if (message->msg_flags & MSG_CTRUNC)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "A message to or from a worker lost descriptors on the way");
	return 0;
}

/* How many bytes the frame still wants: first the header, then what the header announces. */
static int bytes_wanted(struct frame *frame, size_t *ret_wanted, struct err *err)
{
	uint32_t length;

	if (frame->done < HEADER_SIZE) {
		frame->size = HEADER_SIZE;
	} else if (frame->done == HEADER_SIZE) {
		memcpy(&length, frame->buffer, HEADER_SIZE);
		if (length == 0 || length > FRAME_SIZE_MAX)
			return err_set(err, VSS_E_LIMITS_EXCEEDED,
				       "A worker announced a message of %u bytes; the limit is %u", length,
				       FRAME_SIZE_MAX);
		frame->size = HEADER_SIZE + length;
	}
	char *grown = realloc(frame->buffer, frame->size);
	if (!grown)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message from a worker");
	frame->buffer = grown;
	*ret_wanted = frame->size - frame->done;
	return 0;
}

int frame_receive(struct frame *frame, int fd, struct err *err)
{
	union {
		char space[CMSG_SPACE(sizeof(int[FRAME_FDS_MAX]))];
		struct cmsghdr align;
	} control;

	while (frame->done <= HEADER_SIZE || frame->done < frame->size) {
		size_t wanted = 0;
		if (bytes_wanted(frame, &wanted, err) < 0)
			return -1;
		struct iovec data = { frame->buffer + frame->done, wanted };
		struct msghdr message = { .msg_iov = &data,
					  .msg_iovlen = 1,
					  .msg_control = &control,
					  .msg_controllen = sizeof control };
		ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (got < 0)
			return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot receive from the worker process");
		if (got == 0)
			return err_set(err, VSS_E_UNEXPECTED, "The worker process has ended");
		frame->done += (size_t)got;
		if (take_fds(frame, &message, err) < 0)
			return -1;
	}
	json_error_t error;
	frame->value = json_loadb(frame->buffer + HEADER_SIZE, frame->size - HEADER_SIZE, JSON_DECODE_ANY, &error);
	if (!frame->value)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "A worker sent a message that is not JSON: %s", error.text);
	return 1;
}
