/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The warden: a small process beside the writer that thaws guests when the writer cannot: because it died, because it stands
 * still past the time by which it should have thawed, or because an agent needs longer than anybody waits for. */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* In the writer. Starts the warden, which also takes up what an earlier writer left. -1: err. */
int warden_start(struct err *err);
/* Before the guest is frozen, its note being written: from then on the warden answers for it. Starts a new one where the old
 * has died. until: absolute; a writer that has not said warden_forget by then is killed, and the guest thawed. */
int warden_watch(const char *guest, uint64_t until, struct err *err);
void warden_forget(const char *guest); /* thawed, its note removed */
/* The guest's note stays, and the warden works on it from now on; the writer's connection to the agent has to be closed. */
void warden_rescue(const char *guest);

/* The warden's own main; descriptor 0 is the writer's end. */
int warden_main(void);
/* Thaws all that notes name, and returns when that is done or has failed: for a unit's ExecStopPost=. */
int warden_thaw_all(void);
