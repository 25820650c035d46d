/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Thawing guests by their notes, for as long as it takes: after a freeze that was not answered, and after our own end. */
#pragma once

#include <stdbool.h>

/* One attempt's outcome, also of a writer that still has its connection. */
enum rescue_result {
	RESCUE_THAWED, /* the agent says so: nothing that we asked for is under way any more */
	RESCUE_OFF,    /* no QEMU runs on the guest's disks, and nobody listens at the agent's socket */
	RESCUE_AGAIN,  /* not yet */
};

struct agent;
struct patience;
/* Asks the agent (open or not) until it says thawed. */
enum rescue_result rescue_try(struct agent *agent, const char *address, const struct patience *patience);

/* Works on the note in a thread of its own. stop: a descriptor that becomes readable when the program ends; -1. False: no
 * thread. The note is gone when it has succeeded; otherwise it stays, and the log says so. */
bool rescue_start(int directory, const char *file, int stop);
/* Waits until none is under way. */
void rescue_wait(void);
/* All notes that are there. */
void rescue_all(int directory, int stop);
