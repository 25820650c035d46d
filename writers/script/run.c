/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "writers/script/child.h"
#include "writers/script/log.h"
#include "writers/script/outcome.h"

#define LOGGED_LINES_MAX 1000 /* of one executable; the rest is read and dropped */
#define CANCEL_GRACE USEC_PER_SEC

struct run {
	sd_event *loop;
	const struct config *config;
	const struct task *task;
	const struct run_handlers *handlers;
	void *data;

	struct child *child;
	size_t next;	      /* command to start next */
	size_t started;	      /* commands that have been */
	unsigned tries;	      /* of the last of them */
	uint64_t command_began; /* its first try */
	uint64_t extended_at; /* the limit counts from here */
	bool cancelled;
	unsigned lines;
	char last_line[LINE_SIZE];
	enum vss_result result; /* of the first that failed */
	char message[LINE_SIZE + 128];
};

/* These are run to the end whatever happens: each executable has something of its own to take back. */
static bool goes_on_after_failure(enum vss_event event)
{
	return event == VSS_EVENT_THAW || event == VSS_EVENT_ABORT || event == VSS_EVENT_BACKUP_COMPLETE ||
	       event == VSS_EVENT_BACKUP_SHUTDOWN;
}

void run_limits(uint64_t event_limit, uint64_t begin, uint64_t from, uint64_t span, uint64_t *ret_terminate,
		uint64_t *ret_kill)
{
	*ret_terminate = from + span / 10 * 9;
	if (event_limit > 0 && begin + event_limit < *ret_terminate)
		*ret_terminate = begin + event_limit;
	*ret_kill = *ret_terminate + (span / 20 < CANCEL_GRACE ? span / 20 : CANCEL_GRACE);
}

static const struct command *current(const struct run *run)
{
	return &run->task->commands.items[run->next - 1];
}

static const char *called(const struct run *run)
{
	return run->task->commands.conduct.interpreted ? current(run)->argv[1] : current(run)->path;
}

static void on_line(enum child_output from, const char *line, void *data)
{
	struct run *run = data;

	if (run->lines++ < LOGGED_LINES_MAX)
		log_line(LOG_INFO, run->config->name, "%s: %s", event_hook_name(run->task->event), line);
	else if (run->lines == LOGGED_LINES_MAX + 1)
		log_line(LOG_WARNING, run->config->name, "%s: further output is dropped", called(run));
	if (line[strspn(line, " \t")])
		snprintf(run->last_line, sizeof run->last_line, "%s", line);
	if (!run->cancelled)
		run->handlers->alive(run->data);
}

static void note_failure(struct run *run, enum vss_result result, const char *how)
{
	log_line(LOG_ERR, run->config->name, "%s: %s %s", event_hook_name(run->task->event), called(run), how);
	if (run->result != VSS_RESULT_OK)
		return;
	run->result = result;
	if (*run->last_line)
		snprintf(run->message, sizeof run->message, "%s", run->last_line);
	else
		snprintf(run->message, sizeof run->message, "%.900s %s", called(run), how);
}

static enum vss_result result_of_end(const struct run *run, bool killed, int status)
{
	bool warning = run->task->commands.conduct.two_is_warning && !killed && status == 2;

	return warning ? VSS_RESULT_OK : outcome_of_exit(killed, status);
}

static void judge_end(struct run *run, bool killed, int status)
{
	char how[128];
	enum vss_result result = result_of_end(run, killed, status);

	if (child_passed_limit(run->child) && !run->cancelled) {
		snprintf(how, sizeof how, "was killed: it had not ended at its limit");
		run->last_line[0] = '\0'; /* it may well have been a good word */
		note_failure(run, VSS_RESULT_TIMED_OUT, how);
	} else if (result != VSS_RESULT_OK) {
		outcome_describe_exit(killed, status, how, sizeof how);
		note_failure(run, result, how);
	} else if (run->result == VSS_RESULT_OK) {
		snprintf(run->message, sizeof run->message, "%s", run->last_line);
	}
}

static int start_next(struct run *run, struct err *err);

/* Where the format has retries: the same once more, within the same limit. */
static bool tries_again(struct run *run, bool killed, int status)
{
	const struct conduct *conduct = &run->task->commands.conduct;
	struct err err = { 0 };
	char how[128];

	if (run->cancelled || child_passed_limit(run->child) || run->tries > conduct->retries ||
	    result_of_end(run, killed, status) == VSS_RESULT_OK)
		return false;
	outcome_describe_exit(killed, status, how, sizeof how);
	log_line(LOG_WARNING, run->config->name, "%s: %s %s, and is run again", event_hook_name(run->task->event),
		 called(run), how);
	struct child *ended = run->child;
	run->child = NULL;
	run->next--;
	if (start_next(run, &err) == 0) {
		child_free(ended);
		return true;
	}
	run->next++;
	run->child = ended;
	return false;
}

static void on_end(bool killed, int status, void *data)
{
	struct run *run = data;
	struct err err = { 0 };

	if (tries_again(run, killed, status))
		return;
	judge_end(run, killed, status);
	if (run->handlers->ended) {
		bool passed_limit = child_passed_limit(run->child);
		run->handlers->ended(current(run)->path, !passed_limit && result_of_end(run, killed, status) == VSS_RESULT_OK,
				     !passed_limit && !killed, run->data);
	}
	run->child = child_free(run->child);
	bool more = run->next < run->task->commands.n && !run->cancelled &&
		    (run->result == VSS_RESULT_OK || goes_on_after_failure(run->task->event));
	if (more && start_next(run, &err) == 0)
		return;
	if (more && run->result == VSS_RESULT_OK) {
		run->result = VSS_RESULT_OUT_OF_RESOURCES;
		snprintf(run->message, sizeof run->message, "%s", err.text);
	}
	run->handlers->done(run->result, run->message, run->data);
}

static const struct child_handlers handlers_of_child = { .line = on_line, .exit = on_end };

/* One limit for all where the first failure ends it; where all must have run, each has its own part of the time, so
 * that one that hangs leaves the others theirs. */
static void set_limit(struct run *run)
{
	const struct task *task = run->task;
	uint64_t span = task->deadline > task->begin ? task->deadline - task->begin : 0;
	uint64_t from = run->extended_at, begin = task->begin, limit = run->config->event_limit, terminate, kill;

	if (goes_on_after_failure(task->event)) {
		from = begin = run->command_began;
		span /= task->commands.n;
	}
	if (task->commands.conduct.limit > 0 && (limit == 0 || task->commands.conduct.limit < limit))
		limit = task->commands.conduct.limit;
	run_limits(limit, begin, from, span, &terminate, &kill);
	child_set_limit(run->child, terminate, kill);
}

static int start_next(struct run *run, struct err *err)
{
	const struct command *command = &run->task->commands.items[run->next];
	const struct child_spec spec = {
		.path = command->path,
		.argv = command->argv,
		.environment = run->task->environment,
		.fds = run->task->fds,
		.n_fds = run->task->n_fds,
		.config = run->config,
	};

	if (run->next == run->started) {
		run->started++;
		run->tries = 0;
		run->command_began = clock_now();
	}
	run->next++;
	run->tries++;
	run->lines = 0;
	run->last_line[0] = '\0';
	if (child_start(&run->child, run->loop, &spec, &handlers_of_child, run, err) < 0)
		return -1;
	set_limit(run);
	return 0;
}

int run_start(struct run **ret, sd_event *loop, const struct config *config, const struct task *task,
	      const struct run_handlers *handlers, void *data, struct err *err)
{
	struct run *run = calloc(1, sizeof *run);

	if (!run)
		return err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "Out of memory");
	run->loop = loop;
	run->config = config;
	run->task = task;
	run->handlers = handlers;
	run->data = data;
	run->extended_at = task->begin;
	if (start_next(run, err) < 0) {
		run_free(run);
		return -1;
	}
	*ret = run;
	return 0;
}

void run_cancel(struct run *run)
{
	uint64_t now = clock_now();

	run->cancelled = true;
	if (run->child)
		child_set_limit(run->child, now, now + CANCEL_GRACE);
}

void run_extend(struct run *run)
{
	run->extended_at = clock_now();
	if (run->child && !run->cancelled)
		set_limit(run);
}

struct run *run_free(struct run *run)
{
	if (!run)
		return NULL;
	child_free(run->child);
	free(run);
	return NULL;
}
