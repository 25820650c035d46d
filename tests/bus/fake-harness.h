/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A private bus with a fake coordinator on it, as a process of its own that can be killed and started again. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "bus-harness.h"

struct fake_harness;

/* behaviours: see fake-coordinator.c; ends with NULL. NULL on failure, which is printed. */
struct fake_harness *fake_harness_start(const char *const *behaviours);
struct fake_harness *fake_harness_stop(struct fake_harness *harness);
const char *fake_harness_directory(const struct fake_harness *harness);

void fake_harness_kill(struct fake_harness *harness);
/* From another process, so that the test may wait in a call meanwhile: a new one as soon as the present one has ended;
 * or after so many milliseconds, in which case the present one is killed. */
void fake_harness_restart_when_gone(struct fake_harness *harness, const char *const *behaviours);
void fake_harness_restart_after(struct fake_harness *harness, unsigned milliseconds, const char *const *behaviours);

/* Whether a line of the log of calls begins with text. */
bool fake_harness_called(const struct fake_harness *harness, const char *text);
/* The number of such lines. */
unsigned fake_harness_count(const struct fake_harness *harness, const char *text);
/* A Finished for DoSnapshotSet of that session from a connection that is not the coordinator's. */
void fake_harness_forge_finished(struct fake_harness *harness, const char *session);
