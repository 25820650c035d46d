/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bare-writer.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/names.h"

struct bare_writer {
	json_t *metadata;
	json_int_t sequence;
	bool failed;
};

static void identify(struct bus_call *call, void *object)
{
	const struct bare_writer *writer = object;

	bus_call_reply(call, json_pack("[O]", writer->metadata));
}

static void plain(struct bus_call *call, void *object)
{
	bus_call_reply(call, json_pack("[{}]"));
}

static void freeze(struct bus_call *call, void *object)
{
	struct bare_writer *writer = object;

	bus_call_reply(call, json_pack("[{sI}]", "Sequence", ++writer->sequence));
}

static void thaw(struct bus_call *call, void *object)
{
	const struct bare_writer *writer = object;

	bus_call_reply(call, json_pack("[{sI sb}]", "Sequence", writer->sequence, "Unbroken", 1));
}

static bus_method_fn handler(enum vss_event event)
{
	if (event == VSS_EVENT_FREEZE)
		return freeze;
	if (event == VSS_EVENT_THAW)
		return thaw;
	return event == VSS_EVENT_IDENTIFY ? identify : plain;
}

static void fill_methods(struct bus_method methods[EVENTS + 1], const struct options *options)
{
	struct bus_method *next = methods;

	for (enum vss_event event = 0; event < EVENTS; event++) {
		if (options_action(options, event, 1)->kind == ACTION_UNKNOWN)
			continue;
		*next++ = (struct bus_method){
			.name = vss_event_name(event),
			.in = event == VSS_EVENT_IDENTIFY ? "a{sv}" : "ssta{sv}",
			.out = "a{sv}",
			.in_names = event == VSS_EVENT_IDENTIFY ? "options" : "session set deadline event",
			.out_names = "answer",
			.fn = handler(event),
		};
	}
	*next = (struct bus_method){ 0 };
}

static json_t *metadata(const struct options *options)
{
	static const char *const levels[] = { "front-end", "back-end", "system" };
	json_t *events = json_array(), *files = json_array();
	char instance[ID_SIZE];

	id_new(instance);
	for (enum vss_event event = 0; event < EVENTS; event++)
		if (event != VSS_EVENT_FREEZE && event != VSS_EVENT_THAW && event != VSS_EVENT_ABORT)
			json_array_append_new(events, json_string(vss_event_name(event)));
	for (size_t i = 0; i < options->n_paths; i++)
		json_array_append_new(files, json_pack("{ss ss sb}", "Path", options->paths[i], "Spec", "*", "Recursive", 1));
	json_t *result = json_pack("{ss ss ss ss so ss sI}", "Id", options->id, "Instance",
				   options->instance ? options->instance : instance, "Name", options->name, "Level",
				   levels[options->level], "Events", events, "Scope",
				   options->all_volumes ? "all-volumes" : "components", "FreezeLimitUsec",
				   (json_int_t)(60 * USEC_PER_SEC));
	if (options->n_paths > 0)
		json_object_set_new(result, "Components", json_pack("[{ss ss sO}]", "Name", "data", "Type", "filegroup",
								    "Files", files));
	json_decref(files);
	return result;
}

static void registered(const struct bus_reply *reply, void *data)
{
	struct bare_writer *writer = data;

	writer->failed = reply->error;
	if (reply->error)
		fprintf(stderr, "vss-test-writer: %s\n", reply->message);
	else
		puts("READY");
	fflush(stdout);
}

int bare_writer_run(const struct options *options)
{
	struct bus_method methods[EVENTS + 1];
	const struct bus_interface interface = { .name = VSS_IFACE_WRITER, .methods = methods };
	const struct bus_interface *const interfaces[] = { &interface, NULL };
	struct bare_writer writer = { .metadata = metadata(options),
				      .sequence = (json_int_t)clock_usec(CLOCK_REALTIME) };
	struct bus *bus = NULL;
	struct err err = { 0 };

	fill_methods(methods, options);
	if (bus_open(&bus, NULL, &err) < 0 || bus_export(bus, VSS_WRITER_DEFAULT_PATH, interfaces, &writer, &err) < 0 ||
	    bus_call(bus, VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter", "oa{sv}",
		     json_pack("[sO]", VSS_WRITER_DEFAULT_PATH, writer.metadata), NULL, 0, USEC_INFINITY, registered, &writer,
		     NULL, &err) < 0)
		fprintf(stderr, "vss-test-writer: %s\n", err.text);
	while (bus && err.code == VSS_OK && !writer.failed && bus_dispatch(bus) == 0)
		poll(&(struct pollfd){ .fd = bus_fd(bus), .events = POLLIN }, 1, -1);
	bus_free(bus);
	json_decref(writer.metadata);
	return 1; /* it serves until it is killed */
}
