/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd's side of vss-guard: asks for windows without ever blocking. Each window has a connection of its own, made when
 * it is armed; its end, vssd's death included, makes the guard release whatever it holds for the window. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/error.h"
#include "common/names.h"

#define GUARD_SOCKET VSS_GUARD_DIRECTORY "/guard.sock"

struct guard;
struct window;

/* The answer to an order. err->code is VSS_OK, or says why; answer (borrowed) is the guard's and may be NULL on
 * failure; a failure's "Stuck" names what could not be released yet. Runs once for each order, from the event loop,
 * never from within the call that gave it; not at all after window_close. It may close the window. */
typedef void (*guard_fn)(const struct err *err, json_t *answer, void *data);

/* socket NULL: GUARD_SOCKET. Connects to nothing yet. NULL when out of memory. */
struct guard *guard_new(sd_event *event, const char *socket);
/* Closes the windows that are still open. */
struct guard *guard_free(struct guard *guard);

/* plan (taken): {"Set", "Owner", "Hold", "Filesystems", "Devices", "Cuts"}; "op" and "Deadline" are added here. fds
 * stay the caller's and may be closed once fn has run. deadline: absolute usec; the guard releases at the latest then,
 * and at most 60 s from now. fn hears when everything is armed; nothing is held yet then. Returns the window, open
 * until window_close; NULL with err when the guard does not run or the plan cannot be sent. */
struct window *guard_arm(struct guard *guard, json_t *plan, const int *fds, size_t n_fds, uint64_t deadline,
			 guard_fn fn, void *data, struct err *err);
/* Runs the plan. Without Hold fn hears when all is over; with it, when all is held. */
void window_go(struct window *window, guard_fn fn);
/* Of a window with Hold: fn hears when all is released. */
void window_release(struct window *window, guard_fn fn);
/* Ends the connection; whatever is held is released by the guard. No fn runs any more. Returns NULL. */
struct window *window_close(struct window *window);
