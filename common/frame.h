/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames between vssd and its workers: one JSON value and its descriptors over a stream socketpair.
 * On the wire: 32-bit length in host order, then the compact JSON text; the descriptors travel with the first byte. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define FRAME_SIZE_MAX (16u << 20) /* a longer frame is refused by both ends */
#define FRAME_FDS_MAX 128u

/* A frame being received or sent; usable with blocking and with non-blocking descriptors. */
struct frame {
	json_t *value; /* of a received frame: owned, complete once frame_receive has returned 1 */
	int fds[FRAME_FDS_MAX];
	size_t n_fds; /* of a received frame: owned; set one to -1 to keep it beyond frame_done */

	bool outgoing;
	char *buffer;
	size_t size, done;
};

/* Makes an outgoing frame from value (borrowed) and fds (borrowed: they must stay open until it is sent). */
int frame_init(struct frame *frame, json_t *value, const int *fds, size_t n_fds, struct err *err);

/* Frees what the frame owns and zeroes it; a zeroed frame is ready to receive. */
void frame_done(struct frame *frame);

/* 1: complete; 0: would block, call again when the descriptor is ready; -1: err says why (peer gone, bad frame). */
int frame_send(struct frame *frame, int fd, struct err *err);
int frame_receive(struct frame *frame, int fd, struct err *err);
