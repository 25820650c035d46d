/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stage.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"

#define CALL_LIMIT (60 * USEC_PER_SEC)

struct stage {
	char *address;
	struct bus *home;   /* owns the name */
	struct bus *sender; /* sends the events */
	bool named, name_failed;
	bool refuse;
	unsigned registrations, keep_alives;
	json_t *metadata;
	char writer_name[256], writer_path[256];
	int companion_fd;
	stage_dispatch_fn companion_dispatch;
	void *companion;
};

/* ---- org.vssd.Coordinator1, as much as writers use ---- */

/* A command may bring several writers: the first to register is the one that is looked at. */
static void note_registration(struct stage *stage, struct bus_call *call)
{
	json_t *args = bus_call_args(call), *metadata = json_array_get(args, 1);

	if (stage->metadata &&
	    !json_equal(json_object_get(metadata, "Instance"), json_object_get(stage->metadata, "Instance")))
		return;
	json_decref(stage->metadata);
	stage->metadata = json_incref(metadata);
	snprintf(stage->writer_name, sizeof stage->writer_name, "%s", bus_call_sender(call));
	snprintf(stage->writer_path, sizeof stage->writer_path, "%s", json_string_value(json_array_get(args, 0)));
	stage->registrations++;
}

static void register_writer(struct bus_call *call, void *object)
{
	struct stage *stage = object;
	struct err err = { 0 };

	if (stage->refuse) {
		err_set(&err, VSS_E_ACCESS_DENIED, "The registration is refused for this test");
		bus_call_error(call, &err);
		return;
	}
	note_registration(stage, call);
	bus_call_reply(call, json_pack("[s]", VSS_WRITER_PATH "/00000000000000000000000000000000"));
}

static void keep_alive(struct bus_call *call, void *object)
{
	struct stage *stage = object;

	stage->keep_alives++;
	bus_call_reply(call, json_array());
}

static void unregister_writer(struct bus_call *call, void *object)
{
	bus_call_reply(call, json_array());
}

static const struct bus_method methods[] = {
	{ "RegisterWriter", "oa{sv}", "o", "path metadata", "record", register_writer },
	{ "UnregisterWriter", "sa{sv}", "", "instance options", "", unregister_writer },
	{ "KeepAlive", "sa{sv}", "", "session options", "", keep_alive },
	{ 0 },
};
static const struct bus_interface coordinator = { .name = VSS_IFACE_COORDINATOR, .methods = methods };
static const struct bus_interface *const interfaces[] = { &coordinator, NULL };

/* ---- waiting ---- */

static int milliseconds_until(uint64_t end)
{
	uint64_t now = clock_now();

	return now >= end ? 0 : (int)((end - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

static void turn(struct stage *stage, uint64_t end)
{
	struct pollfd fds[] = {
		{ .fd = stage->home ? bus_fd(stage->home) : -1, .events = POLLIN },
		{ .fd = stage->sender ? bus_fd(stage->sender) : -1, .events = POLLIN },
		{ .fd = stage->companion_fd, .events = POLLIN },
	};

	poll(fds, ARRAY_SIZE(fds), milliseconds_until(end));
	if (stage->home)
		bus_dispatch(stage->home);
	if (stage->sender)
		bus_dispatch(stage->sender);
	if (stage->companion_dispatch)
		stage->companion_dispatch(stage->companion);
}

bool stage_settle(struct stage *stage, const bool *done, unsigned milliseconds)
{
	uint64_t end = clock_now() + milliseconds * USEC_PER_MSEC;

	while (!*done && clock_now() < end)
		turn(stage, end);
	return *done;
}

void stage_wait(struct stage *stage, unsigned milliseconds)
{
	bool never = false;

	stage_settle(stage, &never, milliseconds);
}

bool stage_wait_registrations(struct stage *stage, unsigned count, unsigned milliseconds)
{
	uint64_t end = clock_now() + milliseconds * USEC_PER_MSEC;

	while (stage->registrations < count && clock_now() < end)
		turn(stage, end);
	return stage->registrations >= count;
}

/* ---- coming and going ---- */

static void name_answered(const struct bus_reply *reply, void *data)
{
	struct stage *stage = data;

	stage->named = true;
	stage->name_failed = reply->error || json_integer_value(json_array_get(reply->args, 0)) != 1;
}

int stage_new_sender(struct stage *stage, struct err *err)
{
	stage->sender = bus_free(stage->sender);
	return bus_open(&stage->sender, stage->address, err);
}

int stage_appear(struct stage *stage, struct err *err)
{
	stage->named = false;
	if (bus_open(&stage->home, stage->address, err) < 0 || stage_new_sender(stage, err) < 0 ||
	    bus_export(stage->home, VSS_ROOT_PATH, interfaces, stage, err) < 0 ||
	    bus_request_name(stage->home, VSS_BUS_NAME, name_answered, stage, err) < 0)
		return -1;
	if (!stage_settle(stage, &stage->named, 10000) || stage->name_failed)
		return err_set(err, VSS_E_NOT_AVAILABLE, "The name %s cannot be had on the bus", VSS_BUS_NAME);
	return 0;
}

void stage_vanish(struct stage *stage)
{
	stage->home = bus_free(stage->home);
	stage->sender = bus_free(stage->sender);
}

int stage_open(struct stage **ret_stage, const char *address, struct err *err)
{
	struct stage *stage = calloc(1, sizeof *stage);

	if (!stage || !(stage->address = strdup(address))) {
		free(stage);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	}
	stage->companion_fd = -1;
	if (stage_appear(stage, err) < 0) {
		stage_close(stage);
		return -1;
	}
	*ret_stage = stage;
	return 0;
}

struct stage *stage_close(struct stage *stage)
{
	if (!stage)
		return NULL;
	stage_vanish(stage);
	json_decref(stage->metadata);
	free(stage->address);
	free(stage);
	return NULL;
}

void stage_set_companion(struct stage *stage, int fd, stage_dispatch_fn dispatch, void *data)
{
	stage->companion_fd = fd;
	stage->companion_dispatch = dispatch;
	stage->companion = data;
}

void stage_refuse_registrations(struct stage *stage, bool refuse)
{
	stage->refuse = refuse;
}

unsigned stage_registrations(const struct stage *stage)
{
	return stage->registrations;
}

unsigned stage_keep_alives(const struct stage *stage)
{
	return stage->keep_alives;
}

json_t *stage_metadata(const struct stage *stage)
{
	return stage->metadata;
}

const char *stage_writer_name(const struct stage *stage)
{
	return stage->writer_name;
}

const char *stage_writer_path(const struct stage *stage)
{
	return stage->writer_path;
}

/* ---- events ---- */

struct waiting {
	struct stage_answer *answer;
	bool *done;
	uint64_t sent;
};

static void answered(const struct bus_reply *reply, void *data)
{
	autofree struct waiting *waiting = data;
	struct stage_answer *answer = waiting->answer;

	*waiting->done = true;
	*answer = (struct stage_answer){ .error = reply->error, .elapsed = clock_now() - waiting->sent };
	snprintf(answer->error_name, sizeof answer->error_name, "%s", reply->error_name ? reply->error_name : "");
	snprintf(answer->message, sizeof answer->message, "%s", reply->message);
	if (!reply->error)
		answer->body = json_incref(json_array_get(reply->args, 0));
}

static void send(struct stage *stage, const char *method, const char *signature, json_t *args, const int *fds,
		 size_t n_fds, uint64_t limit, struct stage_answer *answer, bool *done)
{
	struct waiting *waiting = malloc(sizeof *waiting);
	struct err err = { 0 };

	*done = false;
	*answer = (struct stage_answer){ 0 };
	if (waiting)
		*waiting = (struct waiting){ answer, done, clock_now() };
	if (waiting && bus_call(stage->sender, stage->writer_name, stage->writer_path, VSS_IFACE_WRITER, method,
				signature, args, fds, n_fds, limit, answered, waiting, NULL, &err) == 0)
		return;
	free(waiting);
	answer->error = err.code ? err.code : VSS_E_OUT_OF_MEMORY;
	snprintf(answer->message, sizeof answer->message, "%s", err.text);
	*done = true;
}

void stage_begin(struct stage *stage, const struct stage_event *event, struct stage_answer *answer, bool *done)
{
	uint64_t now = clock_now(), deadline = event->deadline ? event->deadline : now + CALL_LIMIT;
	json_t *args = json_pack("[ssI]", event->session, event->set, (json_int_t)deadline);

	json_array_append_new(args, event->details ? json_incref(event->details) : json_pack("{ss}", "BackupType", "copy"));
	if (deadline < now)
		deadline = now; /* a test of exactly that; the answer still needs its time */
	send(stage, event->name, "ssta{sv}", args, event->fds, event->n_fds, deadline + USEC_PER_SEC, answer, done);
}

void stage_send(struct stage *stage, const struct stage_event *event, struct stage_answer *answer)
{
	bool done;

	stage_begin(stage, event, answer, &done);
	while (!done)
		stage_settle(stage, &done, 1000);
}

void stage_call(struct stage *stage, const char *method, const char *signature, json_t *args, struct stage_answer *answer)
{
	bool done;

	send(stage, method, signature, args, NULL, 0, clock_now() + CALL_LIMIT, answer, &done);
	while (!done)
		stage_settle(stage, &done, 1000);
}

void stage_answer_clear(struct stage_answer *answer)
{
	json_decref(answer->body);
	*answer = (struct stage_answer){ 0 };
}
