/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One guest in a set: what it is asked in each event, what is believed of its answers, and what its policy makes of a failure. */
#pragma once

#include "writers/bundled/bundled.h"
#include "writers/qemu/agent.h"

/* Where its notes lie; set once, before the first event. */
extern int guest_notes;

enum vss_result guest_serve(struct bundled_task *task);
void guest_forget(void *state);

/* How a guest stands, as found before a set and for the checklist. */
enum guest_power {
	GUEST_OFF,
	GUEST_ON,
	GUEST_MUTE, /* it runs, and there is no agent to talk to: why says more */
};

struct guest {
	char *name;
	struct agent agent;
	enum guest_phase {
		PHASE_OFF,	/* is copied as it is */
		PHASE_READY,	/* its agent answers, nothing is frozen */
		PHASE_HELD,	/* frozen, or asked to be */
		PHASE_LEFT_OUT, /* by policy: goes on running, and the set says so */
	} phase;
	json_int_t filesystems; /* that were frozen */
	uint64_t frozen_at;
	char why[512];
};

/* Connects the guest's agent if there is one to connect to. */
enum guest_power guest_reach(struct guest *guest, const struct bundled_task *task, const struct patience *patience);
const char *guest_agent_address(const struct bundled_task *task);
/* Disks that are on no volume of the event, and what discovery could not make out: text for people; "" if all is well. */
void guest_disk_flaw(const struct bundled_task *task, char text[400]);
void guest_checklist(struct bundled_task *task);
