/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/fanout.h"

#include <stdlib.h>
#include <string.h>

#include "common/names.h"
#include "coordinator/bus-loop.h"

struct sender {
	struct fanout *fanout;
	struct sender *next;
	struct bus *bus;
	struct bus_source *source;
	bool tainted; /* a call stays unanswered at the bus for as long as this connection lives */
	bool lost;
	size_t calls;
};

struct fanout_call {
	struct sender *sender;
	struct bus_pending *pending;
	bus_reply_fn fn; /* NULL once cancelled */
	void *data;
};

struct fanout {
	sd_event *event;
	sd_event_source *reaper; /* frees ended senders outside their own callbacks */
	struct sender *senders;
	size_t n_senders;
	unsigned holds;
};

static struct sender *sender_free(struct sender *sender)
{
	if (!sender)
		return NULL;
	bus_source_free(sender->source);
	bus_free(sender->bus);
	free(sender);
	return NULL;
}

static void on_lost(void *data)
{
	struct sender *sender = data;

	sender->lost = true;
	sd_event_source_set_enabled(sender->fanout->reaper, SD_EVENT_ONESHOT);
}

static int reap(sd_event_source *source, void *data)
{
	struct fanout *fanout = data;
	struct sender **link = &fanout->senders;

	while (*link && fanout->holds == 0) {
		struct sender *sender = *link;
		if (sender->calls > 0 || !(sender->tainted || sender->lost)) {
			link = &sender->next;
			continue;
		}
		*link = sender->next;
		fanout->n_senders--;
		sender_free(sender);
	}
	return 0;
}

struct fanout *fanout_new(sd_event *event)
{
	struct fanout *fanout = calloc(1, sizeof *fanout);

	if (!fanout)
		return NULL;
	fanout->event = sd_event_ref(event);
	if (sd_event_add_defer(event, &fanout->reaper, reap, fanout) < 0)
		return fanout_free(fanout);
	sd_event_source_set_enabled(fanout->reaper, SD_EVENT_OFF);
	return fanout;
}

struct fanout *fanout_free(struct fanout *fanout)
{
	if (!fanout)
		return NULL;
	while (fanout->senders) {
		struct sender *sender = fanout->senders;
		fanout->senders = sender->next;
		sender_free(sender);
	}
	sd_event_source_disable_unref(fanout->reaper);
	sd_event_unref(fanout->event);
	free(fanout);
	return NULL;
}

static struct sender *sender_new(struct fanout *fanout, size_t most, struct err *err)
{
	struct sender *sender;

	if (fanout->n_senders >= most) {
		err_set(err, VSS_E_LIMITS_EXCEEDED, "Too many writers are still to answer: %zu connections with %d calls each",
			most, FANOUT_CALLS_PER_SENDER);
		return NULL;
	}
	sender = calloc(1, sizeof *sender);
	if (!sender)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call to a writer"), NULL;
	sender->fanout = fanout;
	if (bus_open_async(&sender->bus, NULL, err) < 0)
		return sender_free(sender);
	sender->source = bus_source_new(fanout->event, sender->bus, on_lost, sender);
	if (!sender->source) {
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call to a writer");
		return sender_free(sender);
	}
	sender->next = fanout->senders;
	fanout->senders = sender;
	fanout->n_senders++;
	return sender;
}

/* Who asks writers what they have must not use up what others need to thaw theirs. */
static struct sender *pick_sender(struct fanout *fanout, const char *method, struct err *err)
{
	size_t most = strcmp(method, "Identify") == 0 ? FANOUT_SENDERS_MAX * 3 / 4 : FANOUT_SENDERS_MAX;

	for (struct sender *s = fanout->senders; s; s = s->next)
		if (!s->tainted && !s->lost && s->calls < FANOUT_CALLS_PER_SENDER)
			return s;
	return sender_new(fanout, most, err);
}

static void answered(const struct bus_reply *reply, void *data)
{
	struct fanout_call *call = data;
	struct sender *sender = call->sender;

	sender->calls--;
	if (reply->error == VSS_E_TIMED_OUT && !reply->error_name)
		sender->tainted = true;
	if (reply->error == VSS_E_CANCELLED && !reply->error_name)
		sender->tainted = true;
	if (call->fn)
		call->fn(reply, call->data);
	free(call);
	if (sender->tainted && sender->calls == 0)
		sd_event_source_set_enabled(sender->fanout->reaper, SD_EVENT_ONESHOT);
}

struct fanout_call *fanout_call(struct fanout *fanout, const char *destination, const char *path, const char *method,
				const char *signature, json_t *args, const int *fds, size_t n_fds, uint64_t deadline,
				bus_reply_fn fn, void *data, struct err *err)
{
	struct sender *sender = pick_sender(fanout, method, err);
	struct fanout_call *call = sender ? malloc(sizeof *call) : NULL;

	if (!call) {
		json_decref(args);
		if (sender)
			err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call to a writer");
		return NULL;
	}
	*call = (struct fanout_call){ .sender = sender, .fn = fn, .data = data };
	if (bus_call(sender->bus, destination, path, VSS_IFACE_WRITER, method, signature, args, fds, n_fds, deadline,
		     answered, call, &call->pending, err) < 0) {
		free(call);
		return NULL;
	}
	sender->calls++;
	return call;
}

void fanout_extend(struct fanout_call *call, uint64_t deadline)
{
	bus_pending_extend(call->pending, deadline);
}

void fanout_cancel(struct fanout_call *call)
{
	call->fn = NULL;
	bus_pending_cancel(call->pending);
}

void fanout_hold(struct fanout *fanout)
{
	fanout->holds++;
}

void fanout_release(struct fanout *fanout)
{
	fanout->holds--;
	sd_event_source_set_enabled(fanout->reaper, SD_EVENT_ONESHOT);
}

bool fanout_is_idle(const struct fanout *fanout)
{
	for (const struct sender *s = fanout->senders; s; s = s->next)
		if (s->calls > 0)
			return false;
	return true;
}

void fanout_trim(struct fanout *fanout)
{
	struct sender *kept = NULL;

	for (struct sender *s = fanout->senders; s; s = s->next) {
		if (!kept && !s->tainted && !s->lost)
			kept = s;
		else if (s->calls == 0)
			s->tainted = true;
	}
	sd_event_source_set_enabled(fanout->reaper, SD_EVENT_ONESHOT);
}
