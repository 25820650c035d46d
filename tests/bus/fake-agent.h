/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A QEMU guest agent on a thread of the test: one client and one command at a time, in the order in which they came, and what
 * it has read it executes, whether its client still waits or not. It misbehaves as it is told. */
#pragma once

#include <stdbool.h>

struct fake_agent;

enum misbehaviour {
	BEHAVE,
	BE_SLOW,    /* executes and answers after the given milliseconds */
	STALL,	    /* stands still until fake_agent_release, then executes and answers */
	STAY_QUIET, /* executes, but never answers */
	FAIL,	    /* answers with an error, executes nothing */
	NOT_KNOWN,  /* CommandNotFound: disabled */
	GARBAGE,    /* answers with a line that is no JSON */
	HALF,	    /* half an answer, and nothing more */
	HUGE_LINE,  /* two megabytes without an end of line */
	FLOOD,	    /* lines without end, until its client hangs up */
	HANG_UP,    /* closes instead of answering; what was asked has been executed */
	WRONG_ID,   /* of guest-sync-delimited: another one's */
	NONSENSE,   /* {"return": {"x": []}} */
};

struct fake_agent *fake_agent_start(const char *socket_path);
struct fake_agent *fake_agent_stop(struct fake_agent *agent); /* joins; returns NULL */

/* From now on, at each `command`; times: that often, 0: always. */
void fake_agent_on(struct fake_agent *agent, const char *command, enum misbehaviour how, unsigned milliseconds,
		   unsigned times);
void fake_agent_release(struct fake_agent *agent);
bool fake_agent_stalls(struct fake_agent *agent);

/* Its filesystems, frozen by a command, or by somebody else. */
bool fake_agent_is_frozen(struct fake_agent *agent);
void fake_agent_set_frozen(struct fake_agent *agent, bool frozen);
/* Of its two filesystems one is thawed by somebody else. */
void fake_agent_thaw_one(struct fake_agent *agent);
/* How often the command was executed; its last arguments as JSON text ("" without), valid until the next call. */
unsigned fake_agent_count(struct fake_agent *agent, const char *command);
const char *fake_agent_arguments(struct fake_agent *agent, const char *command);
/* What the command answers instead of the usual: a JSON text. */
void fake_agent_say(struct fake_agent *agent, const char *command, const char *json);
