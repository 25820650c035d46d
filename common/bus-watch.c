/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names, signals, and the users of peers. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bus-internal.h"
#include "common/bus-value.h"
#include "common/cleanup.h"
#include "common/clock.h"

/* ---- names ---- */

static int driver_call(struct bus *bus, const char *method, const char *signature, json_t *args, bus_reply_fn fn,
		       void *data, struct err *err)
{
	return bus_call(bus, DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS, method, signature, args, NULL, 0,
			USEC_INFINITY, fn, data, NULL, err);
}

int bus_request_name(struct bus *bus, const char *name, bus_reply_fn fn, void *data, struct err *err)
{
	return driver_call(bus, "RequestName", "su", json_pack("[si]", name, DBUS_NAME_FLAG_DO_NOT_QUEUE), fn, data,
			   err);
}

int bus_release_name(struct bus *bus, const char *name, bus_reply_fn fn, void *data, struct err *err)
{
	return driver_call(bus, "ReleaseName", "s", json_pack("[s]", name), fn, data, err);
}

/* ---- signals ---- */

struct bus_watch {
	struct bus *bus;
	struct bus_watch *next;
	bool dead; /* freed while signals are being delivered */
	char *rule;

	char *name; /* of a name watch */
	bus_name_fn name_fn;
	struct bus_pending *asked; /* whether the name is there at all */

	char *path_namespace, *interface; /* of a signal watch */
	struct bus_owner *sender; /* NULL: anybody may send */
	bus_signal_fn signal_fn;
	void *data;
};

static bool rule_is_shared(const struct bus_watch *watch)
{
	for (const struct bus_watch *w = watch->bus->watches; w; w = w->next)
		if (w != watch && !w->dead && strcmp(w->rule, watch->rule) == 0)
			return true;
	return false;
}

static void watch_destroy(struct bus_watch *w)
{
	free(w->rule);
	free(w->name);
	free(w->path_namespace);
	free(w->interface);
	free(w);
}

static struct bus_watch *watch_new(struct bus *bus, char *rule, void *data)
{
	struct bus_watch *w = calloc(1, sizeof *w);

	if (!w || !rule) {
		free(w);
		free(rule);
		return NULL;
	}
	*w = (struct bus_watch){ .bus = bus, .rule = rule, .data = data, .next = bus->watches };
	if (!rule_is_shared(w))
		driver_call(bus, "AddMatch", "s", json_pack("[s]", rule), NULL, NULL, NULL);
	bus->watches = w;
	return w;
}

static char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *text, ...)
{
	va_list args;
	char *result = NULL;

	va_start(args, text);
	if (vasprintf(&result, text, args) < 0)
		result = NULL;
	va_end(args);
	return result;
}

#define NAME_RULES_MAX 256 /* a bus with Debian's limits allows a connection 512 rules */

static bool has_many_name_rules(const struct bus *bus)
{
	size_t n = 0;

	for (const struct bus_watch *w = bus->watches; w; w = w->next)
		n += w->name != NULL;
	return n >= NAME_RULES_MAX;
}

static void presence_answered(const struct bus_reply *reply, void *data)
{
	struct bus_watch *w = data;

	w->asked = NULL;
	if (!reply->error && json_is_false(json_array_get(reply->args, 0)))
		w->name_fn(w->name, false, w->data);
}

/* A rule for each name, so that others' comings and goings do not wake the host; one for all names where many are watched. */
struct bus_watch *bus_watch_name(struct bus *bus, const char *name, bus_name_fn fn, void *data)
{
	bool broad = has_many_name_rules(bus);
	struct bus_watch *w = watch_new(bus,
					format("type='signal',sender='%s',interface='%s',member='NameOwnerChanged'%s%s%s",
					       DBUS_SERVICE_DBUS, DBUS_INTERFACE_DBUS, broad ? "" : ",arg0='",
					       broad ? "" : name, broad ? "" : "'"),
					data);

	if (w) {
		w->name = strdup(name);
		w->name_fn = fn;
		/* A connection that has ended before the rule was there never ends again: it has to be asked for. */
		if (*name == ':')
			bus_call(bus, DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS, "NameHasOwner", "s",
				 json_pack("[s]", name), NULL, 0, USEC_INFINITY, presence_answered, w, &w->asked, NULL);
	}
	return w;
}

/* Anybody may send us a signal directly, past all match rules: only the sender name's owner is believed. Such names
 * are few and are kept for the life of the connection. */
struct bus_owner {
	struct bus_owner *next;
	char *name, *unique;
};

static void owner_set(struct bus_owner *owner, const char *unique)
{
	free(owner->unique);
	owner->unique = *unique ? strdup(unique) : NULL;
}

static void owner_answered(const struct bus_reply *reply, void *data)
{
	const char *unique = json_string_value(json_array_get(reply->args, 0));

	if (!reply->error && unique)
		owner_set(data, unique);
}

static struct bus_owner *owner_track(struct bus *bus, const char *name)
{
	struct bus_owner *owner;

	for (owner = bus->owners; owner; owner = owner->next)
		if (strcmp(owner->name, name) == 0)
			return owner;
	owner = calloc(1, sizeof *owner);
	if (!owner || !(owner->name = strdup(name))) {
		free(owner);
		return NULL;
	}
	owner->next = bus->owners;
	bus->owners = owner;
	driver_call(bus, "AddMatch", "s",
		    json_pack("[o]", json_sprintf("type='signal',sender='%s',interface='%s',member='NameOwnerChanged',"
						  "arg0='%s'",
						  DBUS_SERVICE_DBUS, DBUS_INTERFACE_DBUS, name)),
		    NULL, NULL, NULL);
	driver_call(bus, "GetNameOwner", "s", json_pack("[s]", name), owner_answered, owner, NULL);
	return owner;
}

static void owners_free(struct bus *bus)
{
	while (bus->owners) {
		struct bus_owner *owner = bus->owners;
		bus->owners = owner->next;
		free(owner->name);
		free(owner->unique);
		free(owner);
	}
}

struct bus_watch *bus_watch_signals(struct bus *bus, const char *sender, const char *path_namespace,
				    const char *interface, bus_signal_fn fn, void *data)
{
	struct bus_watch *w = watch_new(bus,
					format("type='signal',%s%s%sinterface='%s',path_namespace='%s'",
					       sender ? "sender='" : "", sender ? sender : "", sender ? "'," : "",
					       interface, path_namespace),
					data);

	if (!w)
		return NULL;
	w->path_namespace = strdup(path_namespace);
	w->interface = strdup(interface);
	w->signal_fn = fn;
	if (sender)
		w->sender = owner_track(bus, sender);
	return w;
}

struct bus_watch *bus_watch_free(struct bus_watch *watch)
{
	if (!watch)
		return NULL;
	if (watch->asked)
		bus_pending_cancel(watch->asked);
	if (!rule_is_shared(watch))
		driver_call(watch->bus, "RemoveMatch", "s", json_pack("[s]", watch->rule), NULL, NULL, NULL);
	watch->dead = true;
	if (watch->bus->dispatching)
		return NULL; /* signals_sweep frees it when no delivery can hold on to it any more */
	for (struct bus_watch **link = &watch->bus->watches; *link; link = &(*link)->next) {
		if (*link == watch) {
			*link = watch->next;
			break;
		}
	}
	watch_destroy(watch);
	return NULL;
}

static void signals_sweep(struct bus *bus)
{
	struct bus_watch **link = &bus->watches;

	while (*link) {
		struct bus_watch *w = *link;
		if (!w->dead) {
			link = &w->next;
			continue;
		}
		*link = w->next;
		watch_destroy(w);
	}
}

void bus_watches_free(struct bus *bus)
{
	while (bus->watches) {
		struct bus_watch *w = bus->watches;
		bus->watches = w->next;
		watch_destroy(w);
	}
	while (bus->peers)
		bus_peer_forget(bus, bus->peers);
	owners_free(bus);
}

/* ---- users of peers ---- */

struct uid_waiter {
	struct uid_waiter *next;
	bus_uid_fn fn;
	void *data;
};

struct bus_peer {
	struct bus_peer *next;
	struct bus *bus;
	char *name;
	uid_t uid;
	bool known, asking;
	struct uid_waiter *waiters;
	uint64_t used; /* for eviction */
};

#define PEERS_MAX 4096

static void peer_tell(struct bus_peer *peer)
{
	while (peer->waiters) {
		struct uid_waiter *w = peer->waiters;
		peer->waiters = w->next;
		w->fn(peer->uid, w->data);
		free(w);
	}
}

void bus_peer_forget(struct bus *bus, struct bus_peer *peer)
{
	for (struct bus_peer **link = &bus->peers; *link; link = &(*link)->next) {
		if (*link == peer) {
			*link = peer->next;
			break;
		}
	}
	bus->n_peers--;
	peer->uid = (uid_t)-1;
	peer_tell(peer);
	free(peer->name);
	free(peer);
}

static struct bus_peer *peer_find(struct bus *bus, const char *name)
{
	for (struct bus_peer *p = bus->peers; p; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static void peer_answered(const struct bus_reply *reply, void *data)
{
	struct bus_peer *peer = data;

	peer->asking = false;
	if (reply->error) {
		bus_peer_forget(peer->bus, peer);
		return;
	}
	peer->known = true;
	peer->uid = (uid_t)json_integer_value(json_array_get(reply->args, 0));
	peer_tell(peer);
}

/* Unique names are never reused by a bus, so that what is known stays true; only memory needs a bound. */
static void peers_evict(struct bus *bus)
{
	struct bus_peer *oldest = NULL;

	if (bus->n_peers < PEERS_MAX)
		return;
	for (struct bus_peer *p = bus->peers; p; p = p->next)
		if (!p->asking && (!oldest || p->used < oldest->used))
			oldest = p;
	if (oldest)
		bus_peer_forget(bus, oldest);
}

void bus_peer_uid(struct bus *bus, const char *unique_name, bus_uid_fn fn, void *data)
{
	struct bus_peer *peer = peer_find(bus, unique_name);
	struct uid_waiter *waiter;

	if (peer && peer->known) {
		peer->used = clock_now();
		fn(peer->uid, data);
		return;
	}
	if (!peer) {
		peers_evict(bus);
		peer = calloc(1, sizeof *peer);
		if (!peer || !(peer->name = strdup(unique_name))) {
			free(peer);
			fn((uid_t)-1, data);
			return;
		}
		peer->bus = bus;
		peer->used = clock_now();
		peer->next = bus->peers;
		bus->peers = peer;
		bus->n_peers++;
	}
	waiter = malloc(sizeof *waiter);
	if (!waiter) {
		fn((uid_t)-1, data);
		return;
	}
	*waiter = (struct uid_waiter){ peer->waiters, fn, data };
	peer->waiters = waiter;
	if (peer->asking)
		return;
	peer->asking = true;
	if (driver_call(bus, "GetConnectionUnixUser", "s", json_pack("[s]", unique_name), peer_answered, peer, NULL) < 0)
		bus_peer_forget(bus, peer);
}

/* ---- delivery of signals ---- */

static bool signal_is_for(const struct bus_watch *w, DBusMessage *message)
{
	const char *path = dbus_message_get_path(message), *interface = dbus_message_get_interface(message);
	size_t n = strlen(w->path_namespace);

	if (w->sender && (!w->sender->unique || !dbus_message_has_sender(message, w->sender->unique)))
		return false;
	return interface && strcmp(interface, w->interface) == 0 && path && strncmp(path, w->path_namespace, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/');
}

static void name_changed(struct bus *bus, DBusMessage *message)
{
	const char *name, *old, *new;

	if (!dbus_message_has_sender(message, DBUS_SERVICE_DBUS) ||
	    !dbus_message_get_args(message, NULL, DBUS_TYPE_STRING, &name, DBUS_TYPE_STRING, &old, DBUS_TYPE_STRING,
				   &new, DBUS_TYPE_INVALID))
		return;
	if (!*new) {
		struct bus_peer *peer = peer_find(bus, name);
		if (peer && !peer->asking)
			bus_peer_forget(bus, peer);
	}
	for (struct bus_owner *owner = bus->owners; owner; owner = owner->next)
		if (strcmp(owner->name, name) == 0)
			owner_set(owner, new);
	for (struct bus_watch *w = bus->watches; w; w = w->next) {
		if (w->dead || !w->name || strcmp(w->name, name) != 0)
			continue;
		if (w->asked)
			bus_pending_cancel(w->asked);
		if (*old && *new) /* changed hands: the old owner is gone before the new one is there */
			w->name_fn(name, false, w->data);
		if (!w->dead)
			w->name_fn(name, *new != '\0', w->data);
	}
}

void bus_signal_received(struct bus *bus, DBusMessage *message)
{
	autojson json_t *args = NULL;
	int fds[BUS_VALUE_FDS_MAX];
	size_t n_fds = 0;

	if (dbus_message_is_signal(message, DBUS_INTERFACE_DBUS, "NameOwnerChanged")) {
		name_changed(bus, message);
		signals_sweep(bus);
		return;
	}
	for (struct bus_watch *w = bus->watches; w; w = w->next) {
		if (w->dead || !w->signal_fn || !signal_is_for(w, message))
			continue;
		if (!args && bus_value_read(message, &args, fds, &n_fds, NULL) < 0)
			return;
		w->signal_fn(dbus_message_get_path(message), dbus_message_get_member(message), args, w->data);
	}
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	signals_sweep(bus);
}
