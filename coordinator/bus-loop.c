/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/bus-loop.h"

#include <stdlib.h>
#include <sys/epoll.h>

struct bus_source {
	struct bus *bus;
	sd_event_source *io;
	bus_lost_fn fn;
	void *data;
};

static int on_io(sd_event_source *io, int fd, uint32_t revents, void *data)
{
	struct bus_source *source = data;

	if (bus_dispatch(source->bus) < 0) {
		sd_event_source_set_enabled(io, SD_EVENT_OFF);
		source->fn(source->data);
	}
	return 0;
}

struct bus_source *bus_source_new(sd_event *event, struct bus *bus, bus_lost_fn fn, void *data)
{
	struct bus_source *source = malloc(sizeof *source);

	if (!source)
		return NULL;
	*source = (struct bus_source){ .bus = bus, .fn = fn, .data = data };
	if (sd_event_add_io(event, &source->io, bus_fd(bus), EPOLLIN, on_io, source) < 0)
		return bus_source_free(source);
	return source;
}

struct bus_source *bus_source_free(struct bus_source *source)
{
	if (!source)
		return NULL;
	sd_event_source_disable_unref(source->io);
	free(source);
	return NULL;
}
