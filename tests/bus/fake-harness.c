/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake-harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/names.h"

#define START_USEC (10 * USEC_PER_SEC)
#define BEHAVIOURS_MAX 8

struct fake_harness {
	struct bus_harness *bus;
	pid_t fake, restarter;
};

static const char *program(void)
{
	const char *path = getenv("FAKE_COORDINATOR");

	return path ? path : "./fake-coordinator";
}

static _Noreturn void run_fake(const char *directory, const char *const *behaviours)
{
	const char *argv[BEHAVIOURS_MAX + 3] = { program(), directory };

	for (size_t i = 0; i < BEHAVIOURS_MAX && behaviours[i]; i++)
		argv[i + 2] = behaviours[i];
	execv(program(), (char *const *)argv);
	_exit(127);
}

static void reap(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	*pid = -1;
}

unsigned fake_harness_count(const struct fake_harness *h, const char *text)
{
	autofree char *path = NULL, *line = NULL;
	size_t size = 0;
	unsigned n = 0;

	if (asprintf(&path, "%s/calls", bus_harness_directory(h->bus)) < 0)
		abort();
	FILE *log = fopen(path, "re");
	while (log && getline(&line, &size, log) > 0)
		n += strncmp(line, text, strlen(text)) == 0;
	if (log)
		fclose(log);
	return n;
}

bool fake_harness_called(const struct fake_harness *h, const char *text)
{
	return fake_harness_count(h, text) > 0;
}

static bool wait_until_started(const struct fake_harness *h, unsigned times)
{
	uint64_t end = clock_now() + START_USEC;

	while (clock_now() < end) {
		if (fake_harness_count(h, "started") >= times)
			return true;
		usleep(5000);
	}
	return false;
}

struct fake_harness *fake_harness_start(const char *const *behaviours)
{
	struct fake_harness *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->restarter = -1;
	h->bus = bus_harness_start();
	h->fake = h->bus ? fork() : -1;
	if (h->fake == 0)
		run_fake(bus_harness_directory(h->bus), behaviours);
	if (h->fake > 0 && wait_until_started(h, 1))
		return h;
	fprintf(stderr, "fake-harness: %s did not start\n", program());
	return fake_harness_stop(h);
}

struct fake_harness *fake_harness_stop(struct fake_harness *h)
{
	if (!h)
		return NULL;
	reap(&h->restarter); /* its fake goes with it, see PR_SET_PDEATHSIG there */
	reap(&h->fake);
	bus_harness_stop(h->bus);
	free(h);
	return NULL;
}

const char *fake_harness_directory(const struct fake_harness *h)
{
	return bus_harness_directory(h->bus);
}

void fake_harness_kill(struct fake_harness *h)
{
	reap(&h->fake);
}

/* In a process of its own: waits for the present fake to go, then plays the next one. */
static _Noreturn void restart(struct fake_harness *h, unsigned milliseconds, const char *const *behaviours)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (milliseconds) {
		usleep(milliseconds * 1000);
		kill(h->fake, SIGKILL);
	}
	/* Not our child, and its parent does not reap it while it waits in a call: a zombie has ended, too. */
	while (h->fake > 0) {
		char path[64], text[256] = "";
		snprintf(path, sizeof path, "/proc/%d/stat", h->fake);
		FILE *stat = fopen(path, "re");
		if (!stat)
			break;
		(void)!fgets(text, sizeof text, stat);
		fclose(stat);
		const char *state = strrchr(text, ')');
		if (!state || state[2] == 'Z')
			break;
		usleep(5000);
	}
	usleep(100000);
	if (behaviours[0] && strcmp(behaviours[0], "forget=yes") == 0) {
		autofree char *path = NULL;
		if (asprintf(&path, "%s/session", bus_harness_directory(h->bus)) > 0)
			unlink(path);
	}
	run_fake(bus_harness_directory(h->bus), behaviours);
}

void fake_harness_restart_after(struct fake_harness *h, unsigned milliseconds, const char *const *behaviours)
{
	h->restarter = fork();
	if (h->restarter == 0)
		restart(h, milliseconds, behaviours);
}

void fake_harness_restart_when_gone(struct fake_harness *h, const char *const *behaviours)
{
	fake_harness_restart_after(h, 0, behaviours);
}

void fake_harness_forge_finished(struct fake_harness *h, const char *session)
{
	struct bus *bus = NULL;
	char hex[ID_HEX_SIZE], path[96];

	if (bus_open(&bus, NULL, NULL) < 0)
		abort();
	id_to_hex(session, hex);
	snprintf(path, sizeof path, "%s/%s", VSS_SESSION_PATH, hex);
	bus_emit(bus, path, VSS_IFACE_SESSION, "Finished", "sa{sv}",
		 json_pack("[s{sb}]", "DoSnapshotSet", "Success", 1));
	bus_flush(bus);
	bus_free(bus);
}
