/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 132

union control {
	char space[CMSG_SPACE(sizeof(int[FDS_MAX]))];
	struct cmsghdr align;
};

int message_send(int socket, char word, const int *fds, size_t n_fds)
{
	union control control = { 0 };
	struct iovec data = { &word, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (n_fds > FDS_MAX)
		return -E2BIG;
	if (n_fds > 0) {
		control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof *fds),
						  .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof *fds);
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int message_receive(int socket, int *fds, size_t max, size_t *ret_n)
{
	union control control;
	char word = 0;
	struct iovec data = { &word, 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (ret_n)
		*ret_n = 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
			if (ret_n && *ret_n < max)
				fds[(*ret_n)++] = fd;
			else
				close(fd);
		}
	}
	return word;
}
