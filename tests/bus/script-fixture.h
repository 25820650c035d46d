/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-script-writer as a process on a bus of its own, with files and executables that a test makes; a stage plays vssd.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cmocka.h>

#include "bus-harness.h"
#include "common/clock.h"
#include "common/id.h"
#include "stage.h"

#define WRITER_ID "0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c001"

struct fixture {
	struct bus_harness *bus;
	struct stage *stage;
	const char *directory;
	pid_t writer;
	char session[ID_SIZE], set[ID_SIZE];
};

/* cmocka's; there are hooks for freeze and thaw, which write into the file "log". */
int set_up(void **state);
int tear_down(void **state);

/* Files are named relative to the test's directory. */
void put(struct fixture *f, const char *name, mode_t mode, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void put_hook(struct fixture *f, const char *event,
	      const char *body); /* a shell script in hooks/; $DIR is the directory */
void read_file(struct fixture *f, const char *name, char *text, size_t size);
void expect_log(struct fixture *f, const char *expected);
bool exists(struct fixture *f, const char *name);
bool process_runs(pid_t pid);

/* `more` is added to the configuration. They wait until the writer is registered. */
void start_hooks(struct fixture *f, const char *more);
void start_coprocess(struct fixture *f, const char *body, const char *more);
void start_configured(struct fixture *f); /* again */
void configure(struct fixture *f, const char *more);
void start_process(struct fixture *f);	       /* without waiting */
int end_writer(struct fixture *f, int signal); /* its wait status */

void send_within(struct fixture *f, const char *name, uint64_t msec, struct stage_answer *answer);
void expect(struct fixture *f, const char *name, enum vss_error error, const char *message); /* message: a part of it */
void expect_unbroken(struct fixture *f, bool unbroken);					     /* sends Thaw */
void new_set(struct fixture *f);
