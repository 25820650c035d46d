/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define PATIENCE 20000 /* ms; generous, since test machines are busy */

int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));)
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* ---- the service ---- */

static void do_echo(struct bus_call *call, void *object)
{
	bus_call_reply(call, json_incref(bus_call_args(call)));
}

static void do_fail(struct bus_call *call, void *object)
{
	const char *name = json_string_value(json_array_get(bus_call_args(call), 0));
	struct err err = { 0 };

	err_set(&err, error_from_name(name), "/srv was not frozen");
	bus_call_error(call, &err);
}

static void do_keep(struct bus_call *call, void *object)
{
	struct service *s = object;

	s->kept[s->n_kept++] = call;
}

/* Reads one byte of the descriptor given, and returns it with a descriptor of its own. */
static void do_descriptor(struct bus_call *call, void *object)
{
	autoclose int given = bus_call_take_fd(call, json_integer_value(json_array_get(bus_call_args(call), 0)));
	autoclose int own = memfd_create("own", MFD_CLOEXEC);
	unsigned char byte = 0;

	assert_int_equal(pread(given, &byte, 1, 0), 1);
	assert_int_equal(write(own, "answer", 6), 6);
	bus_call_reply_fds(call, json_pack("[ii]", byte, 0), &own, 1);
}

static void do_bad_answer(struct bus_call *call, void *object)
{
	bus_call_reply(call, json_pack("[i]", 1)); /* a string was promised */
}

static void do_note(struct bus_call *call, void *object)
{
	struct service *s = object;

	s->noted++;
	bus_call_reply(call, json_array());
}

static void do_end_object(struct bus_call *call, void *object)
{
	bus_unexport(bus_call_bus(call), bus_call_path(call));
	bus_call_reply(call, json_array());
}

static json_t *get_number(void *object)
{
	struct service *s = object;

	s->reads++;
	return json_integer(s->number);
}

static json_t *get_words(void *object)
{
	return json_pack("[ss]", "one", "two");
}

static json_t *get_quiet(void *object)
{
	return json_true();
}

static const struct bus_method methods[] = {
	{ "Echo", "sa{sv}", "sa{sv}", "text options", "text options", do_echo },
	{ "Fail", "s", "", "name", "", do_fail },
	{ "Keep", "", "", "", "", do_keep },
	{ "Descriptor", "h", "uh", "given", "byte own", do_descriptor },
	{ "BadAnswer", "", "s", "", "text", do_bad_answer },
	{ "Note", "", "", "", "", do_note },
	{ "EndObject", "", "", "", "", do_end_object },
	{ 0 },
};

static const struct bus_property properties[] = {
	{ "Number", "x", get_number, false },
	{ "Words", "as", get_words, false },
	{ "Quiet", "b", get_quiet, true },
	{ 0 },
};

static const struct bus_signal signals[] = {
	{ "Rang", "sa{sv}", "name details" },
	{ 0 },
};

const struct bus_interface service_interface = { SERVICE_INTERFACE, methods, properties, signals };

static const struct bus_interface *const interfaces[] = { &service_interface, NULL };

/* ---- fixtures ---- */

int service_group_setup(void **state)
{
	static struct service service;

	service.harness = bus_harness_start();
	*state = &service;
	return service.harness ? 0 : -1;
}

int service_group_teardown(void **state)
{
	struct service *s = *state;

	bus_harness_stop(s->harness);
	return 0;
}

static int service_open(struct service *s)
{
	struct answer answer = { 0 };
	struct err err = { 0 };

	if (bus_open(&s->buses[0], NULL, &err) < 0 || bus_open(&s->buses[1], NULL, &err) < 0 ||
	    bus_export(s->buses[0], SERVICE_PATH, interfaces, s, &err) < 0 ||
	    bus_request_name(s->buses[0], SERVICE_NAME, answer_note, &answer, &err) < 0)
		return -1;
	s->server = s->buses[0];
	s->client = s->buses[1];
	service_run(s, &answer.done, PATIENCE);
	bool owner = json_integer_value(json_array_get(answer.args, 0)) == 1;
	answer_reset(&answer);
	return owner ? 0 : -1;
}

int service_setup(void **state)
{
	struct service *s = *state;

	s->fds_before = count_fds();
	s->n_kept = s->noted = s->reads = 0;
	s->number = 7;
	return service_open(s);
}

int service_teardown(void **state)
{
	struct service *s = *state;

	bus_free(s->client);
	bus_free(s->server);
	s->buses[0] = s->buses[1] = s->client = s->server = NULL;
	assert_int_equal(count_fds(), s->fds_before);
	return 0;
}

/* ---- the client ---- */

void answer_note(const struct bus_reply *reply, void *data)
{
	struct answer *a = data;

	a->done = true;
	a->calls++;
	a->error = reply->error;
	snprintf(a->error_name, sizeof a->error_name, "%s", reply->error_name ? reply->error_name : "");
	snprintf(a->message, sizeof a->message, "%s", reply->message);
	a->args = json_incref(reply->args);
	a->fd = reply->n_fds ? steal_fd(reply->fds[0]) : -1;
}

void answer_reset(struct answer *a)
{
	json_decref(a->args);
	if (a->done && a->fd >= 0)
		close(a->fd);
	*a = (struct answer){ 0 };
}

bool service_run(struct service *s, const bool *flag, unsigned milliseconds)
{
	return bus_harness_run(s->buses, 2, flag, milliseconds);
}

void service_send(struct service *s, const char *method, const char *signature, json_t *args, uint64_t deadline,
		  struct answer *answer, struct bus_pending **pending)
{
	struct err err = { 0 };

	*answer = (struct answer){ 0 };
	if (bus_call(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, method, signature, args, NULL, 0,
		     deadline ? deadline : clock_now() + PATIENCE * USEC_PER_MSEC, answer_note, answer, pending, &err) < 0)
		fail_msg("%s: %s", method, err.text);
	assert_false(answer->done);
}

void service_call_at(struct service *s, const char *path, const char *interface, const char *method,
		     const char *signature, json_t *args, struct answer *answer)
{
	struct err err = { 0 };

	*answer = (struct answer){ 0 };
	if (bus_call(s->client, SERVICE_NAME, path, interface, method, signature, args, NULL, 0,
		     clock_now() + PATIENCE * USEC_PER_MSEC, answer_note, answer, NULL, &err) < 0)
		fail_msg("%s: %s", method, err.text);
	assert_true(service_run(s, &answer->done, PATIENCE));
}

void service_call(struct service *s, const char *method, const char *signature, const char *args, struct answer *answer)
{
	service_call_at(s, SERVICE_PATH, SERVICE_INTERFACE, method, signature, json_loads(args, 0, NULL), answer);
}
