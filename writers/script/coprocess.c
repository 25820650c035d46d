/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/coprocess.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "writers/script/child.h"
#include "writers/script/commands.h"
#include "writers/script/environment.h"
#include "writers/script/log.h"
#include "writers/script/outcome.h"
#include "writers/script/run.h"
#include "writers/script/strv.h"

#define RESTART_FIRST USEC_PER_SEC
#define RESTART_LAST (60 * USEC_PER_SEC)
#define LIVED_LONG (60 * USEC_PER_SEC) /* after so long it counts as healthy again */
#define KILL_GRACE USEC_PER_SEC
#define STOP_GRACE (2 * USEC_PER_SEC)

struct coprocess {
	sd_event *loop;
	const struct config *config;
	const struct coprocess_handlers *handlers;
	void *data;

	struct child *child;
	bool condemned; /* it is being killed: nothing it says counts any more */
	bool stopping;
	uint64_t started_at, restart_delay;
	sd_event_source *restart_source;

	const struct task *task; /* whose answer is awaited */
	unsigned due;		 /* answers to events that were called off; they come first */
	char why[LINE_SIZE];	 /* why it is condemned */
};

static const char *writer_name(const struct coprocess *coprocess)
{
	return coprocess->config->name;
}

static void end_task(struct coprocess *coprocess, enum vss_result result, const char *message)
{
	if (!coprocess->task)
		return;
	coprocess->task = NULL;
	coprocess->handlers->done(result, message, coprocess->data);
}

/* ---- what it says ---- */

static void condemn(struct coprocess *coprocess, const char *why)
{
	uint64_t now = clock_now();

	log_line(LOG_ERR, writer_name(coprocess), "%s; it is killed", why);
	coprocess->condemned = true;
	snprintf(coprocess->why, sizeof coprocess->why, "%s", why);
	child_set_limit(coprocess->child, now, now + KILL_GRACE);
}

static void on_answer(struct coprocess *coprocess, enum vss_result result, const char *text)
{
	if (coprocess->due > 0) {
		coprocess->due--;
		if (coprocess->due == 0 && !coprocess->task)
			child_set_limit(coprocess->child, USEC_INFINITY, USEC_INFINITY);
		return;
	}
	if (!coprocess->task) {
		log_line(LOG_WARNING, writer_name(coprocess), "the co-process answers though nothing was asked");
		return;
	}
	child_set_limit(coprocess->child, USEC_INFINITY, USEC_INFINITY);
	end_task(coprocess, result, text);
}

static void on_garbage(struct coprocess *coprocess, const char *line)
{
	char why[LINE_SIZE];

	snprintf(why, sizeof why, "The co-process said \"%.200s\" instead of ok or fail CODE TEXT", line);
	condemn(coprocess, why);
}

static void on_line(enum child_output from, const char *line, void *data)
{
	struct coprocess *coprocess = data;
	enum vss_result result = VSS_RESULT_OK;
	const char *text;

	if (from == CHILD_STDERR) {
		log_line(LOG_INFO, writer_name(coprocess), "co-process: %s", line);
		return;
	}
	if (coprocess->condemned)
		return;
	switch (answer_parse(line, &result, &text)) {
	case ANSWER_OK:
	case ANSWER_FAIL:
		on_answer(coprocess, result, text);
		return;
	case ANSWER_ALIVE:
		if (coprocess->task && coprocess->due == 0)
			coprocess->handlers->alive(coprocess->data);
		return;
	case ANSWER_COMMENT:
		log_line(LOG_INFO, writer_name(coprocess), "co-process: %s", text);
		return;
	case ANSWER_GARBAGE:
		on_garbage(coprocess, line);
		return;
	}
}

/* ---- its life ---- */

static int start(struct coprocess *coprocess, struct err *err);

static int on_restart(sd_event_source *source, uint64_t usec, void *data)
{
	struct coprocess *coprocess = data;
	struct err err = { 0 };

	if (!coprocess->child && start(coprocess, &err) < 0)
		log_line(LOG_ERR, writer_name(coprocess), "%s", err.text);
	return 0;
}

static void restart_later(struct coprocess *coprocess)
{
	if (clock_now() - coprocess->started_at >= LIVED_LONG)
		coprocess->restart_delay = RESTART_FIRST;
	sd_event_source_disable_unref(coprocess->restart_source);
	coprocess->restart_source = NULL;
	sd_event_add_time_relative(coprocess->loop, &coprocess->restart_source, CLOCK_MONOTONIC,
				   coprocess->restart_delay, 0, on_restart, coprocess);
	coprocess->restart_delay *= 2;
	if (coprocess->restart_delay > RESTART_LAST)
		coprocess->restart_delay = RESTART_LAST;
}

static void on_end(bool killed, int status, void *data)
{
	struct coprocess *coprocess = data;
	char how[128], why[LINE_SIZE];
	bool too_late = child_passed_limit(coprocess->child) && !coprocess->condemned;
	bool had_task = coprocess->task;

	outcome_describe_exit(killed, status, how, sizeof how);
	if (coprocess->condemned)
		snprintf(why, sizeof why, "%s", coprocess->why);
	else if (too_late)
		snprintf(why, sizeof why, "The co-process did not answer by its limit and was killed");
	else
		snprintf(why, sizeof why, "The co-process %s", how);
	if (!coprocess->stopping)
		log_line(LOG_WARNING, writer_name(coprocess), "%s", why);
	coprocess->child = child_free(coprocess->child);
	coprocess->condemned = false;
	coprocess->due = 0;
	if (!coprocess->stopping)
		restart_later(coprocess);
	if (had_task)
		end_task(coprocess, too_late ? VSS_RESULT_TIMED_OUT : VSS_RESULT_NON_RETRYABLE, why);
	else
		coprocess->handlers->lost(why, coprocess->data);
}

static const struct child_handlers handlers_of_child = { .line = on_line, .exit = on_end };

static int start(struct coprocess *coprocess, struct err *err)
{
	struct commands commands;
	char **environment = NULL;
	int done = -1;

	if (commands_find_one(&commands, coprocess->config->coprocess, err) < 0)
		return -1;
	if (environment_add_base(&environment, coprocess->config) == 0) {
		const struct child_spec spec = {
			.path = commands.items[0].path,
			.argv = commands.items[0].argv,
			.environment = environment,
			.config = coprocess->config,
			.converses = true,
		};
		done = child_start(&coprocess->child, coprocess->loop, &spec, &handlers_of_child, coprocess, err);
	} else {
		err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "Out of memory");
	}
	coprocess->started_at = clock_now();
	strv_free(environment);
	commands_done(&commands);
	return done;
}

struct coprocess *coprocess_new(sd_event *loop, const struct config *config, const struct coprocess_handlers *handlers,
				void *data)
{
	struct coprocess *coprocess = calloc(1, sizeof *coprocess);

	if (!coprocess)
		return NULL;
	coprocess->loop = loop;
	coprocess->config = config;
	coprocess->handlers = handlers;
	coprocess->data = data;
	coprocess->restart_delay = RESTART_FIRST;
	on_restart(NULL, 0, coprocess); /* where it cannot be started now, an event tries again and says why */
	return coprocess;
}

bool coprocess_stop(struct coprocess *coprocess)
{
	uint64_t now = clock_now();

	coprocess->stopping = true;
	coprocess->restart_source = sd_event_source_disable_unref(coprocess->restart_source);
	if (!coprocess->child)
		return false;
	child_close_stdin(coprocess->child);
	child_set_limit(coprocess->child, now + STOP_GRACE, now + STOP_GRACE + KILL_GRACE);
	return true;
}

struct coprocess *coprocess_free(struct coprocess *coprocess)
{
	if (!coprocess)
		return NULL;
	sd_event_source_disable_unref(coprocess->restart_source);
	child_free(coprocess->child);
	free(coprocess);
	return NULL;
}

/* ---- events ---- */

static void set_limit(struct coprocess *coprocess, uint64_t from)
{
	const struct task *task = coprocess->task;
	uint64_t span = task->deadline > task->begin ? task->deadline - task->begin : 0;
	uint64_t terminate, kill;

	run_limits(coprocess->config->event_limit, task->begin, from, span, &terminate, &kill);
	child_set_limit(coprocess->child, terminate, kill);
}

int coprocess_send(struct coprocess *coprocess, const struct task *task, struct err *err)
{
	if (coprocess->condemned || (coprocess->child && child_passed_limit(coprocess->child)))
		return err_set(err, VSS_E_WRITER_RETRYABLE, "The co-process is just being killed and started again");
	if (!coprocess->child && start(coprocess, err) < 0)
		return -1;
	if (child_write(coprocess->child, task->line, err) < 0) {
		condemn(coprocess, err->text);
		return -1;
	}
	coprocess->task = task;
	set_limit(coprocess, task->begin);
	return 0;
}

void coprocess_cancel(struct coprocess *coprocess)
{
	if (!coprocess->task)
		return;
	coprocess->task = NULL;
	coprocess->due++;
}

void coprocess_extend(struct coprocess *coprocess)
{
	if (coprocess->task && coprocess->child && !coprocess->condemned)
		set_limit(coprocess, clock_now());
}
