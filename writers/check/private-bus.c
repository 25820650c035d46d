/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "private-bus.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

struct private_bus {
	char directory[64], config[96], socket[96], address[128];
	pid_t pid;
};

static int write_config(const struct private_bus *bus, struct err *err)
{
	FILE *file = fopen(bus->config, "we");

	if (!file)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot write %s", bus->config);
	/* Any user may connect: the writer under test may run as one of its own. */
	fprintf(file,
		"<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
		" \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
		"<busconfig>\n<type>system</type>\n<listen>unix:path=%s</listen>\n<auth>EXTERNAL</auth>\n"
		"<policy context=\"default\">\n<allow user=\"*\"/>\n<allow own=\"*\"/>\n"
		"<allow send_destination=\"*\" eavesdrop=\"false\"/>\n<allow receive_sender=\"*\"/>\n</policy>\n"
		"</busconfig>\n",
		bus->socket);
	if (fclose(file) != 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot write %s", bus->config);
	return 0;
}

static void run_daemon(const struct private_bus *bus, int ready_fd)
{
	char option[96];

	/* It must not outlive us, however we end. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(ready_fd, F_SETFD, 0);
	snprintf(option, sizeof option, "--print-address=%d", ready_fd);
	execlp("dbus-daemon", "dbus-daemon", "--config-file", bus->config, "--nofork", "--nopidfile", "--nosyslog", option,
	       NULL);
	_exit(127);
}

static int start_daemon(struct private_bus *bus, struct err *err)
{
	int ready[2];
	char line[256];

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot make a pipe");
	bus->pid = fork();
	if (bus->pid == 0)
		run_daemon(bus, ready[1]);
	close(ready[1]);
	/* It prints its address when it listens, and nothing when it cannot. */
	ssize_t n = bus->pid < 0 ? -1 : read(ready[0], line, sizeof line);
	close(ready[0]);
	if (n <= 0)
		return err_set(err, VSS_E_NOT_AVAILABLE, "dbus-daemon cannot be started; is it installed?");
	return 0;
}

int private_bus_start(struct private_bus **ret_bus, struct err *err)
{
	struct private_bus *bus = calloc(1, sizeof *bus);

	if (!bus)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	bus->pid = -1;
	strcpy(bus->directory, "/tmp/vss-writer-check.XXXXXX");
	if (!mkdtemp(bus->directory)) {
		int saved = errno;
		free(bus);
		return err_errno(err, saved, VSS_E_UNEXPECTED, "Cannot make a directory in /tmp");
	}
	chmod(bus->directory, 0711);
	snprintf(bus->config, sizeof bus->config, "%s/bus.conf", bus->directory);
	snprintf(bus->socket, sizeof bus->socket, "%s/bus", bus->directory);
	snprintf(bus->address, sizeof bus->address, "unix:path=%s", bus->socket);
	if (write_config(bus, err) < 0 || start_daemon(bus, err) < 0) {
		private_bus_stop(bus);
		return -1;
	}
	*ret_bus = bus;
	return 0;
}

struct private_bus *private_bus_stop(struct private_bus *bus)
{
	if (!bus)
		return NULL;
	if (bus->pid > 0) {
		kill(bus->pid, SIGTERM);
		while (waitpid(bus->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	unlink(bus->socket);
	unlink(bus->config);
	rmdir(bus->directory);
	free(bus);
	return NULL;
}

const char *private_bus_address(const struct private_bus *bus)
{
	return bus->address;
}

const char *private_bus_directory(const struct private_bus *bus)
{
	return bus->directory;
}
