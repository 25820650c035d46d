/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Words between the two halves, over a socketpair of packets; no allocation. */
#pragma once

#include <stddef.h>

/* 0 or a negative errno. */
int message_send(int socket, char word, const int *fds, size_t n_fds);
/* The word; 0: nothing there; -1: the other half has ended. Descriptors go into fds (room for max), *ret_n of them. */
int message_receive(int socket, int *fds, size_t max, size_t *ret_n);
