/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a struct bus in vssd's event loop. */
#pragma once

#include <systemd/sd-event.h>

#include "common/bus.h"

/* fn runs once, when the connection is lost; it must not free the bus. */
typedef void (*bus_lost_fn)(void *data);

struct bus_source;
struct bus_source *bus_source_new(sd_event *event, struct bus *bus, bus_lost_fn fn, void *data);
struct bus_source *bus_source_free(struct bus_source *source);
