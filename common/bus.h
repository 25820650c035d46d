/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thin binding over libdbus-1; the only code that includes <dbus/dbus.h> lies in common/bus*.c.
 *
 * A `struct bus` is one private connection with its own epoll descriptor: a host polls bus_fd() for input in whatever
 * loop it has and calls bus_dispatch(). Nothing here blocks but bus_open, bus_call_sync and bus_flush, which vssd uses
 * for its first connection only. Values are JSON (bus-value.h): a{sv} is an object, arrays are arrays, a descriptor
 * 'h' is an integer index into the list of descriptors beside the values. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct bus;
struct bus_call;
struct bus_pending;
struct bus_watch;

/* ---- connection ---- */

/* Connects, authenticates and says Hello, blocking. address NULL: the system bus, which libdbus takes from
 * DBUS_SYSTEM_BUS_ADDRESS where that is set. */
int bus_open(struct bus **ret_bus, const char *address, struct err *err);
/* The same without blocking: calls may be queued at once and go out when the bus has answered Hello. */
int bus_open_async(struct bus **ret_bus, const char *address, struct err *err);
/* Closes; every pending call completes with VSS_E_CANCELLED, every kept incoming call is answered. */
struct bus *bus_free(struct bus *bus);
/* Completes every pending call with VSS_E_CANCELLED, for an owner that frees what their callbacks use. */
void bus_cancel_calls(struct bus *bus);

int bus_fd(const struct bus *bus);
/* Handles what is ready, never blocks. -ECONNRESET once the connection is lost and everything has been delivered. */
int bus_dispatch(struct bus *bus);
int bus_flush(struct bus *bus);
const char *bus_unique_name(const struct bus *bus); /* NULL before Hello is answered */
size_t bus_pending_count(const struct bus *bus);    /* calls without an answer yet */

/* ---- outgoing calls ---- */

/* An answer; everything is borrowed for the time of the callback. */
struct bus_reply {
	enum vss_error error;   /* VSS_OK, or what the remote error name maps to; TIMED_OUT, CANCELLED are local;
				   WRITER_NOT_RESPONDING: the peer vanished (NoReply, NameHasNoOwner, ServiceUnknown) */
	const char *error_name; /* the D-Bus error's name, NULL without one */
	const char *message;    /* the error's text, "" without one */
	const char *sender;     /* unique name that answered; "" for local errors */
	json_t *args;           /* JSON array of the answer's arguments, never NULL */
	int *fds;               /* set one to -1 to keep it */
	size_t n_fds;
};
typedef void (*bus_reply_fn)(const struct bus_reply *reply, void *data);

/* Calls; fn runs exactly once, from bus_dispatch, bus_pending_cancel or bus_free, never from bus_call itself (but see
 * -1). signature describes args, a JSON array that is taken. deadline is absolute CLOCK_MONOTONIC usec, USEC_INFINITY
 * for none. fn may be NULL: then no answer is asked for. -1: not sent, fn will not run.
 * *ret_pending (nullable) is valid until fn runs. */
int bus_call(struct bus *bus, const char *destination, const char *path, const char *interface, const char *method,
	     const char *signature, json_t *args, const int *fds, size_t n_fds, uint64_t deadline, bus_reply_fn fn,
	     void *data, struct bus_pending **ret_pending, struct err *err);
/* Gives the call a new deadline. */
void bus_pending_extend(struct bus_pending *pending, uint64_t deadline);
/* Completes the call with VSS_E_CANCELLED; a later answer is dropped. */
void bus_pending_cancel(struct bus_pending *pending);

/* For clients: waits for the answer. *ret_args (owned) is set on success; ret_fds as many as max_fds, owned. */
int bus_call_sync(struct bus *bus, const char *destination, const char *path, const char *interface,
		  const char *method, const char *signature, json_t *args, const int *fds, size_t n_fds,
		  uint64_t deadline, json_t **ret_args, int *ret_fds, size_t max_fds, size_t *ret_n_fds,
		  struct err *err);

/* ---- names and signals ---- */

typedef void (*bus_name_fn)(const char *name, bool owned, void *data);
int bus_request_name(struct bus *bus, const char *name, bus_reply_fn fn, void *data, struct err *err);
int bus_release_name(struct bus *bus, const char *name, bus_reply_fn fn, void *data, struct err *err);

/* fn runs whenever name gains (owned) or loses its owner; for a connection's own name (":1.2") also if it is gone already.
 * One match rule per distinct name. */
struct bus_watch *bus_watch_name(struct bus *bus, const char *name, bus_name_fn fn, void *data);
struct bus_watch *bus_watch_free(struct bus_watch *watch); /* accepts NULL, returns NULL */

typedef void (*bus_signal_fn)(const char *path, const char *member, json_t *args, void *data);
/* Signals of one interface from `sender` (nullable) at path or below it. */
struct bus_watch *bus_watch_signals(struct bus *bus, const char *sender, const char *path_namespace,
				    const char *interface, bus_signal_fn fn, void *data);

/* The peer's numeric user: from the cache at once, else asked of the bus. uid is (uid_t)-1 if the peer is gone. */
typedef void (*bus_uid_fn)(uid_t uid, void *data);
void bus_peer_uid(struct bus *bus, const char *unique_name, bus_uid_fn fn, void *data);

/* ---- exported objects ---- */

/* A handler has answered, or keeps the call for later (bus_call_reply, bus_call_error); a call freed unanswered, or
 * whose connection closes, is answered with Cancelled. A call must be answered exactly once. */
typedef void (*bus_method_fn)(struct bus_call *call, void *object);
typedef json_t *(*bus_get_fn)(void *object); /* a new reference */

struct bus_method {
	const char *name, *in, *out; /* signatures */
	const char *in_names, *out_names; /* argument names, separated by spaces */
	bus_method_fn fn;
};
struct bus_property {
	const char *name, *signature;
	bus_get_fn get;
	bool silent; /* changes are not announced (EmitsChangedSignal=false) */
};
struct bus_signal {
	const char *name, *signature, *arg_names;
};
/* Tables end with a NULL name. They must outlive the object. */
struct bus_interface {
	const char *name;
	const struct bus_method *methods;
	const struct bus_property *properties;
	const struct bus_signal *signals;
};

/* Exports object at path with the NULL-ended list of interfaces; Introspectable, Properties and Peer come by
 * themselves. object is passed to handlers and getters. */
int bus_export(struct bus *bus, const char *path, const struct bus_interface *const *interfaces, void *object,
	       struct err *err);
void bus_unexport(struct bus *bus, const char *path);
/* Makes path an ObjectManager of all objects exported below it (InterfacesAdded and Removed announced from now on). */
int bus_export_manager(struct bus *bus, const char *path, struct err *err);

/* Sends PropertiesChanged for the named property of an exported object; several of one turn go out as one signal. */
void bus_changed(struct bus *bus, const char *path, const char *interface, const char *property);
/* args is taken. */
void bus_emit(struct bus *bus, const char *path, const char *interface, const char *signal, const char *signature,
	      json_t *args);
/* The introspection XML of one interface, as it is served. Caller frees. */
char *bus_interface_xml(const struct bus_interface *interface);

/* ---- incoming calls ---- */

size_t bus_calls_kept(const struct bus *bus);     /* not answered yet */
uint64_t bus_calls_received(const struct bus *bus); /* since the connection was made */

const char *bus_call_sender(const struct bus_call *call); /* unique name */
const char *bus_call_path(const struct bus_call *call);
struct bus *bus_call_bus(const struct bus_call *call);
/* The arguments, already checked against the method's signature; borrowed. */
json_t *bus_call_args(const struct bus_call *call);
/* Takes descriptor number index; -1 if there is none. */
int bus_call_take_fd(struct bus_call *call, json_int_t index);

/* Both end the call. args is taken and matches the method's out signature. */
void bus_call_reply(struct bus_call *call, json_t *args);
void bus_call_reply_fds(struct bus_call *call, json_t *args, const int *fds, size_t n_fds);
void bus_call_error(struct bus_call *call, const struct err *err);
