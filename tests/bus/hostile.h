/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The attacks. Each runs in a process of its own (attack_as) and returns false only where vssd did what it must not. */
#pragma once

#include "victim.h"

struct attack {
	struct dice dice;
	unsigned size; /* how many of whatever the attack does */
};

bool attack_with_calls(void *attack); /* hostile-calls.c */

/* hostile-requestors.c */
bool attack_with_sessions(void *attack); /* more than there may be, each called in a wrong order, all left behind */
bool attack_by_leaving(void *attack);	 /* calls whose caller is gone before vssd can ask who it was */
bool attack_with_deafness(void *attack); /* asks for large answers and reads none */
bool attack_with_probes(void *attack);	 /* probes that last, of a writer that is silent */
bool attack_sessions_of_others(void *attack); /* as another user: nothing may succeed */
bool attack_with_fake_signals(void *attack);

/* hostile-registrations.c */
bool attack_with_metadata(void *attack);
bool attack_with_registrations(void *attack);
bool attack_with_large_metadata(void *attack);
bool attack_as_nobody(void *attack); /* registers as its manifest allows; what else it tries is refused */

bool attack_with_answers(
    void *attack); /* hostile-writers.c: sets, each with a writer that answers wrongly in an event */
