/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/script-writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "writers/script/config.h"
#include "writers/script/coprocess.h"
#include "writers/script/held.h"
#include "writers/script/log.h"
#include "writers/script/run.h"
#include "writers/script/strv.h"
#include "writers/script/task.h"
#include "writers/vsswriter.h"

#define OWN_ABORT_LIMIT (30 * USEC_PER_SEC)
#define KEEP_ALIVE_EVERY USEC_PER_SEC

struct script_writer {
	sd_event *loop;
	struct config config;
	int runtime_directory;
	const char *bus_address;

	struct vss_writer *vss;
	sd_event_source *vss_source, *stop_source;
	struct coprocess *coprocess; /* NULL where none is configured */

	struct task *task;   /* being carried out */
	struct run *run;     /* by these executables; NULL: by the co-process */
	bool cancelled;	     /* its end is awaited, its result of no interest */
	struct task *queued; /* an abort, which waits for that */
	uint64_t kept_alive_at;

	bool held;		/* Freeze was begun; neither Thaw has succeeded nor Abort been tried since */
	bool held_by_coprocess; /* and it is the co-process that holds */
	bool knows_frozen;	/* not so after a crash of ours */
	char **frozen;		/* the executables that hold it; FORMAT_VMWARE_SCRIPTS tells these alone of a failure */
	char session[ID_SIZE], set[ID_SIZE];

	bool stopping, coprocess_stopped;
	script_writer_stopped_fn stopped;
	void *stopped_data;
	bool lost_connection; /* logged once */
};

static void carry_on(struct script_writer *writer);

/* ---- results ---- */

static enum vss_result result_of_error(enum vss_error error)
{
	switch ((int)error) {
	case VSS_E_WRITER_RETRYABLE:
		return VSS_RESULT_RETRYABLE;
	case VSS_E_WRITER_OUT_OF_RESOURCES:
	case VSS_E_OUT_OF_MEMORY:
	case VSS_E_INSUFFICIENT_STORAGE:
		return VSS_RESULT_OUT_OF_RESOURCES;
	default:
		return VSS_RESULT_NON_RETRYABLE;
	}
}

static void note_result(struct script_writer *writer, enum vss_event event, enum vss_result result)
{
	bool released = event == VSS_EVENT_ABORT || (event == VSS_EVENT_THAW && result == VSS_RESULT_OK);

	if (!released || !writer->held)
		return;
	writer->held = false;
	held_clear(writer->runtime_directory, writer->config.id);
}

/* Somebody else's policy for a failure: the copy is made, and worth less. */
static bool passes_as_doubt(struct script_writer *writer, const struct task *task, const char *message)
{
	char text[1024];

	if (!task->commands.conduct.failure_is_doubt || (task->event != VSS_EVENT_FREEZE && task->event != VSS_EVENT_THAW))
		return false;
	snprintf(text, sizeof text, "%s of '%s' failed, which its configuration (continueBackupOnFailure) allows: %s",
		 event_hook_name(task->event), writer->config.name, message);
	return vss_writer_add_doubt(writer->vss, text) == 0;
}

/* The task at hand has ended. */
static void finish(struct script_writer *writer, enum vss_result result, const char *message)
{
	struct task *task = writer->task;
	struct run *run = writer->run; /* owns the message */
	bool answer = !writer->cancelled && !task->own;

	writer->task = NULL;
	writer->run = NULL;
	writer->cancelled = false;
	if (result != VSS_RESULT_OK)
		log_line(LOG_ERR, writer->config.name, "%s failed: %s", event_hook_name(task->event), message);
	if (result != VSS_RESULT_OK && answer && passes_as_doubt(writer, task, message))
		result = VSS_RESULT_OK;
	note_result(writer, task->event, result);
	if (answer)
		vss_writer_done(writer->vss, task->event, result, *message ? message : NULL);
	run_free(run);
	task_free(task);
	carry_on(writer);
}

static void on_done(enum vss_result result, const char *message, void *data)
{
	finish(data, result, message);
}

/* Something that is at work in the long events may take longer. */
static void on_alive(void *data)
{
	struct script_writer *writer = data;
	uint64_t now = clock_now();

	if (!writer->task || now - writer->kept_alive_at < KEEP_ALIVE_EVERY)
		return;
	if (writer->task->event != VSS_EVENT_PREPARE_BACKUP && writer->task->event != VSS_EVENT_PREPARE_SNAPSHOT)
		return;
	writer->kept_alive_at = now;
	if (vss_writer_keep_alive(writer->vss) < 0)
		return;
	if (writer->run)
		run_extend(writer->run);
	else
		coprocess_extend(writer->coprocess);
}

static void on_lost(const char *why, void *data)
{
	struct script_writer *writer = data;

	if (writer->held && writer->held_by_coprocess)
		vss_writer_break_freeze(writer->vss, why);
	if (writer->stopping)
		carry_on(writer);
}

/* Whoever was killed at its freeze may have done half of it. */
static void on_ended(const char *path, bool succeeded, bool complete, void *data)
{
	struct script_writer *writer = data;
	enum vss_event event = writer->task->event;

	if (event == VSS_EVENT_FREEZE && (succeeded || !complete) && strv_add(&writer->frozen, path) < 0)
		writer->knows_frozen = false; /* then all are told */
	if ((event == VSS_EVENT_THAW || event == VSS_EVENT_ABORT) && succeeded)
		strv_remove(writer->frozen, path);
}

static const struct run_handlers run_handlers = { .ended = on_ended, .alive = on_alive, .done = on_done };
static const struct coprocess_handlers coprocess_handlers = { .alive = on_alive, .done = on_done, .lost = on_lost };

/* ---- events ---- */

static int note_freeze(struct script_writer *writer, const struct task *task, struct err *err)
{
	if (task->event != VSS_EVENT_FREEZE)
		return 0;
	if (held_set(writer->runtime_directory, writer->config.id, writer->session, writer->set, err) < 0)
		return -1;
	writer->held = true;
	writer->held_by_coprocess = task->commands.n == 0;
	writer->frozen = strv_free(writer->frozen);
	writer->knows_frozen = true;
	return 0;
}

/* Takes the task. 1: it is under way; 0: there was nothing to do; -1: it failed. */
static int begin(struct script_writer *writer, struct task *task, struct err *err)
{
	int done = note_freeze(writer, task, err);

	if (writer->config.format == FORMAT_VMWARE_SCRIPTS && task->event == VSS_EVENT_ABORT && writer->knows_frozen)
		commands_keep(&task->commands, writer->frozen);
	writer->task = task;
	writer->kept_alive_at = task->begin;
	if (done == 0 && task->commands.n > 0)
		done = run_start(&writer->run, writer->loop, &writer->config, task, &run_handlers, writer, err) < 0 ? -1
														    : 1;
	else if (done == 0 && task->line)
		done = coprocess_send(writer->coprocess, task, err) < 0 ? -1 : 1;
	if (done == 1)
		return 1;
	writer->task = NULL;
	note_result(writer, task->event, done == 0 ? VSS_RESULT_OK : VSS_RESULT_NON_RETRYABLE);
	task_free(task);
	return done;
}

/* The abort that has waited for the end of what it aborts. */
static void begin_queued(struct script_writer *writer)
{
	struct task *task = writer->queued;
	struct err err = { 0 };
	bool own = task->own;

	writer->queued = NULL;
	int begun = begin(writer, task, &err);
	if (begun == 1)
		return;
	if (begun < 0)
		log_line(LOG_ERR, writer->config.name, "abort failed: %s", err.text);
	if (!own)
		vss_writer_done(writer->vss, VSS_EVENT_ABORT, begun < 0 ? result_of_error(err.code) : VSS_RESULT_OK,
				begun < 0 ? err.text : NULL);
	carry_on(writer);
}

static void call_off(struct script_writer *writer)
{
	if (!writer->task || writer->cancelled)
		return;
	if (writer->run) {
		writer->cancelled = true;
		run_cancel(writer->run);
		return;
	}
	coprocess_cancel(writer->coprocess);
	writer->task = task_free(writer->task);
}

static enum vss_result refuse(struct vss_writer *vss, const struct err *err)
{
	vss_writer_set_message(vss, "%s", err->text);
	return result_of_error(err->code);
}

static enum vss_result on_event(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	struct script_writer *writer = data;
	struct task *task;
	struct err err = { 0 };

	if (writer->stopping) {
		/* Abort has been carried out already, on the way here. */
		err_set(&err, VSS_E_WRITER_RETRYABLE, "The script writer is just being stopped");
		return event->event == VSS_EVENT_ABORT ? VSS_RESULT_OK : refuse(vss, &err);
	}
	if (event->event == VSS_EVENT_FREEZE) {
		snprintf(writer->session, sizeof writer->session, "%s", event->session);
		snprintf(writer->set, sizeof writer->set, "%s", event->set);
	}
	/* Whatever comes while something runs means that the library has called that off. */
	call_off(writer);
	/* Hooks that know nothing of vssd hear no end of what they did not hear the beginning of, and none twice. */
	if (event->event == VSS_EVENT_ABORT && writer->config.format != FORMAT_NATIVE && !writer->held && !writer->task)
		return VSS_RESULT_OK;
	if (task_new(&task, &writer->config, event, &err) < 0)
		return refuse(vss, &err);
	if (writer->task) {
		task_free(writer->queued);
		writer->queued = task;
		return VSS_RESULT_LATER;
	}
	int begun = begin(writer, task, &err);
	return begun == 1 ? VSS_RESULT_LATER : begun == 0 ? VSS_RESULT_OK : refuse(vss, &err);
}

/* Abort without vssd: after a crash, or on our way out. */
static void own_abort(struct script_writer *writer)
{
	const struct vss_event_info event = {
		.size = sizeof event,
		.event = VSS_EVENT_ABORT,
		.session = writer->session,
		.set = writer->set,
		.deadline_usec = clock_now() + OWN_ABORT_LIMIT,
	};
	struct err err = { 0 };
	struct task *task;

	if (task_new(&task, &writer->config, &event, &err) == 0) {
		task->own = true;
		task_free(writer->queued);
		writer->queued = task;
		if (!writer->task)
			begin_queued(writer);
		return;
	}
	log_line(LOG_ERR, writer->config.name, "The application cannot be released: %s", err.text);
	writer->held = false;
	carry_on(writer);
}

/* ---- the bus ---- */

static void report_status(struct script_writer *writer)
{
	const char *text;
	enum vss_writer_status status = vss_writer_status(writer->vss, &text);
	bool lost = status == VSS_WRITER_DISCONNECTED || status == VSS_WRITER_UNREGISTERED;

	if (lost == writer->lost_connection)
		return;
	writer->lost_connection = lost;
	if (lost)
		log_line(LOG_WARNING, writer->config.name, "not registered: %s", *text ? text : "the bus is gone");
	else
		log_line(LOG_INFO, writer->config.name, "registered");
}

static int on_bus(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct script_writer *writer = data;

	(void)!vss_writer_dispatch(writer->vss); /* it connects again by itself */
	report_status(writer);
	return 0;
}

static int go_on_the_bus(struct script_writer *writer, struct err *err)
{
	int r = vss_writer_start(writer->vss, VSS_WRITER_DEFAULT, writer->bus_address);

	if (r >= 0)
		r = sd_event_add_io(writer->loop, &writer->vss_source, vss_writer_fd(writer->vss), EPOLLIN, on_bus,
				    writer);
	writer->lost_connection = true; /* until it is registered */
	return r < 0 ? err_errno(err, -r, VSS_E_NOT_AVAILABLE, "The writer cannot be started") : 0;
}

/* True: its end is awaited; on_lost follows. */
static bool end_coprocess(struct script_writer *writer)
{
	if (!writer->coprocess || writer->coprocess_stopped)
		return false;
	writer->coprocess_stopped = true;
	return coprocess_stop(writer->coprocess);
}

/* What follows when nothing is under way: a waiting abort, the way to the bus, the end. */
static void carry_on(struct script_writer *writer)
{
	struct err err = { 0 };

	if (writer->task)
		return;
	if (writer->queued) {
		begin_queued(writer);
	} else if (writer->stopping) {
		if (!end_coprocess(writer))
			sd_event_source_set_enabled(writer->stop_source, SD_EVENT_ONESHOT);
	} else if (!writer->vss_source && go_on_the_bus(writer, &err) < 0) {
		log_line(LOG_ERR, writer->config.name, "%s", err.text);
	}
}

/* ---- making it ---- */

static int declare_data(struct script_writer *writer, struct err *err)
{
	const struct config *config = &writer->config;
	size_t n = strv_length(config->paths);
	struct vss_file_set *files = calloc(n + 1, sizeof *files);
	const struct vss_component component = {
		.size = sizeof component,
		.name = "data",
		.caption = config->caption,
		.files = files,
		.n_files = n,
		.requires_paths = (const char *const *)config->requires,
		.n_requires = strv_length(config->requires),
	};

	for (size_t i = 0; files && i < n; i++)
		files[i] = (struct vss_file_set){ .path = config->paths[i], .spec = "*", .recursive = true };
	int r = !files ? -ENOMEM : n > 0 ? vss_writer_add_component(writer->vss, &component) : 0;
	free(files);
	return r < 0 ? err_errno(err, -r, VSS_E_INVALID_DOCUMENT, "%s: Paths= or Requires= is refused", config->file)
		     : 0;
}

/* Which events are worth sending; a change of the hook directory counts from the next start on. */
static int choose_events(struct script_writer *writer, struct vss_writer_ops *ops, struct err *err)
{
	vss_event_fn *const fields[SCRIPT_EVENTS] = {
		[VSS_EVENT_PREPARE_BACKUP] = &ops->prepare_backup,
		[VSS_EVENT_PREPARE_SNAPSHOT] = &ops->prepare_snapshot,
		[VSS_EVENT_FREEZE] = &ops->freeze,
		[VSS_EVENT_THAW] = &ops->thaw,
		[VSS_EVENT_POST_SNAPSHOT] = &ops->post_snapshot,
		[VSS_EVENT_BACKUP_COMPLETE] = &ops->backup_complete,
		[VSS_EVENT_BACKUP_SHUTDOWN] = &ops->backup_shutdown,
		[VSS_EVENT_ABORT] = &ops->abort,
		[VSS_EVENT_PRE_RESTORE] = &ops->pre_restore,
		[VSS_EVENT_POST_RESTORE] = &ops->post_restore,
	};
	struct commands commands;

	for (int event = 0; event < SCRIPT_EVENTS; event++) {
		if (!fields[event])
			continue;
		if (commands_find(&commands, &writer->config, (enum vss_event)event, err) < 0)
			return -1;
		if (task_is_served(&writer->config, &commands, (enum vss_event)event))
			*fields[event] = on_event;
		commands_done(&commands);
	}
	ops->abort = on_event; /* by thaw's executables, where it has none */
	if (ops->freeze && ops->thaw)
		return 0;
	return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: there is no executable for %s", writer->config.file,
		       ops->freeze ? "thaw" : "freeze");
}

static int make_vss_writer(struct script_writer *writer, struct err *err)
{
	const struct config *config = &writer->config;
	struct vss_writer_ops ops = {
		.size = sizeof ops,
		.version = VSS_WRITER_API_VERSION,
		.id = config->id,
		.name = config->name,
		.instance_name = config->instance_name,
		.app_version = config->version,
		.level = config->level,
		.freeze_limit_msec = config->freeze_limit_msec,
		.all_volumes = config->all_volumes,
	};
	char why[256] = "";

	if (choose_events(writer, &ops, err) < 0)
		return -1;
	int r = vss_writer_new(&writer->vss, &ops, writer, why, sizeof why);
	if (r < 0)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: %s", config->file, *why ? why : strerror(-r));
	return declare_data(writer, err);
}

static int on_stopped(sd_event_source *source, void *data)
{
	struct script_writer *writer = data;

	writer->stopped(writer, writer->stopped_data);
	return 0;
}

static int set_up(struct script_writer *writer, const char *config_file, struct err *err)
{
	if (config_read(&writer->config, config_file, err) < 0 || make_vss_writer(writer, err) < 0)
		return -1;
	int r = sd_event_add_defer(writer->loop, &writer->stop_source, on_stopped, writer);
	if (r >= 0)
		r = sd_event_source_set_enabled(writer->stop_source, SD_EVENT_OFF);
	if (r < 0)
		return err_errno(err, -r, VSS_E_UNEXPECTED, "The event loop cannot be used");
	if (!writer->config.coprocess)
		return 0;
	writer->coprocess = coprocess_new(writer->loop, &writer->config, &coprocess_handlers, writer);
	return writer->coprocess ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
}

int script_writer_new(struct script_writer **ret, sd_event *loop, const char *config_file, int runtime_directory,
		      const char *bus_address, struct err *err)
{
	struct script_writer *writer = calloc(1, sizeof *writer);

	if (!writer)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	writer->loop = loop;
	writer->runtime_directory = runtime_directory;
	writer->bus_address = bus_address;
	if (set_up(writer, config_file, err) < 0) {
		script_writer_free(writer);
		return -1;
	}
	*ret = writer;
	if (held_read(runtime_directory, writer->config.id, writer->session, writer->set)) {
		log_line(LOG_WARNING, writer->config.name,
			 "was frozen when the script writer ended; abort is carried out");
		writer->held = true;
		own_abort(writer);
	} else {
		carry_on(writer);
	}
	return 0;
}

struct script_writer *script_writer_free(struct script_writer *writer)
{
	if (!writer)
		return NULL;
	writer->stopping = true; /* no callback begins anything any more */
	sd_event_source_disable_unref(writer->vss_source);
	vss_writer_free(writer->vss);
	run_free(writer->run);
	task_free(writer->task);
	task_free(writer->queued);
	coprocess_free(writer->coprocess);
	sd_event_source_disable_unref(writer->stop_source);
	config_done(&writer->config);
	strv_free(writer->frozen);
	free(writer);
	return NULL;
}

void script_writer_stop(struct script_writer *writer, script_writer_stopped_fn stopped, void *data)
{
	if (writer->stopping)
		return;
	writer->stopping = true;
	writer->stopped = stopped;
	writer->stopped_data = data;
	call_off(writer);
	if (writer->held && !(writer->queued && writer->queued->event == VSS_EVENT_ABORT))
		own_abort(writer);
	else
		carry_on(writer);
}

const char *script_writer_name(const struct script_writer *writer)
{
	return writer->config.name;
}
