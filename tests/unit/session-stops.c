/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/unit/session-stops.h"

const struct stop stops[] = {
	{ "Idle" },
	{ "Gathering", .event = "Identify" },
	{ "Waiting" },
	{ "Identifying", .event = "Identify" },
	{ "Planning", .op = "resolve" },
	{ "WaitingForWriters" },
	{ "PreparingBackup", .event = "PrepareBackup" },
	{ "Prepared" },
	{ "Preparing", .event = "PrepareSnapshot" },
	{ "Preparing", .op = "prepare" },
	{ "Flushing", .op = "flush" },
	{ "FreezingFrontEnd", .event = "Freeze", .writer = ":f" },
	{ "FreezingBackEnd", .event = "Freeze", .writer = ":b" },
	{ "FreezingSystem", .event = "Freeze", .writer = ":s" },
	{ "Cutting", .op = "cut" },
	{ "ThawingSystem", .event = "Thaw", .writer = ":s", .thaws_late = true },
	{ "ThawingBackEnd", .event = "Thaw", .writer = ":b", .thaws_late = true },
	{ "ThawingFrontEnd", .event = "Thaw", .writer = ":f" },
	{ "Opening", .op = "open" },
	{ "PostSnapshot", .event = "PostSnapshot" },
	{ "Sealing", .op = "seal" },
	{ "Created" },
	{ "Completing", .event = "BackupComplete" },
	{ "Completed" },
	{ "AbortingWriters", .event = "Abort", .fails = "Freeze" },
	{ "AbortingCopies", .op = "abort", .fails = "Freeze" },
	{ "Retrying", .fails = "Freeze" },
	{ "Failed", .fails = "Freeze" },
	{ "Closing", .event = "BackupShutdown" },
	{ "Closing", .op = "remove" },
};
const size_t n_stops = ARRAY_SIZE(stops);

static struct session *blocker;

static bool is(const struct stop *stop, const char *state)
{
	return strcmp(stop->state, state) == 0;
}

static void make_writers(struct world *w, const struct stop *stop)
{
	world_writer(w, "b", "back-end", "/data/b", NULL, NULL);
	world_writer(w, "f", "front-end", "/data/f", NULL, NULL);
	world_writer(w, "s", "system", "/data/s", NULL, NULL);
	if (is(stop, "WaitingForWriters")) /* what two sets share that share no volume */
		world_writer(w, "wide", "front-end", NULL, "[]", "{\"Scope\": \"all-volumes\"}");
}

/* Holds the volume, or the writer that wants all volumes. */
static void make_blocker(struct world *w, const struct stop *stop)
{
	struct err err = { 0 };

	blocker = NULL;
	if (!is(stop, "Waiting") && !is(stop, "WaitingForWriters"))
		return;
	blocker = world_session(w);
	world_add(w, blocker, is(stop, "Waiting") ? "data" : "logs");
	assert_int_equal(session_prepare(blocker, &err), 0);
	world_turns(w);
	assert_state(blocker, "Prepared");
	tape_clear();
}

void stop_unblock(struct world *w)
{
	if (!blocker)
		return;
	session_close(blocker, false);
	blocker = NULL;
	world_turns(w);
}

static void make_rules(struct world *w, const struct stop *stop)
{
	if (stop->fails)
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){ .writer = ":s",
									.event = stop->fails,
									.mode = FAKE_ERROR,
									.error = VSS_E_WRITER_RETRYABLE });
	if (stop->event)
		fake_fanout_rule(w->fanout, &(struct fake_fanout_rule){
						    .writer = stop->writer, .event = stop->event, .mode = FAKE_HOLD });
	if (stop->op)
		fake_workers_rule(w->workers, stop->op, FAKE_HOLD, VSS_OK, NULL);
}

static void go(struct world *w, struct session *s, const struct stop *stop)
{
	struct err err = { 0 };

	if (is(stop, "Idle"))
		return;
	if (is(stop, "Gathering"))
		assert_int_equal(session_gather(s, &err), 0);
	else if (is(stop, "Prepared"))
		assert_int_equal(session_prepare(s, &err), 0);
	else
		assert_int_equal(session_snapshot(s, &err), 0);
	world_turns(w);
	if (is(stop, "Completing") || is(stop, "Completed"))
		assert_int_equal(session_complete(s, &err), 0);
	if (is(stop, "Closing"))
		session_close(s, false);
	world_turns(w);
}

struct session *stop_in(struct world *w, const struct stop *stop)
{
	struct session_options options = world_options();
	struct session *s;

	make_writers(w, stop);
	make_blocker(w, stop);
	make_rules(w, stop);
	options.retries = is(stop, "Retrying");
	s = world_session_with(w, &options);
	world_add(w, s, "data");
	go(w, s, stop);
	if (!is(stop, session_state_name(s->state)))
		fail_msg("%s, not %s\n%s", session_state_name(s->state), stop->state, tape_text());
	return s;
}

static void assert_thawed_or_aborted(const char *writer)
{
	int n = 0, frozen = -1, freed = -1;
	char freeze[64], thaw[64], abort[64];

	snprintf(freeze, sizeof freeze, "Freeze %s\n", writer);
	snprintf(thaw, sizeof thaw, "Thaw %s\n", writer);
	snprintf(abort, sizeof abort, "Abort %s\n", writer);
	for (const char *line = tape_text(); *line; line = strchr(line, '\n') + 1, n++) {
		if (strncmp(line, freeze, strlen(freeze)) == 0)
			frozen = n;
		if (strncmp(line, thaw, strlen(thaw)) == 0 || strncmp(line, abort, strlen(abort)) == 0)
			freed = n;
	}
	if (frozen > freed)
		fail_msg("%s stays frozen:\n%s", writer, tape_text());
}

void stop_assert_nobody_frozen(void)
{
	for (const char **writer = (const char *[]){ ":f", ":b", ":s", NULL }; *writer; writer++)
		assert_thawed_or_aborted(*writer);
}
