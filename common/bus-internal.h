/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bus.c (connection and loop), bus-call.c (calls), bus-watch.c (names, signals, users of peers), bus-object.c
 * (exported objects) and bus-introspect.c share. */
#pragma once

#include <dbus/dbus.h>

#include "common/bus.h"

#define BUS_INTERFACE_OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define BUS_CALLS_PER_SENDER 128 /* kept at a time; a bus with Debian's limits lets a connection have no more */
#define BUS_FDS_QUEUED 256	 /* received and not yet looked at: a flood of descriptors must not use up all there are */
#define BUS_OUTGOING_MAX (64L << 20) /* bytes; beyond it nothing is handled: a stranger that reads no answers is not answered */
#define BUS_TURN_MESSAGES 256 /* messages handled in one bus_dispatch, so that a flood cannot starve the host's loop */

struct bus_fd_watch; /* libdbus' watches on one descriptor */
struct bus_object;
struct bus_peer;

struct bus_pending {
	struct bus *bus;
	struct bus_pending *prev, *next;
	DBusPendingCall *call;
	uint64_t deadline;
	bus_reply_fn fn;
	void *data;
};

struct bus {
	DBusConnection *connection;
	DBusPendingCall *hello; /* while unanswered */
	int epoll_fd, timer_fd, kick_fd;
	bool lost, dispatching;
	bool closing; /* in bus_free: what ends there must not begin anew */
	uint64_t timer_armed; /* deadline for which timer_fd is set */

	struct bus_fd_watch *fd_watches;
	struct bus_timeout *timeouts; /* libdbus' own: authentication only */
	struct bus_pending *pendings;
	size_t n_pendings;
	struct bus_watch *watches;
	struct bus_owner *owners;
	struct bus_peer *peers; /* uid cache */
	size_t n_peers;
	struct bus_object *objects; /* newest first */
	struct bus_call *calls;     /* incoming, unanswered */
	uint64_t n_received;
	struct bus_object *changed; /* objects with changes to announce */
	char *manager_path;
	bool ready; /* Hello is answered */
};

/* bus.c */
int bus_send(struct bus *bus, DBusMessage *message);
void bus_kick(struct bus *bus); /* wakes the host's loop for a turn */
void bus_arm(struct bus *bus, uint64_t deadline);

/* bus-call.c */
void bus_calls_expire(struct bus *bus, uint64_t now);
uint64_t bus_calls_next_deadline(const struct bus *bus);
void bus_calls_fail(struct bus *bus, enum vss_error error, const char *why);

/* bus-watch.c */
void bus_signal_received(struct bus *bus, DBusMessage *message);
void bus_watches_free(struct bus *bus);
void bus_peer_forget(struct bus *bus, struct bus_peer *peer);

/* bus-object.c */
DBusHandlerResult bus_object_message(struct bus *bus, struct bus_object *object, DBusMessage *message);
void bus_objects_flush(struct bus *bus);
void bus_objects_free(struct bus *bus);
void bus_incoming_free(struct bus *bus);
void bus_reply_values(struct bus *bus, DBusMessage *to, const char *signature, json_t *args); /* args is taken */
bool bus_is_manager(const struct bus *bus, const char *path);

/* bus-introspect.c */
void bus_introspect(struct bus *bus, DBusMessage *message, const struct bus_interface *const *interfaces);
