/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QEMU guest agent, as seen from the host. It serves one client and one command at a time, executes what it has read even
 * when nobody waits any more, and its answers carry no number: before a connection's first command, and after any that was
 * not answered in time, it is synchronised (guest-sync-delimited), which passes over whatever it still had to say. */
#pragma once

#include "writers/qemu/channel.h"

enum agent_result {
	AGENT_OK,
	AGENT_ABSENT,	   /* nobody listens at its socket */
	AGENT_SILENT,	   /* no answer in time: what was asked may still happen */
	AGENT_CANCELLED,   /* the same; nobody waits any more */
	AGENT_LOST,	   /* hung up, or sent rubbish: the same */
	AGENT_REFUSED,	   /* answered with an error */
	AGENT_UNSUPPORTED, /* does not know the command, or has it disabled */
};

struct agent {
	struct channel channel;
	bool in_step; /* the next answer is that of the next command */
	char why[400];
};

void agent_init(struct agent *agent);
void agent_close(struct agent *agent);
bool agent_is_open(const struct agent *agent);
/* Connects and synchronises. */
enum agent_result agent_open(struct agent *agent, const char *address, const struct patience *patience);
/* arguments (borrowed) may be NULL. *ret (may be NULL) is the caller's, and whatever a guest says: look at its type. */
enum agent_result agent_call(struct agent *agent, const char *command, json_t *arguments, json_t **ret,
			     const struct patience *patience);

enum guest_freeze { GUEST_FREEZE_THAWED, GUEST_FREEZE_FROZEN };
enum agent_result agent_freeze_status(struct agent *agent, enum guest_freeze *ret, const struct patience *patience);
/* A command that answers with a number. */
enum agent_result agent_count(struct agent *agent, const char *command, json_t *arguments, json_int_t *ret,
			      const struct patience *patience);
