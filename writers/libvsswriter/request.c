/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The writer's object on the bus: events come in, wait for their turn, and are admitted or refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/names.h"
#include "writers/libvsswriter/writer.h"

#define IDENTIFY_LIMIT (10 * USEC_PER_SEC) /* it must not keep a Freeze waiting for ever */

static void request_unlink(struct request *request)
{
	struct request **link = &request->writer->requests;

	while (*link != request)
		link = &(*link)->next;
	*link = request->next;
	free(request);
}

/* Whoever may call org.vssd.Writer1 on the bus is no proof: the bus' policy can be wider than ours. */
static void sender_known(uid_t uid, void *data)
{
	struct request *request = data;
	struct err err = { 0 };

	request->asking = false;
	if (request->call && (uid == 0 || uid == geteuid()))
		return;
	err_set(&err, VSS_E_ACCESS_DENIED, "%s refused: events are taken from root and from the writer's own user only",
		vss_event_name(request->event));
	if (request->call)
		bus_call_error(request->call, &err);
	request->call = NULL;
	request->refused = true; /* unlinked by requests_run: bus_peer_uid may still be on the stack */
}

static size_t count_requests(const struct vss_writer *writer)
{
	size_t n = 0;

	for (const struct request *r = writer->requests; r; r = r->next)
		n++;
	return n;
}

static void event_received(struct bus_call *call, void *object, enum vss_event event)
{
	struct vss_writer *writer = object;
	struct request *request = NULL, **link = &writer->requests;
	struct err err = { 0 };

	if (count_requests(writer) < REQUESTS_MAX)
		request = calloc(1, sizeof *request);
	if (!request) {
		err_set(&err, VSS_E_LIMITS_EXCEEDED, "%s refused: %d events are waiting already", vss_event_name(event),
			REQUESTS_MAX);
		bus_call_error(call, &err);
		return;
	}
	*request = (struct request){ .writer = writer, .call = call, .event = event, .asking = true };
	while (*link)
		link = &(*link)->next;
	*link = request;
	bus_peer_uid(bus_call_bus(call), bus_call_sender(call), sender_known, request);
}

#define HANDLER(function, event)                                         \
	static void function(struct bus_call *call, void *object)        \
	{                                                                \
		event_received(call, object, event);                     \
	}
HANDLER(on_identify, VSS_EVENT_IDENTIFY)
HANDLER(on_prepare_backup, VSS_EVENT_PREPARE_BACKUP)
HANDLER(on_prepare_snapshot, VSS_EVENT_PREPARE_SNAPSHOT)
HANDLER(on_freeze, VSS_EVENT_FREEZE)
HANDLER(on_thaw, VSS_EVENT_THAW)
HANDLER(on_post_snapshot, VSS_EVENT_POST_SNAPSHOT)
HANDLER(on_backup_complete, VSS_EVENT_BACKUP_COMPLETE)
HANDLER(on_backup_shutdown, VSS_EVENT_BACKUP_SHUTDOWN)
HANDLER(on_abort, VSS_EVENT_ABORT)
HANDLER(on_pre_restore, VSS_EVENT_PRE_RESTORE)
HANDLER(on_post_restore, VSS_EVENT_POST_RESTORE)
#undef HANDLER

#define EVENT_METHOD(name, function) { name, "ssta{sv}", "a{sv}", "session set deadline event", "answer", function }
static const struct bus_method writer_methods[] = {
	{ "Identify", "a{sv}", "a{sv}", "options", "metadata", on_identify },
	EVENT_METHOD("PrepareBackup", on_prepare_backup),
	EVENT_METHOD("PrepareSnapshot", on_prepare_snapshot),
	EVENT_METHOD("Freeze", on_freeze),
	EVENT_METHOD("Thaw", on_thaw),
	EVENT_METHOD("PostSnapshot", on_post_snapshot),
	EVENT_METHOD("BackupComplete", on_backup_complete),
	EVENT_METHOD("BackupShutdown", on_backup_shutdown),
	EVENT_METHOD("Abort", on_abort),
	EVENT_METHOD("PreRestore", on_pre_restore),
	EVENT_METHOD("PostRestore", on_post_restore),
	{ 0 },
};
#undef EVENT_METHOD

const struct bus_interface writer_interface = { .name = VSS_IFACE_WRITER, .methods = writer_methods };

/* ---- turns ---- */

static const char *request_session(const struct request *request)
{
	const char *session = json_string_value(json_array_get(bus_call_args(request->call), 0));

	return session ? session : "";
}

/* Abort does not wait for the event of its own session, it ends it; so does a Thaw that overtakes a slow Freeze. */
static bool preempts(const struct request *request, const struct job *work)
{
	if (!work->busy || strcmp(work->session, request_session(request)) != 0)
		return false;
	return request->event == VSS_EVENT_ABORT ||
	       (request->event == VSS_EVENT_THAW && work->event == VSS_EVENT_FREEZE);
}

static bool may_run(struct vss_writer *writer, const struct request *request)
{
	if (request->asking)
		return false;
	if (request->refused || request->event == VSS_EVENT_IDENTIFY)
		return true;
	if (writer->abort.busy)
		return false;
	if (preempts(request, &writer->work))
		return true;
	if (sessions_must_wait(&writer->sessions, request->event, request_session(request)))
		return false;
	return !writer->work.busy || request->event == VSS_EVENT_ABORT;
}

static int take_fd(void *data, json_int_t index)
{
	return bus_call_take_fd(data, index);
}

static int check_deadline(const struct event_input *input, enum vss_event event, struct err *err)
{
	uint64_t now = clock_now(), deadline = input->info.deadline_usec;

	if (deadline > now)
		return 0;
	return err_set(err, VSS_E_WRITER_TIMED_OUT, "%s refused: its deadline was over %llu ms ago", vss_event_name(event),
		       (unsigned long long)((now - deadline) / USEC_PER_MSEC));
}

/* While the application is busy or frozen it is left alone: what was said last is still true enough. */
static void identify(struct vss_writer *writer, struct bus_call *call)
{
	struct event_input input;
	struct err err = { 0 };

	if (!writer->work.busy && !writer->abort.busy && !sessions_held(&writer->sessions)) {
		if (event_input_read(&input, VSS_EVENT_IDENTIFY, bus_call_args(call), take_fd, call, &err) < 0) {
			bus_call_error(call, &err);
			return;
		}
		input.info.deadline_usec = clock_now() + IDENTIFY_LIMIT;
		job_begin(writer, &writer->work, call, &input);
		job_call(writer, &writer->work);
		return;
	}
	bus_call_reply(call, json_pack("[O]", writer->metadata));
}

/* PostSnapshot may come in several messages of 16 descriptors; the application sees one event. True: not the last. */
static int gather(struct vss_writer *writer, struct event_input *input, struct err *err)
{
	if (strcmp(writer->partial_session, input->info.session) != 0)
		event_input_clear(&writer->partial);
	snprintf(writer->partial_session, sizeof writer->partial_session, "%s", input->info.session);
	if (event_input_join(input, &writer->partial, err) < 0)
		return -1;
	if (!input->more)
		return 0;
	writer->partial = *input;
	*input = (struct event_input){ 0 };
	return 1;
}

/* An Abort or Thaw that came while the application was still at an earlier event of its session. The freeze that a Thaw
 * overtakes is somewhere under way: abort gets the application out of it, and the Thaw is answered "broken". */
static void cut_short(struct vss_writer *writer, enum vss_event event, struct session_row *row)
{
	job_cancel(writer, &writer->work, VSS_E_CANCELLED, "a later event cut it short");
	if (event != VSS_EVENT_THAW)
		return;
	sessions_break(row, "Thaw came before Freeze was answered");
	row->abort_due = true;
	aborts_run(writer);
}

static int admit(struct vss_writer *writer, struct event_input *input, struct session_row **ret_row, struct err *err)
{
	enum vss_event event = input->info.event;

	if (check_deadline(input, event, err) < 0 ||
	    sessions_admit(&writer->sessions, event, input->info.session, input->info.set, ret_row, err) < 0)
		return -1;
	if (event == VSS_EVENT_POST_SNAPSHOT)
		return gather(writer, input, err);
	if (strcmp(writer->partial_session, input->info.session) == 0)
		event_input_clear(&writer->partial);
	return 0;
}

static void start(struct vss_writer *writer, struct bus_call *call, struct event_input *input, bool preempting)
{
	enum vss_event event = input->info.event;
	struct job *job = event == VSS_EVENT_ABORT ? &writer->abort : &writer->work;
	struct session_row *row = NULL;
	struct err err = { 0 };
	int r = admit(writer, input, &row, &err);

	if (r == 0 && preempting)
		cut_short(writer, event, row);
	if (r < 0) {
		bus_call_error(call, &err);
	} else if (r > 0) {
		bus_call_reply(call, json_pack("[{}]"));
	} else if (event == VSS_EVENT_THAW && row->phase == PHASE_BROKEN) {
		job_thaw_broken(call, row);
	} else {
		job_begin(writer, job, call, input);
		job_call(writer, job);
		return;
	}
	event_input_clear(input);
}

static void request_run(struct vss_writer *writer, struct request *request)
{
	struct bus_call *call = request->call;
	struct event_input input;
	struct err err = { 0 };
	bool preempting = preempts(request, &writer->work);
	enum vss_event event = request->event;

	request_unlink(request);
	if (event_input_read(&input, event, bus_call_args(call), take_fd, call, &err) < 0)
		bus_call_error(call, &err);
	else
		start(writer, call, &input, preempting);
}

void requests_run(struct vss_writer *writer)
{
	struct request *request = writer->requests;

	while (request) {
		if (!may_run(writer, request)) {
			request = request->next;
			continue;
		}
		if (request->refused) {
			request_unlink(request);
		} else if (request->event == VSS_EVENT_IDENTIFY) {
			struct bus_call *call = request->call;
			request_unlink(request);
			identify(writer, call);
		} else {
			break_take(writer);
			request_run(writer, request);
			aborts_run(writer);
		}
		/* Whatever ran may have let earlier ones in. */
		request = writer->requests;
	}
}

/* Requests whose sender is being asked for are freed later: the answer's callback still points to them. */
void requests_bus_lost(struct vss_writer *writer)
{
	for (struct request *r = writer->requests, *next; r; r = next) {
		next = r->next;
		r->call = NULL;
		if (!r->asking)
			request_unlink(r);
	}
	event_input_clear(&writer->partial);
}

void requests_free(struct vss_writer *writer)
{
	while (writer->requests)
		request_unlink(writer->requests);
	event_input_clear(&writer->partial);
}
