/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/data/org.vssd.conf beside the distribution's own system.conf, unmodified in all that it allows and
 * denies. Needs root, for users to play. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus-service.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"

#define SYSTEM_CONF "/usr/share/dbus-1/system.conf"
#define NOBODY 65534
#define PATIENCE (20 * USEC_PER_SEC)

struct scene {
	struct bus_harness *harness;
	struct bus *vssd;    /* root, with the name */
	struct bus *sender;  /* root, without one, as the connections that events go out over */
	pid_t writer;        /* nobody's process */
	int from_writer;
	char writer_name[64];
	int own, call, meddle; /* enum vss_error of what nobody tried */
};

static char *read_file(const char *path)
{
	FILE *in = fopen(path, "re");
	char *text = calloc(1, 65536);

	if (in && text)
		(void)!fread(text, 1, 65535, in);
	if (in)
		fclose(in);
	return text;
}

/* Replaces what lies between two words, in place or shorter. */
static void replace(char *text, const char *begin, const char *end, const char *by)
{
	for (char *from; (from = strstr(text, begin));) {
		char *to = strstr(from, end);
		assert_non_null(to);
		to += strlen(end);
		assert_true(strlen(by) <= (size_t)(to - from));
		memcpy(from, by, strlen(by));
		memmove(from + strlen(by), to, strlen(to) + 1);
		if (*by)
			return;
	}
}

/* The daemon's own circumstances are ours; its policy stays the distribution's. */
static char *private_system_conf(void)
{
	char *text = read_file(SYSTEM_CONF);

	replace(text, "<user>", "</user>", "");
	replace(text, "<fork/>", ">", "");
	replace(text, "<syslog/>", ">", "");
	replace(text, "<pidfile>", "</pidfile>", "");
	replace(text, "<standard_system_servicedirs/>", ">", "");
	replace(text, "<servicehelper>", "</servicehelper>", "");
	replace(text, "<include ignore_missing", "</include>", "");
	replace(text, "<includedir>/etc", "</includedir>", "");
	replace(text, "<listen>", "</listen>", "<listen>unix:path=@DIR@/bus</listen>");
	return text;
}

static int install_policy(const char *directory, void *data)
{
	char path[128];
	autofree char *policy = read_file(getenv("VSSD_BUS_POLICY"));

	snprintf(path, sizeof path, "%s/system.d", directory);
	if (!*policy || mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/system.d/org.vssd.conf", directory);
	FILE *out = fopen(path, "we");
	if (!out)
		return -1;
	fputs(policy, out);
	return fclose(out);
}

/* ---- both sides ---- */

static void do_answer(struct bus_call *call, void *object)
{
	bus_call_reply(call, json_array());
}

static const struct bus_method coordinator_methods[] = { { "ListWriters", "", "", "", "", do_answer }, { 0 } };
static const struct bus_interface coordinator = { VSS_IFACE_COORDINATOR, coordinator_methods, NULL, NULL };
static const struct bus_method writer_methods[] = { { "Freeze", "", "", "", "", do_answer }, { 0 } };
static const struct bus_interface writer = { VSS_IFACE_WRITER, writer_methods, NULL, NULL };
static const struct bus_interface other = { "org.example.Other1", writer_methods, NULL, NULL };

static enum vss_error call_wait(struct bus *bus, const char *to, const char *path, const char *interface,
				const char *method)
{
	struct err err = { 0 };

	if (bus_call_sync(bus, to, path, interface, method, "", json_array(), NULL, 0, clock_now() + PATIENCE, NULL, NULL, 0,
			  NULL, &err) == 0)
		return VSS_OK;
	return err.code;
}

/* ---- nobody's process ---- */

static enum vss_error try_to_own(struct bus *bus)
{
	struct answer answer = { 0 };

	bus_request_name(bus, VSS_BUS_NAME, answer_note, &answer, NULL);
	bus_harness_run(&bus, 1, &answer.done, 20000);
	enum vss_error error = answer.error;
	answer_reset(&answer);
	return error;
}

static _Noreturn void be_writer(int to_parent, const char *root_connection)
{
	static const struct bus_interface *const interfaces[] = { &writer, &other, NULL };
	struct bus *bus;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0 || bus_open(&bus, NULL, NULL) < 0 ||
	    bus_export(bus, VSS_WRITER_DEFAULT_PATH, interfaces, NULL, NULL) < 0)
		_exit(1);
	int own = try_to_own(bus);
	int call = call_wait(bus, VSS_BUS_NAME, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "ListWriters");
	int meddle = call_wait(bus, root_connection, VSS_WRITER_DEFAULT_PATH, VSS_IFACE_WRITER, "Freeze");
	dprintf(to_parent, "%s %d %d %d\n", bus_unique_name(bus), own, call, meddle);
	for (;;)
		bus_harness_run(&bus, 1, NULL, 1000);
}

/* Serves as vssd until nobody has said what came of his attempts. */
static int hear_writer(struct scene *s)
{
	char line[128] = "";
	struct bus *buses[] = { s->vssd, s->sender };

	for (int i = 0; i < 2000; i++) {
		bus_harness_run(buses, 2, NULL, 5);
		if (poll(&(struct pollfd){ .fd = s->from_writer, .events = POLLIN }, 1, 5) > 0)
			break;
	}
	if (read(s->from_writer, line, sizeof line - 1) <= 0)
		return -1;
	return sscanf(line, "%63s %d %d %d", s->writer_name, &s->own, &s->call, &s->meddle) == 4 ? 0 : -1;
}

static int open_scene(struct scene *s)
{
	static const struct bus_interface *const interfaces[] = { &coordinator, NULL };
	static const struct bus_interface *const writers[] = { &writer, NULL };
	struct answer answer = { 0 };
	int ends[2];

	if (bus_open(&s->vssd, NULL, NULL) < 0 || bus_open(&s->sender, NULL, NULL) < 0 ||
	    bus_export(s->vssd, VSS_ROOT_PATH, interfaces, s, NULL) < 0 ||
	    bus_export(s->sender, VSS_WRITER_DEFAULT_PATH, writers, s, NULL) < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	bus_request_name(s->vssd, VSS_BUS_NAME, answer_note, &answer, NULL);
	bus_harness_run(&s->vssd, 1, &answer.done, 20000);
	bool owner = !answer.error && json_integer_value(json_array_get(answer.args, 0)) == 1;
	answer_reset(&answer);
	if (!owner)
		return -1;
	s->from_writer = ends[0];
	s->writer = fork();
	if (s->writer == 0)
		be_writer(ends[1], bus_unique_name(s->sender));
	close(ends[1]);
	return hear_writer(s);
}

static int setup(void **state)
{
	static struct scene scene;
	autofree char *config = private_system_conf();

	*state = &scene;
	scene.harness = bus_harness_start_with(config, install_policy, NULL);
	return scene.harness ? open_scene(&scene) : -1;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	kill(s->writer, SIGKILL);
	waitpid(s->writer, NULL, 0);
	close(s->from_writer);
	bus_free(s->sender);
	bus_free(s->vssd);
	bus_harness_stop(s->harness);
	return 0;
}

/* ---- what must hold ---- */

static void root_alone_owns_the_name(void **state)
{
	struct scene *s = *state; /* root does: otherwise there were no scene */

	assert_int_equal(s->own, VSS_E_ACCESS_DENIED);
}

static void everybody_reaches_vssd(void **state)
{
	struct scene *s = *state;

	assert_int_equal(s->call, VSS_OK);
}

static void root_calls_writers_of_any_user(void **state)
{
	struct scene *s = *state;

	assert_int_equal(call_wait(s->sender, s->writer_name, VSS_WRITER_DEFAULT_PATH, VSS_IFACE_WRITER, "Freeze"), VSS_OK);
	assert_int_equal(call_wait(s->vssd, s->writer_name, VSS_WRITER_DEFAULT_PATH, VSS_IFACE_WRITER, "Freeze"), VSS_OK);
}

static void others_do_not_call_writers(void **state)
{
	struct scene *s = *state;

	assert_int_equal(s->meddle, VSS_E_ACCESS_DENIED);
}

/* The policy is no wider than it has to be; this also shows that the bus denies by default. */
static void other_interfaces_stay_denied(void **state)
{
	struct scene *s = *state;

	assert_int_equal(call_wait(s->sender, s->writer_name, VSS_WRITER_DEFAULT_PATH, "org.example.Other1", "Freeze"),
			 VSS_E_ACCESS_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(root_alone_owns_the_name),
		cmocka_unit_test(everybody_reaches_vssd),
		cmocka_unit_test(root_calls_writers_of_any_user),
		cmocka_unit_test(others_do_not_call_writers),
		cmocka_unit_test(other_interfaces_stay_denied),
	};

	if (geteuid() != 0 || access(SYSTEM_CONF, R_OK) < 0)
		return 77; /* skipped */
	return cmocka_run_group_tests_name("bus-policy", tests, setup, teardown);
}
