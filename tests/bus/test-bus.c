/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The binding (common/bus*.c) on a real dbus-daemon: connections, calls, names, peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus-service.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"

static struct bus *open_bus(void)
{
	struct bus *bus = NULL;
	struct err err = { 0 };

	if (bus_open(&bus, NULL, &err) < 0)
		fail_msg("%s", err.text);
	return bus;
}

/* ---- calls ---- */

static void call_and_reply(void **state)
{
	struct answer a;

	service_call(*state, "Echo", "sa{sv}", "[\"Größe\", {\"n\": 1, \"list\": [\"a\"], \"deep\": {\"b\": true}}]", &a);
	assert_int_equal(a.error, VSS_OK);
	autojson json_t *wanted =
		json_loads("[\"Größe\", {\"n\": 1, \"list\": [\"a\"], \"deep\": {\"b\": true}}]", 0, NULL);
	assert_true(json_equal(a.args, wanted));
	answer_reset(&a);
}

static void errors_carry_name_text_and_number(void **state)
{
	struct answer a;

	service_call(*state, "Fail", "s", "[\"VolumeInUse\"]", &a);
	assert_int_equal(a.error, VSS_E_VOLUME_IN_USE);
	assert_string_equal(a.error_name, VSS_ERROR_PREFIX "VolumeInUse");
	assert_string_equal(a.message, "/srv was not frozen (0x8004231d)");
	answer_reset(&a);
}

static void wrong_calls_are_refused(void **state)
{
	struct service *s = *state;
	struct answer a;

	service_call(s, "NoSuchMethod", "", "[]", &a);
	assert_string_equal(a.error_name, "org.freedesktop.DBus.Error.UnknownMethod");
	answer_reset(&a);
	service_call(s, "Echo", "s", "[\"too few\"]", &a);
	assert_int_equal(a.error, VSS_E_INVALID_ARGUMENT);
	assert_non_null(strstr(a.message, "sa{sv}"));
	answer_reset(&a);
	service_call_at(s, "/no/such/object", SERVICE_INTERFACE, "Note", "", json_array(), &a);
	assert_string_equal(a.error_name, "org.freedesktop.DBus.Error.UnknownMethod");
	answer_reset(&a);
	service_call_at(s, SERVICE_PATH, "org.example.Other", "Note", "", json_array(), &a);
	assert_string_equal(a.error_name, "org.freedesktop.DBus.Error.UnknownMethod");
	answer_reset(&a);
	service_call(s, "BadAnswer", "", "[]", &a);
	assert_int_equal(a.error, VSS_E_UNEXPECTED);
	answer_reset(&a);
}

static void calls_that_cannot_be_written_are_not_sent(void **state)
{
	struct service *s = *state;
	struct answer a = { 0 };
	struct err err = { 0 };

	assert_int_equal(bus_call(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Echo", "sa{sv}",
				  json_pack("[i]", 1), NULL, 0, USEC_INFINITY, answer_note, &a, NULL, &err),
			 -1);
	assert_int_equal(err.code, VSS_E_INVALID_ARGUMENT);
	assert_int_equal(bus_pending_count(s->client), 0);
	service_run(s, NULL, 50);
	assert_false(a.done);
}

static void descriptors_go_both_ways(void **state)
{
	struct service *s = *state;
	autoclose int fd = memfd_create("given", MFD_CLOEXEC);
	struct answer a = { 0 };
	char text[8] = "";

	assert_int_equal(write(fd, "*", 1), 1);
	assert_int_equal(bus_call(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Descriptor", "h",
				  json_pack("[i]", 0), &fd, 1, clock_now() + 20 * USEC_PER_SEC, answer_note, &a, NULL, NULL),
			 0);
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(json_integer_value(json_array_get(a.args, 0)), '*');
	assert_int_equal(pread(a.fd, text, sizeof text - 1, 0), 6);
	assert_string_equal(text, "answer");
	answer_reset(&a);
}

static void deadline_is_kept_and_a_late_answer_dropped(void **state)
{
	struct service *s = *state;
	uint64_t begin = clock_now();
	struct answer a;

	service_send(s, "Keep", "", json_array(), begin + 150 * USEC_PER_MSEC, &a, NULL);
	assert_true(service_run(s, &a.done, 20000));
	assert_in_range(clock_now() - begin, 150 * USEC_PER_MSEC, 3 * USEC_PER_SEC);
	assert_int_equal(a.error, VSS_E_TIMED_OUT);
	assert_int_equal(bus_pending_count(s->client), 0);
	bus_call_reply(s->kept[0], json_array());
	service_run(s, NULL, 50);
	assert_int_equal(a.calls, 1);
	answer_reset(&a);
}

static void many_deadlines_go_off_in_their_order(void **state)
{
	struct service *s = *state;
	struct answer answers[20];
	uint64_t begin = clock_now() + 100 * USEC_PER_MSEC;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) /* 0, 7, 14, 1, 8 ... */
		service_send(s, "Keep", "", json_array(), begin + (i * 7 % 20) * 20 * USEC_PER_MSEC, &answers[i], NULL);
	for (size_t n = 0; n < ARRAY_SIZE(answers); n++) {
		size_t i = n * 3 % 20; /* 7 * 3 = 1 modulo 20 */
		assert_true(service_run(s, &answers[i].done, 20000));
		assert_int_equal(answers[i].error, VSS_E_TIMED_OUT);
		assert_true(clock_now() >= begin + n * 20 * USEC_PER_MSEC);
	}
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		answer_reset(&answers[i]);
}

static void deadline_can_be_extended(void **state)
{
	struct service *s = *state;
	struct bus_pending *pending;
	struct answer a;

	service_send(s, "Keep", "", json_array(), clock_now() + 100 * USEC_PER_MSEC, &a, &pending);
	bus_pending_extend(pending, clock_now() + 400 * USEC_PER_MSEC);
	assert_false(service_run(s, &a.done, 250));
	bus_pending_extend(pending, clock_now() + 50 * USEC_PER_MSEC);
	assert_true(service_run(s, &a.done, 10000));
	assert_int_equal(a.error, VSS_E_TIMED_OUT);
	answer_reset(&a);
}

static void cancel_completes_once(void **state)
{
	struct service *s = *state;
	struct bus_pending *pending;
	struct answer a;

	service_send(s, "Keep", "", json_array(), 0, &a, &pending);
	service_run(s, NULL, 50);
	bus_pending_cancel(pending);
	assert_int_equal(a.error, VSS_E_CANCELLED);
	assert_int_equal(bus_pending_count(s->client), 0);
	bus_call_reply(s->kept[0], json_array());
	service_run(s, NULL, 50);
	assert_int_equal(a.calls, 1);
	answer_reset(&a);
}

static void call_without_answer(void **state)
{
	struct service *s = *state;

	for (int i = 0; i < 3; i++)
		assert_int_equal(bus_call(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Note", "", json_array(),
					  NULL, 0, 0, NULL, NULL, NULL, NULL),
				 0);
	assert_int_equal(bus_pending_count(s->client), 0);
	service_run(s, NULL, 100);
	assert_int_equal(s->noted, 3);
}

static void nobody_there(void **state)
{
	struct service *s = *state;
	struct answer a = { 0 };

	assert_int_equal(bus_call(s->client, "org.vssd.NotThere", "/", "org.vssd.Test1", "Note", "", json_array(), NULL, 0,
				  USEC_INFINITY, answer_note, &a, NULL, NULL),
			 0);
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(a.error, VSS_E_WRITER_NOT_RESPONDING);
	answer_reset(&a);
}

static void peer_that_vanishes_is_told(void **state)
{
	struct service *s = *state;
	struct answer a;

	service_send(s, "Keep", "", json_array(), 0, &a, NULL);
	while (s->n_kept == 0)
		service_run(s, NULL, 10);
	s->server = s->buses[0] = bus_free(s->server); /* answers what it has kept */
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(a.error, VSS_E_CANCELLED);
	answer_reset(&a);
}

/* A process that is killed in the midst of a call, with which nobody can answer any more. */
static void peer_that_is_killed_is_told(void **state)
{
	struct service *s = *state;
	int name_pipe[2];
	char name[64] = "";
	struct answer a = { 0 };

	assert_int_equal(pipe(name_pipe), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct bus *bus = open_bus();
		dprintf(name_pipe[1], "%s", bus_unique_name(bus));
		pause();
		_exit(0);
	}
	assert_true(read(name_pipe[0], name, sizeof name - 1) > 0);
	close(name_pipe[0]);
	close(name_pipe[1]);
	assert_int_equal(bus_call(s->client, name, "/", SERVICE_INTERFACE, "Note", "", json_array(), NULL, 0, USEC_INFINITY,
				  answer_note, &a, NULL, NULL),
			 0);
	assert_false(service_run(s, &a.done, 100));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(a.error, VSS_E_WRITER_NOT_RESPONDING);
	answer_reset(&a);
}

static void free_completes_what_is_pending(void **state)
{
	struct service *s = *state;
	struct answer answers[10];

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		service_send(s, "Keep", "", json_array(), 0, &answers[i], NULL);
	service_run(s, NULL, 50);
	s->client = s->buses[1] = bus_free(s->client);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		assert_int_equal(answers[i].calls, 1);
		assert_int_equal(answers[i].error, VSS_E_CANCELLED);
		answer_reset(&answers[i]);
	}
}

struct stubborn {
	struct bus *bus;
	unsigned ends, refused;
};

/* Calls again whenever its call fails: the end of the connection must not become endless. */
static void call_again(const struct bus_reply *reply, void *data)
{
	struct stubborn *again = data;

	again->ends++;
	if (bus_call(again->bus, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Keep", "", json_array(), NULL, 0,
		     USEC_INFINITY, call_again, again, NULL, NULL) < 0)
		again->refused++;
}

static void nothing_new_begins_while_closing(void **state)
{
	struct service *s = *state;
	struct stubborn again = { .bus = s->client };

	assert_int_equal(bus_call(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Keep", "", json_array(), NULL, 0,
				  USEC_INFINITY, call_again, &again, NULL, NULL),
			 0);
	s->client = s->buses[1] = bus_free(s->client);
	assert_int_equal(again.ends, 1);
	assert_int_equal(again.refused, 1);
}

static void a_thousand_calls_in_flight(void **state)
{
	struct service *s = *state;
	static struct answer answers[1000];
	size_t left = ARRAY_SIZE(answers);

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		service_send(s, i % 8 ? "Echo" : "Keep", i % 8 ? "sa{sv}" : "",
			     i % 8 ? json_pack("[s{}]", "x") : json_array(), 0, &answers[i], NULL);
	assert_int_equal(bus_pending_count(s->client), 1000);
	for (int i = 0; i < 2000 && (s->n_kept < 125 || bus_pending_count(s->client) > 125); i++)
		service_run(s, NULL, 10);
	assert_int_equal(s->n_kept, 125);
	assert_int_equal(bus_calls_kept(s->server), 125);
	for (size_t i = s->n_kept; i-- > 0;)
		bus_call_reply(s->kept[i], json_array());
	for (int i = 0; i < 2000 && bus_pending_count(s->client); i++)
		service_run(s, NULL, 10);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		left -= answers[i].calls == 1 && answers[i].error == VSS_OK;
		answer_reset(&answers[i]);
	}
	assert_int_equal(left, 0);
}

/* A connection has as many calls kept as a bus with Debian's limits would let it wait for, even if it asks for no answers. */
static void kept_calls_are_bounded(void **state)
{
	struct service *s = *state;
	static struct answer answers[130];

	memset(answers, 0, sizeof answers);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		service_send(s, "Keep", "", json_array(), 0, &answers[i], NULL);
	for (int i = 0; i < 2000 && bus_pending_count(s->client) > 128; i++)
		service_run(s, NULL, 10);
	assert_int_equal(s->n_kept, 128);
	assert_int_equal(answers[129].calls, 1);
	assert_int_equal(answers[129].error, VSS_E_LIMITS_EXCEEDED);
	for (size_t i = s->n_kept; i-- > 0;)
		bus_call_reply(s->kept[i], json_array());
	for (int i = 0; i < 2000 && bus_pending_count(s->client); i++)
		service_run(s, NULL, 10);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		answer_reset(&answers[i]);
}

/* ---- connections ---- */

static void opens_without_blocking(void **state)
{
	struct service *s = *state;
	struct bus *bus;
	struct answer a = { 0 };

	assert_int_equal(bus_open_async(&bus, NULL, NULL), 0);
	assert_null(bus_unique_name(bus));
	assert_int_equal(bus_call(bus, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Echo", "sa{sv}",
				  json_pack("[s{}]", "early"), NULL, 0, clock_now() + 20 * USEC_PER_SEC, answer_note, &a, NULL,
				  NULL),
			 0);
	assert_true(bus_harness_run((struct bus *[]){ s->server, bus }, 2, &a.done, 20000));
	assert_int_equal(a.error, VSS_OK);
	assert_non_null(bus_unique_name(bus));
	answer_reset(&a);
	bus_free(bus);
	assert_int_equal(bus_open_async(&bus, NULL, NULL), 0);
	bus_free(bus); /* with Hello under way */
}

static void no_bus_there(void **state)
{
	struct bus *bus;
	struct err err = { 0 };

	assert_int_equal(bus_open(&bus, "unix:path=/nonexistent/bus", &err), -1);
	assert_int_equal(err.code, VSS_E_NOT_AVAILABLE);
	assert_non_null(strstr(err.text, "/nonexistent/bus"));
	assert_int_equal(bus_open_async(&bus, "unix:path=/nonexistent/bus", NULL), -1);
	assert_int_equal(bus_open(&bus, "nonsense", &err), -1);
}

static void loss_of_the_bus_is_told(void **state)
{
	struct service *s = *state;
	struct bus_harness *other = bus_harness_start();
	struct bus *bus = open_bus();
	struct answer a = { 0 };
	int r = 0;

	bus_call(bus, "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", "", json_array(), NULL, 0,
		 USEC_INFINITY, answer_note, &a, NULL, NULL);
	kill(bus_harness_pid(other), SIGKILL);
	for (int i = 0; i < 1000 && r == 0; i++) {
		poll(&(struct pollfd){ .fd = bus_fd(bus), .events = POLLIN }, 1, 10);
		r = bus_dispatch(bus);
	}
	assert_int_equal(r, -ECONNRESET);
	assert_true(a.done);
	assert_int_equal(bus_pending_count(bus), 0);
	assert_int_equal(bus_call(bus, SERVICE_NAME, "/", SERVICE_INTERFACE, "Note", "", json_array(), NULL, 0,
				  USEC_INFINITY, answer_note, &a, NULL, NULL),
			 -1);
	answer_reset(&a);
	bus_free(bus);
	bus_harness_stop(other);
	service_run(s, NULL, 10);
}

static void hundred_connections_leave_nothing(void **state)
{
	int before = count_fds();
	struct bus *buses[100];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(buses); i++)
			buses[i] = open_bus();
		for (size_t i = 0; i < ARRAY_SIZE(buses); i++)
			bus_free(buses[i]);
		assert_int_equal(count_fds(), before);
	}
}

/* ---- synchronous calls ---- */

static void sync_calls_for_clients(void **state)
{
	struct service *s = *state;
	json_t *args = NULL;
	struct err err = { 0 };

	assert_int_equal(bus_call_sync(s->client, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
				       "GetNameOwner", "s", json_pack("[s]", SERVICE_NAME), NULL, 0, USEC_INFINITY, &args,
				       NULL, 0, NULL, &err),
			 0);
	assert_string_equal(json_string_value(json_array_get(args, 0)), bus_unique_name(s->server));
	json_decref(args);
	assert_int_equal(bus_call_sync(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, "Keep", "", json_array(),
				       NULL, 0, clock_now() + 100 * USEC_PER_MSEC, &args, NULL, 0, NULL, &err),
			 -1);
	assert_int_equal(err.code, VSS_E_TIMED_OUT);
}

/* ---- users of peers ---- */

struct uid_answer {
	struct bus *bus;
	bool done;
	unsigned calls;
	uid_t uid;
};

static void note_uid(uid_t uid, void *data)
{
	struct uid_answer *a = data;

	a->done = true;
	a->calls++;
	a->uid = uid;
}

static void ask_once_more(uid_t uid, void *data)
{
	struct uid_answer *a = data;

	note_uid(uid, a);
	if (a->calls == 1)
		bus_peer_uid(a->bus, ":1.999999", ask_once_more, a);
	a->done = a->calls == 2;
}

static void users_of_peers(void **state)
{
	struct service *s = *state;
	struct uid_answer first = { 0 }, second = { 0 }, cached = { 0 }, gone = { .bus = s->client };

	bus_peer_uid(s->client, bus_unique_name(s->server), note_uid, &first);
	bus_peer_uid(s->client, bus_unique_name(s->server), note_uid, &second);
	assert_false(first.done);
	assert_true(service_run(s, &first.done, 20000));
	assert_true(first.uid == getuid() && second.uid == getuid());
	bus_peer_uid(s->client, bus_unique_name(s->server), note_uid, &cached);
	assert_true(cached.done);
	assert_int_equal(cached.uid, getuid());
	bus_peer_uid(s->client, ":1.999999", ask_once_more, &gone);
	assert_true(service_run(s, &gone.done, 20000));
	assert_int_equal(gone.calls, 2);
	assert_int_equal(gone.uid, (uid_t)-1);
}

#define test(function) cmocka_unit_test_setup_teardown(function, service_setup, service_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(call_and_reply),
		test(errors_carry_name_text_and_number),
		test(wrong_calls_are_refused),
		test(calls_that_cannot_be_written_are_not_sent),
		test(descriptors_go_both_ways),
		test(deadline_is_kept_and_a_late_answer_dropped),
		test(many_deadlines_go_off_in_their_order),
		test(deadline_can_be_extended),
		test(cancel_completes_once),
		test(call_without_answer),
		test(nobody_there),
		test(peer_that_vanishes_is_told),
		test(peer_that_is_killed_is_told),
		test(free_completes_what_is_pending),
		test(nothing_new_begins_while_closing),
		test(a_thousand_calls_in_flight),
		test(kept_calls_are_bounded),
		test(opens_without_blocking),
		test(no_bus_there),
		test(loss_of_the_bus_is_told),
		test(hundred_connections_leave_nothing),
		test(sync_calls_for_clients),
		test(users_of_peers),
	};

	return cmocka_run_group_tests_name("bus", tests, service_group_setup, service_group_teardown);
}
