/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of vssd, wired together by main.c, as the faces see them. */
#pragma once

#include <systemd/sd-event.h>

#include "common/bus.h"
#include "coordinator/authority.h"
#include "coordinator/bus-loop.h"
#include "coordinator/catalogue.h"
#include "coordinator/config.h"
#include "coordinator/fanout.h"
#include "coordinator/manifest.h"
#include "coordinator/registry.h"
#include "coordinator/session.h"
#include "coordinator/storage-watch.h"
#include "coordinator/workers.h"

struct session_face;
struct writer_name;
struct shadow_face;
struct storage_face;
struct probe;
struct revert_face;

struct coordinator {
	sd_event *event;
	struct bus *bus;
	struct bus_source *bus_source;
	struct config config;
	struct manifests manifests;
	struct state_store *writer_store, *session_store;
	struct registry *registry;
	struct fanout *fanout;
	struct workers *workers;
	struct locks *locks;
	struct guard *guard;
	struct authority *authority;
	struct catalogue *catalogue;
	struct storage_watch *watch;
	struct session_context sessions;
	char machine_id[33], host_name[65];

	struct session_face *session_faces;
	struct writer_name *writer_names;
	struct shadow_face *shadow_faces;
	struct storage_face *storage_faces;
	struct probe *probe; /* under way; NULL */
	struct revert_face *revert_faces;
};
