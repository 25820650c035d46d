/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/fanout.h for tests: writers that answer as the test says. Every call goes on the tape as
 * "EVENT BUS-NAME", every answer that is given up as "forget EVENT BUS-NAME". */
#pragma once

#include "coordinator/fanout.h"

enum fake_mode {
	FAKE_OK,     /* answers at once, in the next turn of the loop */
	FAKE_ERROR,  /* the same with an error */
	FAKE_NEVER,  /* lets the call's deadline pass */
	FAKE_HOLD,   /* waits for fake_fanout_answer */
	FAKE_REFUSE, /* cannot even be called */
};

struct fake_fanout_rule {
	const char *writer, *event; /* NULL: every one */
	enum fake_mode mode;
	enum vss_error error;
	const char *message; /* of the error */
	const char *answer;  /* JSON text in place of the usual answer */
};

struct fake_call {
	char writer[64], event[32];
	json_t *args;
	size_t n_fds;
	uint64_t sent, deadline;
	bool open, held;
};

/* Rules are asked from the last one set to the first. */
void fake_fanout_rule(struct fanout *fanout, const struct fake_fanout_rule *rule);
/* All at once: every rule goes, open calls stay open. */
void fake_fanout_obey(struct fanout *fanout);
/* The newest call of that event to that writer; NULL if there was none. */
const struct fake_call *fake_fanout_last(const struct fanout *fanout, const char *event, const char *writer);
/* Answers the open call of that event: VSS_OK with answer (JSON text, NULL: the usual one), or an error. VSS_E_TIMED_OUT
 * is what the binding says when the deadline has passed. */
void fake_fanout_answer(struct fanout *fanout, const char *event, const char *writer, enum vss_error error,
			const char *answer);
unsigned fake_fanout_holds(const struct fanout *fanout);
