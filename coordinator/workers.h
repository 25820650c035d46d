/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool of vss-worker processes. A job goes to an idle worker of its role, or to a new one; one job at a time each; a
 * worker that passes the deadline, breaks off or talks nonsense is killed and the job fails. One idle worker a role is
 * kept warm, further ones are let go. Nothing here blocks. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/error.h"

struct workers;
struct job;

#define WORKERS_MAX 32      /* processes; further jobs queue */
#define WORKER_QUEUE_MAX 1024 /* jobs; further ones fail with LimitsExceeded */

/* The end of a job: err->code is VSS_OK or says why; answer (borrowed) is then the worker's; fds are the caller's if it
 * sets them to -1. Runs exactly once, from the event loop or from job_cancel, never from workers_run. */
typedef void (*job_done_fn)(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data);

/* program: path of vss-worker. */
int workers_new(struct workers **ret, sd_event *event, const char *program, struct err *err);
struct workers *workers_free(struct workers *workers); /* kills them; open jobs end with Cancelled */

/* op goes into request (taken) as "op". The descriptors in fds stay the caller's, who keeps them open until fn runs; the list
 * itself is copied. deadline: absolute usec.
 * Returns the job, valid until fn runs; NULL with err if it could not be queued (fn will not run). */
struct job *workers_run(struct workers *workers, const char *role, const char *op, json_t *request, const int *fds,
			size_t n_fds, uint64_t deadline, job_done_fn fn, void *data, struct err *err);
/* Ends the job with Cancelled; its worker is killed if it had begun. */
void job_cancel(struct job *job);

size_t workers_busy(const struct workers *workers);
/* Starts the role's worker if none is there, so that the first job finds it warm. */
void workers_warm(struct workers *workers, const char *role);
