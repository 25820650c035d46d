/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between session-bus.c (the session's object) and session-open-bus.c (how sessions come to be). */
#pragma once

#include "coordinator/faces.h"

#define CLOSE_CALLS_MAX 8 /* callers that wait for the end of one session */

struct session_face {
	struct session_face *next;
	struct coordinator *coordinator;
	struct session *session;
	char *path;
	struct bus_watch *owner;
	enum session_state announced;
	struct bus_call *closing[CLOSE_CALLS_MAX]; /* answered when the session has ended */
	size_t n_closing;
};

struct session_face *session_face_new(struct coordinator *coordinator, struct session *session);
void session_face_watch_owner(struct session_face *face);
