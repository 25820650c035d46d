/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define ADDRESS_VARIABLE "DBUS_SYSTEM_BUS_ADDRESS"
#define DIRECTORY_MARK "@DIR@"
#define RUN_BUSES_MAX 64

struct bus_harness {
	char directory[64];
	char address[128];
	char *former_address;
	bool exported;
	pid_t pid;
};

static const char permissive_config[] =
	"<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
	" \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
	"<busconfig>\n"
	"  <type>system</type>\n"
	"  <listen>unix:path=" DIRECTORY_MARK "/bus</listen>\n"
	"  <auth>EXTERNAL</auth>\n"
	"  <policy context=\"default\">\n"
	"    <allow user=\"*\"/>\n"
	"    <allow own=\"*\"/>\n"
	"    <allow send_destination=\"*\"/>\n"
	"    <allow send_type=\"method_call\"/>\n"
	"    <allow receive_sender=\"*\"/>\n"
	"  </policy>\n"
	"  <limit name=\"max_completed_connections\">20000</limit>\n"
	"  <limit name=\"max_incomplete_connections\">4000</limit>\n"
	"  <limit name=\"max_connections_per_user\">20000</limit>\n"
	"  <limit name=\"max_replies_per_connection\">50000</limit>\n"
	"  <limit name=\"max_match_rules_per_connection\">50000</limit>\n"
	"  <limit name=\"max_names_per_connection\">50000</limit>\n"
	"  <limit name=\"max_pending_service_starts\">10000</limit>\n"
	"  <limit name=\"auth_timeout\">60000</limit>\n"
	"</busconfig>\n";

static int write_config(const struct bus_harness *h, const char *config, const char *path)
{
	FILE *out = fopen(path, "we");

	if (!out)
		return -1;
	for (const char *mark; (mark = strstr(config, DIRECTORY_MARK)); config = mark + strlen(DIRECTORY_MARK))
		fprintf(out, "%.*s%s", (int)(mark - config), config, h->directory);
	fputs(config, out);
	return fclose(out);
}

/* In the child: only what is safe after fork, since a test program may have threads. */
static _Noreturn void run_daemon(const char *config, int ready_fd, pid_t parent)
{
	char option[32];

	/* A test that crashes must not leave its daemon behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	fcntl(ready_fd, F_SETFD, 0);
	snprintf(option, sizeof option, "--print-address=%d", ready_fd);
	execlp("dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--config-file", config, option,
	       (char *)NULL);
	_exit(127);
}

/* The daemon prints its address once it listens. */
static int wait_until_ready(int fd)
{
	char line[256];
	ssize_t n;

	do
		n = read(fd, line, sizeof line);
	while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : -1;
}

static int start_daemon(struct bus_harness *h, const char *config)
{
	int ready[2];
	pid_t parent = getpid();

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	h->pid = fork();
	if (h->pid == 0)
		run_daemon(config, ready[1], parent);
	close(ready[1]);
	int r = h->pid < 0 ? -1 : wait_until_ready(ready[0]);
	close(ready[0]);
	return r;
}

static int start(struct bus_harness *h, const char *config, bus_harness_fill_fn fill, void *data)
{
	char path[96];
	const char *former = getenv(ADDRESS_VARIABLE);

	strcpy(h->directory, "/tmp/vssd-bus.XXXXXX");
	if (!mkdtemp(h->directory)) {
		*h->directory = '\0';
		return -1;
	}
	/* Other users' connections are tested too: they must reach the socket. */
	if (chmod(h->directory, 0755) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/bus.conf", h->directory);
	if (write_config(h, config, path) < 0 || (fill && fill(h->directory, data) < 0) || start_daemon(h, path) < 0)
		return -1;
	snprintf(h->address, sizeof h->address, "unix:path=%s/bus", h->directory);
	h->former_address = former ? strdup(former) : NULL;
	h->exported = true;
	return setenv(ADDRESS_VARIABLE, h->address, 1);
}

struct bus_harness *bus_harness_start_with(const char *config, bus_harness_fill_fn fill, void *data)
{
	struct bus_harness *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->pid = -1;
	if (start(h, config ? config : permissive_config, fill, data) == 0)
		return h;
	fprintf(stderr, "bus-harness: dbus-daemon did not start in %s\n", *h->directory ? h->directory : "/tmp");
	return bus_harness_stop(h);
}

struct bus_harness *bus_harness_start(void)
{
	return bus_harness_start_with(NULL, NULL, NULL);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
	return remove(path);
}

static void stop_daemon(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

struct bus_harness *bus_harness_stop(struct bus_harness *h)
{
	if (!h)
		return NULL;
	stop_daemon(h->pid);
	if (*h->directory)
		nftw(h->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	if (h->exported && h->former_address)
		setenv(ADDRESS_VARIABLE, h->former_address, 1);
	else if (h->exported)
		unsetenv(ADDRESS_VARIABLE);
	free(h->former_address);
	free(h);
	return NULL;
}

const char *bus_harness_address(const struct bus_harness *h)
{
	return h->address;
}

const char *bus_harness_directory(const struct bus_harness *h)
{
	return h->directory;
}

pid_t bus_harness_pid(const struct bus_harness *h)
{
	return h->pid;
}

static void wait_for_input(struct bus *const *buses, size_t n, uint64_t end)
{
	struct pollfd fds[RUN_BUSES_MAX];
	uint64_t now = clock_now();

	for (size_t i = 0; i < n; i++)
		fds[i] = (struct pollfd){ .fd = buses[i] ? bus_fd(buses[i]) : -1, .events = POLLIN };
	if (now < end)
		poll(fds, n, (int)((end - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC));
}

bool bus_harness_run(struct bus *const *buses, size_t n, const bool *flag, unsigned milliseconds)
{
	uint64_t end = clock_now() + milliseconds * USEC_PER_MSEC;

	n = n > RUN_BUSES_MAX ? RUN_BUSES_MAX : n;
	for (;;) {
		for (size_t i = 0; i < n; i++)
			if (buses[i])
				bus_dispatch(buses[i]);
		if (flag && *flag)
			return true;
		if (clock_now() >= end)
			return false;
		wait_for_input(buses, n, end);
	}
}
