/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The requestor's way to a session that holds volumes: a socket that was passed beforehand, so that neither needs the bus,
 * which may wait for what is held. vssd writes a line for each operation that ends: {"Operation": s, "Result": object};
 * the requestor writes "release". Its end while something is held releases it. */
#pragma once

#include "coordinator/session.h"

/* fd is taken, in either case. */
int session_channel_open(struct session *session, int fd, struct err *err);
void session_channel_tell(struct session *session, const char *operation, json_t *result);
struct session_channel *session_channel_free(struct session_channel *channel);
