/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer in the test's own thread, on a bus of its own, with a stage that plays vssd. */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <vsswriter.h>

#include "bus-harness.h"
#include "common/id.h"
#include "stage.h"

#define EVENTS_MAX 64

struct fixture {
	struct bus_harness *bus;
	struct stage *stage;
	struct vss_writer *writer;
	char session[ID_SIZE], set[ID_SIZE];

	enum vss_event seen[EVENTS_MAX]; /* callbacks, in their order */
	unsigned n_seen;
	enum vss_result results[16]; /* what each event's callback returns */
	void (*inside)(struct fixture *f, const struct vss_event_info *event);
	pthread_t thread;
	int thread_results[3];
};

/* Every callback is on_event, the freeze limit is 400 ms. */
struct vss_writer_ops all_ops(void);
void start_writer(struct fixture *f, const struct vss_writer_ops *ops, unsigned flags);
int dispatch_writer(void *data);

int set_up_stage(void **state); /* without a writer yet */
int set_up(void **state);       /* with a registered one */
int tear_down(void **state);

enum vss_error send_full(struct fixture *f, const char *name, const char *session, const char *set,
			 struct stage_answer *answer);
enum vss_error send_event(struct fixture *f, const char *name);
json_int_t freeze(struct fixture *f); /* PrepareSnapshot and Freeze; the sequence number */
void expect_thaw(struct fixture *f, json_int_t sequence, bool unbroken);
/* Waits until the callback of event has been called. */
bool wait_seen(struct fixture *f, enum vss_event event, unsigned milliseconds);

#define WITH_WRITER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_STAGE(test) cmocka_unit_test_setup_teardown(test, set_up_stage, tear_down)
