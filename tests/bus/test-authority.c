/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/authority.c with a polkit of the test's own. Needs root, for another user to ask. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus-harness.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/authority.h"

#define NOBODY 65534
#define POLKIT "org.freedesktop.PolicyKit1"
#define PATH "/org/vssd/test"
#define INTERFACE "org.vssd.Test1"

enum mood { MOOD_YES, MOOD_NO, MOOD_CHALLENGE, MOOD_ERROR, MOOD_SILENT };

struct scene {
	struct bus_harness *harness;
	struct bus *buses[3];
	struct bus *server, *polkit, *root;
	struct authority *authority;
	pid_t nobody;
	int ask; /* a byte for each question that nobody shall ask, and what came of it */

	enum mood mood;
	unsigned asked; /* polkit */
	json_t *question;
	struct bus_call *silent;
	unsigned told; /* decisions */
	struct err decision;
	uid_t uid;
};

/* ---- polkit ---- */

static void do_check(struct bus_call *call, void *object)
{
	struct scene *s = object;

	s->asked++;
	json_decref(s->question);
	s->question = json_incref(bus_call_args(call));
	if (s->mood == MOOD_SILENT) {
		s->silent = call;
		return;
	}
	if (s->mood == MOOD_ERROR) {
		struct err err = { 0 };
		err_set(&err, VSS_E_UNEXPECTED, "Action is not registered");
		bus_call_error(call, &err);
		return;
	}
	bus_call_reply(call, json_pack("[[bb{}]]", s->mood == MOOD_YES, s->mood == MOOD_CHALLENGE));
}

static const struct bus_method polkit_methods[] = {
	{ "CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", "subject action details flags cancellation", "result",
	  do_check },
	{ 0 },
};
static const struct bus_interface polkit_interface = { POLKIT ".Authority", polkit_methods, NULL, NULL };

/* ---- vssd's side ---- */

static void decided(struct bus_call *call, uid_t uid, const struct err *err, void *data)
{
	struct scene *s = data;

	s->told++;
	s->decision = *err;
	s->uid = uid;
	if (err->code)
		bus_call_error(call, err);
	else
		bus_call_reply(call, json_array());
}

static void do_ask(struct bus_call *call, void *object)
{
	struct scene *s = object;
	const char *volume = json_string_value(json_array_get(bus_call_args(call), 0));

	authority_check(s->authority, call, VSS_ACTION_CREATE, *volume ? volume : NULL, decided, s);
}

static const struct bus_method methods[] = { { "Ask", "s", "", "volume", "", do_ask }, { 0 } };
static const struct bus_interface interface = { INTERFACE, methods, NULL, NULL };

/* ---- who asks ---- */

static enum vss_error ask(struct bus *bus, const char *server, const char *volume)
{
	struct err err = { 0 };

	if (bus_call_sync(bus, server, PATH, INTERFACE, "Ask", "s", json_pack("[s]", volume), NULL, 0,
			  clock_now() + 20 * USEC_PER_SEC, NULL, NULL, 0, NULL, &err) == 0)
		return VSS_OK;
	return err.code;
}

static _Noreturn void be_nobody(int fd, const char *server)
{
	struct bus *bus;
	char command;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0 || bus_open(&bus, NULL, NULL) < 0)
		_exit(1);
	while (read(fd, &command, 1) == 1) {
		command = (char)ask(bus, server, command == 'v' ? "/srv" : "");
		if (write(fd, &command, 1) != 1)
			break;
	}
	_exit(0);
}

/* nobody asks; what the call comes back with. */
static enum vss_error nobody_asks(struct scene *s, char command)
{
	char answer = 0;

	s->told = 0;
	assert_int_equal(write(s->ask, &command, 1), 1);
	for (int i = 0; i < 2000 && recv(s->ask, &answer, 1, MSG_DONTWAIT) != 1; i++)
		bus_harness_run(s->buses, 2, NULL, 5);
	assert_int_equal(s->told, 1);
	return (enum vss_error)answer;
}

/* ---- fixtures ---- */

static void name_taken(const struct bus_reply *reply, void *data)
{
	*(bool *)data = true;
}

static void polkit_name(struct scene *s, bool owned)
{
	bool done = false;

	if (owned)
		bus_request_name(s->polkit, POLKIT, name_taken, &done, NULL);
	else
		bus_release_name(s->polkit, POLKIT, name_taken, &done, NULL);
	assert_true(bus_harness_run(s->buses, 2, &done, 20000));
}

static int setup(void **state)
{
	static struct scene s;
	static const struct bus_interface *const own[] = { &interface, NULL };
	static const struct bus_interface *const polkits[] = { &polkit_interface, NULL };
	int ends[2];

	s = (struct scene){ .harness = bus_harness_start() };
	*state = &s;
	for (size_t i = 0; i < 3; i++)
		if (bus_open(&s.buses[i], NULL, NULL) < 0)
			return -1;
	s.server = s.buses[0];
	s.polkit = s.buses[1];
	s.root = s.buses[2];
	s.authority = authority_new(s.server);
	if (bus_export(s.server, PATH, own, &s, NULL) < 0 ||
	    bus_export(s.polkit, "/org/freedesktop/PolicyKit1/Authority", polkits, &s, NULL) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	polkit_name(&s, true);
	s.ask = ends[0];
	s.nobody = fork();
	if (s.nobody == 0)
		be_nobody(ends[1], bus_unique_name(s.server));
	return close(ends[1]);
}

static int teardown(void **state)
{
	struct scene *s = *state;

	authority_free(s->authority);
	kill(s->nobody, SIGKILL);
	waitpid(s->nobody, NULL, 0);
	close(s->ask);
	for (size_t i = 0; i < 3; i++)
		bus_free(s->buses[i]);
	json_decref(s->question);
	bus_harness_stop(s->harness);
	return 0;
}

/* ---- what must hold ---- */

static void polkit_is_asked_about_the_caller(void **state)
{
	struct scene *s = *state;

	s->mood = MOOD_YES;
	assert_int_equal(nobody_asks(s, 'v'), VSS_OK);
	assert_int_equal(s->uid, NOBODY);
	assert_int_equal(s->asked, 1);
	json_t *subject = json_array_get(s->question, 0);
	assert_string_equal(json_string_value(json_array_get(subject, 0)), "system-bus-name");
	assert_int_equal(json_string_value(json_object_get(json_array_get(subject, 1), "name"))[0], ':');
	assert_string_equal(json_string_value(json_array_get(s->question, 1)), VSS_ACTION_CREATE);
	assert_string_equal(json_string_value(json_object_get(json_array_get(s->question, 2), "vss.volume")), "/srv");
	assert_int_equal(json_integer_value(json_array_get(s->question, 3)), 0);
	assert_int_equal(nobody_asks(s, '-'), VSS_OK);
	assert_int_equal(json_object_size(json_array_get(s->question, 2)), 0);
}

static void expect_refusal(struct scene *s, const char *says)
{
	assert_int_equal(nobody_asks(s, '-'), VSS_E_ACCESS_DENIED);
	if (!strstr(s->decision.text, says) || !strstr(s->decision.text, VSS_ACTION_CREATE))
		fail_msg("%s", s->decision.text);
}

static void refusals_say_why(void **state)
{
	struct scene *s = *state;

	s->mood = MOOD_NO;
	expect_refusal(s, "forbid");
	s->mood = MOOD_CHALLENGE;
	expect_refusal(s, "administrators");
	s->mood = MOOD_ERROR;
	expect_refusal(s, "Action is not registered");
}

static void without_polkit_root_alone_may(void **state)
{
	struct scene *s = *state;

	polkit_name(s, false);
	expect_refusal(s, "only root");
}

static void note(const struct bus_reply *reply, void *data)
{
	*(int *)data = (int)reply->error;
}

static void root_needs_no_polkit(void **state)
{
	struct scene *s = *state;
	int error = -1;

	s->mood = MOOD_NO;
	bus_call(s->root, bus_unique_name(s->server), PATH, INTERFACE, "Ask", "s", json_pack("[s]", ""), NULL, 0,
		 USEC_INFINITY, note, &error, NULL, NULL);
	for (int i = 0; i < 2000 && error < 0; i++)
		bus_harness_run(s->buses, 3, NULL, 5);
	assert_int_equal(error, VSS_OK);
	assert_int_equal(s->uid, 0);
	assert_int_equal(s->asked, 0);
}

static void end_of_the_authority_tells_all(void **state)
{
	struct scene *s = *state;

	s->mood = MOOD_SILENT;
	assert_int_equal(write(s->ask, "-", 1), 1);
	for (int i = 0; i < 2000 && !s->silent; i++)
		bus_harness_run(s->buses, 2, NULL, 5);
	assert_int_equal(s->told, 0);
	/* And one that is still asking for the user. */
	int error = -1;
	bus_call(s->root, bus_unique_name(s->server), PATH, INTERFACE, "Ask", "s", json_pack("[s]", ""), NULL, 0,
		 USEC_INFINITY, note, &error, NULL, NULL);
	bus_flush(s->root);
	for (int i = 0; i < 2000 && bus_calls_kept(s->server) < 2; i++) {
		poll(&(struct pollfd){ .fd = bus_fd(s->server), .events = POLLIN }, 1, 5);
		bus_dispatch(s->server);
	}
	s->authority = authority_free(s->authority);
	assert_true(s->told == 2 || (s->told == 1 && s->uid == 0));
	bus_call_error(s->silent, &(struct err){ .code = VSS_E_CANCELLED });
	bus_harness_run(s->buses, 3, NULL, 50);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(polkit_is_asked_about_the_caller),
		test(refusals_say_why),
		test(without_polkit_root_alone_may),
		test(root_needs_no_polkit),
		test(end_of_the_authority_tells_all),
	};

	if (geteuid() != 0)
		return 77; /* skipped */
	return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
