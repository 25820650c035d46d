/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the application says about the event it is at; all of it may come from any thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "writers/libvsswriter/writer.h"

static bool on_callback_stack(const struct vss_writer *writer)
{
	return writer->running && pthread_equal(writer->dispatcher, pthread_self());
}

/* The event whose callback this thread is in, else the one that is being answered later. Under the lock. */
static struct job *current_job(struct vss_writer *writer)
{
	if (on_callback_stack(writer))
		return writer->running;
	return writer->work.busy ? &writer->work : &writer->abort;
}

int vss_writer_done(struct vss_writer *writer, enum vss_event event, enum vss_result result, const char *message)
{
	struct job *job = event == VSS_EVENT_ABORT ? &writer->abort : &writer->work;

	if (result == VSS_RESULT_LATER)
		return -EINVAL;
	pthread_mutex_lock(&writer->lock);
	if (!job->busy || job->event != event || job->answered) {
		pthread_mutex_unlock(&writer->lock);
		return -EALREADY;
	}
	job->answered = true;
	job->result = result;
	if (message)
		snprintf(job->message, sizeof job->message, "%s", message);
	pthread_mutex_unlock(&writer->lock);
	writer_wake(writer);
	return 0;
}

void vss_writer_set_message(struct vss_writer *writer, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pthread_mutex_lock(&writer->lock);
	struct job *job = current_job(writer);
	if (job->busy)
		vsnprintf(job->message, sizeof job->message, format, args);
	pthread_mutex_unlock(&writer->lock);
	va_end(args);
}

static bool takes_document(const struct job *job)
{
	return job->busy && (job->event == VSS_EVENT_PREPARE_BACKUP || job->event == VSS_EVENT_THAW ||
			     job->event == VSS_EVENT_POST_SNAPSHOT);
}

int vss_writer_set_document(struct vss_writer *writer, const char *text)
{
	if (strlen(text) > DOCUMENT_MAX)
		return -E2BIG;
	json_t *parsed = json_loads(text, JSON_DECODE_ANY, NULL);
	json_decref(parsed);
	if (!parsed)
		return -EINVAL;
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&writer->lock);
	struct job *job = current_job(writer);
	bool taken = takes_document(job);
	if (taken) {
		char *old = job->document;
		job->document = copy;
		copy = old;
	}
	pthread_mutex_unlock(&writer->lock);
	free(copy);
	return taken ? 0 : -EINVAL;
}

static bool takes_doubts(const struct job *job)
{
	return job->busy && job->event >= VSS_EVENT_PREPARE_BACKUP && job->event <= VSS_EVENT_POST_SNAPSHOT;
}

static bool takes_checks(const struct job *job)
{
	return job->busy && job->event == VSS_EVENT_PREPARE_BACKUP && job->input.info.verify;
}

/* Takes the value. Under the lock. */
static int append(json_t **array, json_t *value, size_t max)
{
	if (!*array)
		*array = json_array();
	if (json_array_size(*array) < max)
		return json_array_append_new(*array, value) < 0 ? -ENOMEM : 0;
	json_decref(value);
	return -E2BIG;
}

int vss_writer_add_doubt(struct vss_writer *writer, const char *text)
{
	json_t *value = json_string(text);
	int r = -EINVAL;

	if (!value)
		return -EINVAL;
	pthread_mutex_lock(&writer->lock);
	struct job *job = current_job(writer);
	if (takes_doubts(job))
		r = append(&job->doubts, value, DOUBTS_MAX);
	else
		json_decref(value);
	pthread_mutex_unlock(&writer->lock);
	return r;
}

int vss_writer_add_check(struct vss_writer *writer, const char *object, const char *check, enum vss_verdict verdict,
			 const char *text)
{
	static const char *const verdicts[] = {
		[VSS_VERDICT_OK] = "ok",
		[VSS_VERDICT_BAD] = "bad",
		[VSS_VERDICT_UNKNOWN] = "unknown",
	};
	int r = -EINVAL;

	if ((unsigned)verdict >= sizeof verdicts / sizeof *verdicts)
		return -EINVAL;
	json_t *row = json_pack("{ss ss ss ss}", "Object", object, "Check", check, "Verdict", verdicts[verdict], "Text",
				text ? text : "");
	if (!row)
		return -EINVAL; /* no UTF-8 */
	pthread_mutex_lock(&writer->lock);
	struct job *job = current_job(writer);
	if (takes_checks(job))
		r = append(&job->checks, row, CHECKS_MAX);
	else
		json_decref(row);
	pthread_mutex_unlock(&writer->lock);
	return r;
}

int vss_writer_keep_alive(struct vss_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	const struct job *job = &writer->work;
	bool fits = job->busy && !job->answered &&
		    (job->event == VSS_EVENT_PREPARE_BACKUP || job->event == VSS_EVENT_PREPARE_SNAPSHOT);
	/* A callback that is still at work keeps the loop from running: then it goes out from here. */
	bool at_once = fits && on_callback_stack(writer);
	writer->keep_alive = fits && !at_once;
	pthread_mutex_unlock(&writer->lock);
	if (at_once)
		link_keep_alive(writer);
	else if (fits)
		writer_wake(writer);
	return fits ? 0 : -EALREADY;
}

int vss_writer_break_freeze(struct vss_writer *writer, const char *message)
{
	if (atomic_load(&writer->status) != VSS_WRITER_FROZEN)
		return -EALREADY;
	pthread_mutex_lock(&writer->lock);
	writer->broken = true;
	snprintf(writer->broken_why, sizeof writer->broken_why, "%s",
		 message ? message : "the application broke its freeze");
	pthread_mutex_unlock(&writer->lock);
	writer_wake(writer);
	return 0;
}
