/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-qemu-writer as a process on a bus of its own, with guests whose agents are the test's; a stage plays vssd. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cmocka.h>

#include "bus-harness.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "fake-agent.h"
#include "stage.h"

struct fixture {
	struct bus_harness *bus;
	struct stage *stage;
	const char *directory;
	struct fake_agent *web, *db;
	pid_t writer;
	char session[ID_SIZE], set[ID_SIZE];
};

/* Two guests, web and db, each with a disk and an agent that behaves. The writer does not run yet. */
int set_up(void **state);
int tear_down(void **state);

void start_writer(struct fixture *f, const char *general); /* lines of [QEMU]; waits until it is registered */
void start_again(struct fixture *f);
int end_writer(struct fixture *f, int signal);
const char *path_of(struct fixture *f, const char *name); /* valid until the fourth call after it */
bool has_note(struct fixture *f, const char *guest);
bool process_runs(pid_t pid);
pid_t warden_of(struct fixture *f); /* 0: there is none */

/* Events for both guests, or those that names (separated by spaces) names. */
void send_to(struct fixture *f, const char *name, const char *names, unsigned milliseconds, struct stage_answer *answer);
void expect(struct fixture *f, const char *name, enum vss_error error, const char *words); /* words: NULL, or a part of what is said */
void expect_unbroken(struct fixture *f, bool unbroken); /* sends Thaw, which has to be answered well */
void expect_doubt(struct fixture *f, const char *name, const char *words);
void new_set(struct fixture *f);
/* PrepareSnapshot, Freeze, Thaw go well, and both were frozen meanwhile. */
void expect_good_set(struct fixture *f);
bool wait_until(struct fixture *f, bool (*is_so)(struct fixture *f), unsigned milliseconds);
