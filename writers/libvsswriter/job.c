/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events in the application's hands: calling it, answering for it, its limits, and the dead-man's abort. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "writers/libvsswriter/writer.h"

#define OWN_ABORT_LIMIT (60 * USEC_PER_SEC)
#define THAW_DELAY (1 * USEC_PER_SEC) /* what a Thaw that was sent in time may take to arrive */

static enum vss_error error_of_result(enum vss_result result)
{
	switch (result) {
	case VSS_RESULT_OK:
		return VSS_OK;
	case VSS_RESULT_INCONSISTENT_SNAPSHOT:
		return VSS_E_WRITER_INCONSISTENT_SNAPSHOT;
	case VSS_RESULT_OUT_OF_RESOURCES:
		return VSS_E_WRITER_OUT_OF_RESOURCES;
	case VSS_RESULT_TIMED_OUT:
		return VSS_E_WRITER_TIMED_OUT;
	case VSS_RESULT_RETRYABLE:
		return VSS_E_WRITER_RETRYABLE;
	case VSS_RESULT_LATER:
	case VSS_RESULT_NON_RETRYABLE:
		break;
	}
	return VSS_E_WRITER_NON_RETRYABLE;
}

static bool is_utf8(const char *text)
{
	json_t *value = json_string(text);

	json_decref(value);
	return value;
}

/* The bus closes the connection of whoever sends text that is not UTF-8. A buffer's end may have cut a character. */
static void make_utf8(char *text)
{
	size_t n = strlen(text);

	if (is_utf8(text))
		return;
	for (size_t cut = 1; cut <= 3 && cut < n; cut++) {
		char last = text[n - cut];
		text[n - cut] = '\0';
		if (is_utf8(text))
			return;
		text[n - cut] = last;
	}
	for (char *c = text; *c; c++)
		*c = (unsigned char)*c < 0x80 ? *c : '?';
}

/* ---- a job's life ---- */

void job_begin(struct vss_writer *writer, struct job *job, struct bus_call *call, struct event_input *input)
{
	uint64_t now = clock_now();

	pthread_mutex_lock(&writer->lock);
	*job = (struct job){ .busy = true, .event = input->info.event, .call = call, .input = *input };
	snprintf(job->session, sizeof job->session, "%s", input->info.session);
	snprintf(job->set, sizeof job->set, "%s", input->info.set);
	job->deadline = input->info.deadline_usec;
	job->span = job->deadline > now ? job->deadline - now : 0;
	writer->keep_alive = false;
	if (job->event == VSS_EVENT_FREEZE)
		writer->broken = false;
	pthread_mutex_unlock(&writer->lock);
	*input = (struct event_input){ 0 };
	if (job->event == VSS_EVENT_THAW)
		writer->freeze_until = USEC_INFINITY; /* the freeze has served; Thaw has a deadline of its own */
	if (job->event != VSS_EVENT_FREEZE)
		return;
	/* Held from here on: whatever the callback does, it is undone in time. Freeze's deadline is that of the whole hold: a
	 * coordinator that has said nothing by then stands still, although its connection is there. */
	writer->freeze_until = now + writer->ops.freeze_limit_msec * USEC_PER_MSEC;
	writer->hold_is_over = job->deadline + THAW_DELAY < writer->freeze_until;
	if (writer->hold_is_over)
		writer->freeze_until = job->deadline + THAW_DELAY;
	link_watch_holder(writer, bus_call_sender(call));
	writer_set_status(writer, NULL);
}

/* Empties the job; from here on vss_writer_done says that it is too late. */
static void job_take(struct vss_writer *writer, struct job *job, struct job *taken)
{
	pthread_mutex_lock(&writer->lock);
	*taken = *job;
	*job = (struct job){ 0 };
	pthread_mutex_unlock(&writer->lock);
}

static void job_release(struct job *job)
{
	event_input_clear(&job->input);
	free(job->document);
	json_decref(job->doubts);
	json_decref(job->checks);
}

void job_drop_call(struct job *job)
{
	job->call = NULL;
}

static json_t *job_answer(struct vss_writer *writer, const struct job *job)
{
	json_t *answer = json_object();
	const struct session_row *row = sessions_find(&writer->sessions, job->session);

	if (job->event == VSS_EVENT_IDENTIFY) {
		json_decref(answer);
		json_decref(writer->metadata);
		writer->metadata = writer_metadata(writer);
		return json_incref(writer->metadata);
	}
	if (row && (job->event == VSS_EVENT_FREEZE || job->event == VSS_EVENT_THAW))
		json_object_set_new(answer, "Sequence", json_integer((json_int_t)row->sequence));
	if (row && job->event == VSS_EVENT_THAW)
		json_object_set_new(answer, "Unbroken", json_boolean(row->unbroken));
	if (*job->message)
		json_object_set_new(answer, "Message", json_string(job->message));
	if (job->document)
		json_object_set_new(answer, "Document", json_string(job->document));
	if (job->doubts)
		json_object_set(answer, "Doubts", job->doubts);
	if (job->checks)
		json_object_set(answer, "Checks", job->checks);
	return answer;
}

static void job_fail(const struct job *job, enum vss_error error, const char *why)
{
	struct err err = { 0 };

	err_set(&err, error, "%s", why);
	if (job->call)
		bus_call_error(job->call, &err);
}

void job_cancel(struct vss_writer *writer, struct job *job, enum vss_error error, const char *why)
{
	struct job taken;
	char text[MESSAGE_SIZE];

	job_take(writer, job, &taken);
	snprintf(text, sizeof text, "%s was not finished: %s", vss_event_name(taken.event), why);
	job_fail(&taken, error, text);
	job_release(&taken);
}

/* The application may be anywhere in its freeze or thaw: abort is what brings it back. */
static void owe_abort(struct vss_writer *writer, const char *session, const char *why)
{
	struct session_row *row = sessions_find(&writer->sessions, session);

	if (!row)
		return;
	sessions_break(row, why);
	row->abort_due = true;
	freeze_ended(writer);
}

static bool is_freeze_or_thaw(enum vss_event event)
{
	return event == VSS_EVENT_FREEZE || event == VSS_EVENT_THAW;
}

static bool is_too_late(const struct vss_writer *writer, const struct job *job)
{
	uint64_t now = clock_now();

	return is_freeze_or_thaw(job->event) &&
	       (now >= job->deadline || (job->event == VSS_EVENT_FREEZE && now >= writer->freeze_until));
}

static void job_finish(struct vss_writer *writer, struct job *job)
{
	struct job done;

	job_take(writer, job, &done);
	make_utf8(done.message);
	if (is_too_late(writer, &done)) {
		owe_abort(writer, done.session, "the answer came after the limit");
		job_fail(&done, VSS_E_WRITER_TIMED_OUT, "The writer took longer than its limit");
		job_release(&done);
		return;
	}
	enum vss_error error = error_of_result(done.result);
	/* Freeze is recorded before, Thaw's answer is made before: it tells of the freeze that ends. */
	struct session_row *row = sessions_find(&writer->sessions, done.session);
	json_t *answer = error ? NULL : job_answer(writer, &done);
	if (!done.own)
		sessions_answered(&writer->sessions, row, done.event, !error);
	if (error && done.event == VSS_EVENT_THAW) {
		writer->freeze_until = clock_now() + writer->ops.freeze_limit_msec * USEC_PER_MSEC;
		writer->hold_is_over = false;
	}
	if (!error && done.call)
		bus_call_reply(done.call, json_pack("[o]", answer));
	else if (error)
		job_fail(&done, error, *done.message ? done.message : error_text(error));
	else
		json_decref(answer);
	freeze_ended(writer);
	job_release(&done);
}

void job_call(struct vss_writer *writer, struct job *job)
{
	vss_event_fn fn = ops_callback(&writer->ops, job->event);
	struct vss_event_info info = job->input.info;
	enum vss_result result = VSS_RESULT_OK;

	pthread_mutex_lock(&writer->lock);
	struct job *outer = writer->running;
	writer->running = job;
	writer->dispatcher = pthread_self();
	pthread_mutex_unlock(&writer->lock);
	if (fn)
		result = fn(writer, &info, writer->data);
	pthread_mutex_lock(&writer->lock);
	writer->running = outer;
	if (result != VSS_RESULT_LATER) {
		job->result = result;
		job->answered = true;
	}
	bool answered = job->answered; /* vss_writer_done may have come before the callback's end */
	pthread_mutex_unlock(&writer->lock);
	if (answered)
		job_finish(writer, job);
}

void job_thaw_broken(struct bus_call *call, const struct session_row *row)
{
	bus_call_reply(call, json_pack("[{sI sb ss}]", "Sequence", (json_int_t)row->sequence, "Unbroken", 0, "Message",
				       row->why));
}

/* ---- the dead-man ---- */

/* Brings timer, watch and status in line once nothing is held any more. */
void freeze_ended(struct vss_writer *writer)
{
	if (sessions_held(&writer->sessions))
		return;
	writer->freeze_until = USEC_INFINITY;
	if (writer->link.holder_watch)
		link_forget_holder(writer);
	writer_set_status(writer, NULL);
}

static struct session_row *abort_is_due(struct vss_writer *writer)
{
	for (size_t i = 0; i < writer->sessions.n; i++)
		if (writer->sessions.rows[i].abort_due)
			return &writer->sessions.rows[i];
	return NULL;
}

static void own_abort(struct vss_writer *writer, struct session_row *row)
{
	struct event_input input = { .info = { .size = sizeof input.info,
					       .event = VSS_EVENT_ABORT,
					       .backup_type = "copy",
					       .deadline_usec = clock_now() + OWN_ABORT_LIMIT } };
	char session[ID_SIZE], set[ID_SIZE];
	struct job *job = &writer->abort;

	row->abort_due = false;
	if (writer->work.busy && strcmp(writer->work.session, row->id) == 0)
		job_cancel(writer, &writer->work, VSS_E_WRITER_TIMED_OUT, *row->why ? row->why : "vssd has gone");
	/* The job's own copies serve the callback; the row may move meanwhile. */
	memcpy(session, row->id, ID_SIZE);
	memcpy(set, row->set, ID_SIZE);
	input.info.session = session;
	input.info.set = set;
	job_begin(writer, job, NULL, &input);
	job->own = true;
	job->input.info.session = job->session;
	job->input.info.set = job->set;
	job_call(writer, job);
}

void aborts_run(struct vss_writer *writer)
{
	struct session_row *row;

	while (!writer->abort.busy && (row = abort_is_due(writer)))
		own_abort(writer, row);
}

/* The application itself says that it could not hold (vss_writer_break_freeze): it runs already, no abort is due. */
void break_take(struct vss_writer *writer)
{
	struct session_row *row = sessions_held(&writer->sessions);

	pthread_mutex_lock(&writer->lock);
	if (writer->broken && row && row->phase == PHASE_FROZEN && !writer->work.busy) {
		sessions_break(row, writer->broken_why);
		make_utf8(row->why);
		writer->broken = false;
	}
	pthread_mutex_unlock(&writer->lock);
	freeze_ended(writer);
}

/* ---- turns ---- */

static bool job_is_answered(struct vss_writer *writer, const struct job *job)
{
	pthread_mutex_lock(&writer->lock);
	bool answered = job->busy && job->answered;
	pthread_mutex_unlock(&writer->lock);
	return answered;
}

static void job_expire(struct vss_writer *writer, struct job *job)
{
	char session[ID_SIZE];
	enum vss_event event = job->event;
	bool own = job->own;

	if (!job->busy || clock_now() < job->deadline)
		return;
	memcpy(session, job->session, ID_SIZE);
	job_cancel(writer, job, VSS_E_WRITER_TIMED_OUT, "its deadline has passed");
	if (is_freeze_or_thaw(event))
		owe_abort(writer, session, "an event's deadline passed without the application's answer");
	if (event == VSS_EVENT_ABORT && !own)
		sessions_answered(&writer->sessions, sessions_find(&writer->sessions, session), event, false);
	freeze_ended(writer);
}

static void freeze_expire(struct vss_writer *writer)
{
	struct session_row *row = sessions_held(&writer->sessions);

	if (!row || row->phase == PHASE_THAWING || clock_now() < writer->freeze_until)
		return;
	char why[sizeof row->why];
	if (writer->hold_is_over)
		snprintf(why, sizeof why, "vssd's own limit for the hold passed, and it did not thaw");
	else
		snprintf(why, sizeof why, "the freeze limit of %u ms passed", writer->ops.freeze_limit_msec);
	owe_abort(writer, row->id, why);
}

static void keep_alive_take(struct vss_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	bool wanted = writer->keep_alive && writer->work.busy;
	writer->keep_alive = false;
	pthread_mutex_unlock(&writer->lock);
	if (wanted)
		link_keep_alive(writer);
}

void jobs_turn(struct vss_writer *writer)
{
	keep_alive_take(writer);
	if (job_is_answered(writer, &writer->work))
		job_finish(writer, &writer->work);
	if (job_is_answered(writer, &writer->abort))
		job_finish(writer, &writer->abort);
	break_take(writer);
	job_expire(writer, &writer->work);
	job_expire(writer, &writer->abort);
	freeze_expire(writer);
	aborts_run(writer);
}

uint64_t jobs_next_time(const struct vss_writer *writer)
{
	uint64_t next = writer->freeze_until;

	if (writer->work.busy && writer->work.deadline < next)
		next = writer->work.deadline;
	if (writer->abort.busy && writer->abort.deadline < next)
		next = writer->abort.deadline;
	return next;
}
