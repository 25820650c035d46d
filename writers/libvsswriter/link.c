/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to vssd: the connection, the registration, and noticing when either goes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/names.h"
#include "writers/libvsswriter/writer.h"

#define CONNECT_BACKOFF_MIN (100 * USEC_PER_MSEC)
#define CONNECT_BACKOFF_MAX (5 * USEC_PER_SEC)
#define REGISTER_BACKOFF_MIN (1 * USEC_PER_SEC)
#define REGISTER_BACKOFF_MAX (60 * USEC_PER_SEC)
#define REGISTER_LIMIT (30 * USEC_PER_SEC) /* vssd may have to be started for it */

/* ---- notes that the bus' callbacks leave ---- */

static void vssd_changed(const char *name, bool owned, void *data)
{
	struct vss_writer *writer = data;

	if (!owned)
		writer->link.name_lost = true;
	writer->link.name_gained = owned;
}

static void holder_changed(const char *name, bool owned, void *data)
{
	struct vss_writer *writer = data;

	if (!owned)
		writer->link.holder_lost = true;
}

static void holder_asked(const struct bus_reply *reply, void *data)
{
	struct vss_writer *writer = data;

	if (!reply->error && json_is_false(json_array_get(reply->args, 0)))
		writer->link.holder_lost = true;
}

static uint64_t double_up_to(uint64_t backoff, uint64_t max)
{
	return backoff * 2 < max ? backoff * 2 : max;
}

static void registered(const struct bus_reply *reply, void *data)
{
	struct vss_writer *writer = data;
	struct link *link = &writer->link;

	link->registering = NULL;
	if (!reply->error) {
		link->registered = true;
		link->register_backoff = REGISTER_BACKOFF_MIN;
		writer_set_status(writer, "");
		return;
	}
	if (reply->error == VSS_E_CANCELLED)
		return;
	writer_set_status(writer, *reply->message ? reply->message : reply->error_name);
	/* Not there, and not startable either: its name will tell. A refusal may be lifted: ask now and then. */
	if (reply->error == VSS_E_WRITER_NOT_RESPONDING)
		return;
	link->register_at = clock_now() + link->register_backoff;
	link->register_backoff = double_up_to(link->register_backoff, REGISTER_BACKOFF_MAX);
}

/* ---- registration ---- */

static void send_registration(struct vss_writer *writer)
{
	struct link *link = &writer->link;
	struct err err = { 0 };

	link->register_at = USEC_INFINITY;
	if (link->registering)
		return;
	json_decref(writer->metadata);
	writer->metadata = writer_metadata(writer);
	json_t *args = json_pack("[sO]", VSS_WRITER_DEFAULT_PATH, writer->metadata);
	if (bus_call(link->bus, VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter", "oa{sv}", args, NULL,
		     0, clock_now() + REGISTER_LIMIT, registered, writer, &link->registering, &err) < 0) {
		writer_set_status(writer, err.text);
		link->register_at = clock_now() + link->register_backoff;
		link->register_backoff = double_up_to(link->register_backoff, REGISTER_BACKOFF_MAX);
	}
}

/* After Hello, so that the match rule is in place before vssd can answer the registration. */
static void set_up(struct vss_writer *writer)
{
	struct link *link = &writer->link;

	link->set_up = true;
	link->connect_backoff = CONNECT_BACKOFF_MIN;
	link->name_watch = bus_watch_name(link->bus, VSS_BUS_NAME, vssd_changed, writer);
	send_registration(writer);
}

static void vssd_lost(struct vss_writer *writer)
{
	struct link *link = &writer->link;

	link->name_lost = false;
	if (link->registered)
		writer_set_status(writer, "vssd has gone");
	link->registered = false;
	sessions_coordinator_lost(&writer->sessions, "vssd went while the writer was frozen");
	freeze_ended(writer);
}

static void vssd_found(struct vss_writer *writer)
{
	writer->link.name_gained = false;
	/* A registration that is still unanswered is the one that had vssd started. */
	send_registration(writer);
}

static void holder_lost(struct vss_writer *writer)
{
	struct session_row *row = sessions_held(&writer->sessions);

	link_forget_holder(writer);
	if (!row || row->phase == PHASE_THAWING)
		return;
	sessions_break(row, "the connection that had sent Freeze went while the writer was frozen");
	row->abort_due = true;
	freeze_ended(writer);
}

void link_watch_holder(struct vss_writer *writer, const char *sender)
{
	struct link *link = &writer->link;

	link_forget_holder(writer);
	link->holder_watch = bus_watch_name(link->bus, sender, holder_changed, writer);
	/* It may have gone before the watch was set; the bus answers in order. */
	bus_call(link->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s",
		 json_pack("[s]", sender), NULL, 0, USEC_INFINITY, holder_asked, writer, NULL, NULL);
}

void link_forget_holder(struct vss_writer *writer)
{
	writer->link.holder_watch = bus_watch_free(writer->link.holder_watch);
	writer->link.holder_lost = false;
}

void link_keep_alive(struct vss_writer *writer)
{
	struct link *link = &writer->link;
	struct job *job = &writer->work;

	job->deadline = clock_now() + job->span;
	/* Only to a vssd that is there: a call would start one that knows nothing of the session. */
	if (link->bus && link->registered)
		bus_call(link->bus, VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "KeepAlive", "sa{sv}",
			 json_pack("[s{}]", job->session), NULL, 0, USEC_INFINITY, NULL, NULL, NULL, NULL);
}

/* ---- connection ---- */

static int export_and_poll(struct vss_writer *writer, struct err *err)
{
	static const struct bus_interface *const interfaces[] = { &writer_interface, NULL };
	struct bus *bus = writer->link.bus;
	struct epoll_event event = { .events = EPOLLIN };

	if (bus_export(bus, VSS_WRITER_DEFAULT_PATH, interfaces, writer, err) < 0)
		return -1;
	if (epoll_ctl(writer->epoll_fd, EPOLL_CTL_ADD, bus_fd(bus), &event) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot watch the connection to the bus");
	return 0;
}

static void try_to_connect(struct vss_writer *writer)
{
	struct link *link = &writer->link;
	struct err err = { 0 };

	link->connect_at = clock_now() + link->connect_backoff;
	link->connect_backoff = double_up_to(link->connect_backoff, CONNECT_BACKOFF_MAX);
	if (bus_open_async(&link->bus, writer->bus_address, &err) < 0 || export_and_poll(writer, &err) < 0) {
		link->bus = bus_free(link->bus);
		writer_set_status(writer, err.text);
		return;
	}
	link->register_at = USEC_INFINITY;
	link->register_backoff = REGISTER_BACKOFF_MIN;
}

/* bus_free runs what is pending with Cancelled, so nothing may point into the connection by then. */
void link_close(struct vss_writer *writer)
{
	struct link *link = &writer->link;

	if (!link->bus)
		return;
	requests_bus_lost(writer);
	job_drop_call(&writer->work);
	job_drop_call(&writer->abort);
	epoll_ctl(writer->epoll_fd, EPOLL_CTL_DEL, bus_fd(link->bus), NULL);
	link->holder_watch = link->name_watch = NULL;
	link->bus = bus_free(link->bus);
	link->set_up = link->registered = link->name_lost = link->name_gained = link->holder_lost = false;
	link->registering = NULL;
}

int link_dispatch(struct vss_writer *writer)
{
	struct link *link = &writer->link;

	if (!link->bus)
		return 0;
	int r = bus_dispatch(link->bus);
	if (r == 0)
		return 0;
	link_close(writer);
	link->connect_at = clock_now() + link->connect_backoff;
	writer_set_status(writer, "The connection to the bus was lost");
	sessions_coordinator_lost(&writer->sessions, "the bus went while the writer was frozen");
	freeze_ended(writer);
	return r;
}

void link_turn(struct vss_writer *writer)
{
	struct link *link = &writer->link;

	if (!link->bus && link->connect_at <= clock_now())
		try_to_connect(writer);
	if (!link->bus)
		return;
	if (!link->set_up && bus_unique_name(link->bus))
		set_up(writer);
	if (link->name_lost)
		vssd_lost(writer);
	if (link->holder_lost)
		holder_lost(writer);
	if (link->name_gained)
		vssd_found(writer);
	if (link->register_at <= clock_now())
		send_registration(writer);
}

uint64_t link_next_time(const struct vss_writer *writer)
{
	return writer->link.bus ? writer->link.register_at : writer->link.connect_at;
}
