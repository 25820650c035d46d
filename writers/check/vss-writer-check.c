/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tries a writer against a coordinator and a bus of its own; see vss-writer-check(1). */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checks.h"
#include "common/cleanup.h"
#include "private-bus.h"

#define EXIT_FAILED 1      /* a check failed */
#define EXIT_USAGE 2
#define EXIT_CANNOT_RUN 3  /* no bus, no command, no registration */
#define CHECKS_MAX 32

struct options {
	bool json;
	unsigned wait_seconds;
	const char *skip[CHECKS_MAX], *only[CHECKS_MAX];
	size_t n_skip, n_only;
	char **command;
};

static const char usage[] =
	"Usage: vss-writer-check [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Starts COMMAND, a writer, on a bus of its own and plays the coordinator.\n\n"
	"  --only CHECK     run this check; repeatable\n"
	"  --skip CHECK     leave this check out; repeatable\n"
	"  --list           print the checks\n"
	"  --wait SECONDS   how long to wait for the registration (10)\n"
	"  --json           one JSON document instead of lines\n"
	"  --help, --version\n\n"
	"Exit status: 0 all passed, 1 a check failed, 2 usage, 3 the writer could not be tried.\n";

static bool is_listed(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static bool add_check(const char **list, size_t *n, const char *name)
{
	for (size_t i = 0; i < n_checks && *n < CHECKS_MAX; i++) {
		if (strcmp(checks[i].name, name) == 0) {
			list[(*n)++] = name;
			return true;
		}
	}
	fprintf(stderr, "vss-writer-check: there is no check \"%s\"; see --list\n", name);
	return false;
}

static int print_checks(void)
{
	for (size_t i = 0; i < n_checks; i++)
		printf("%-16s  %s\n", checks[i].name, checks[i].about);
	return 0;
}

/* -1: go on. Otherwise the exit status. */
static int parse(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "json", no_argument, NULL, 'j' },       { "wait", required_argument, NULL, 'w' },
		{ "skip", required_argument, NULL, 's' }, { "only", required_argument, NULL, 'o' },
		{ "list", no_argument, NULL, 'l' },       { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },    { 0 },
	};
	int option;

	*o = (struct options){ .wait_seconds = 10 };
	while ((option = getopt_long(argc, argv, "+", names, NULL)) != -1) {
		switch (option) {
		case 'j':
			o->json = true;
			break;
		case 'w':
			o->wait_seconds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			if (!add_check(o->skip, &o->n_skip, optarg))
				return EXIT_USAGE;
			break;
		case 'o':
			if (!add_check(o->only, &o->n_only, optarg))
				return EXIT_USAGE;
			break;
		case 'l':
			return print_checks();
		case 'h':
			return printf("%s", usage), 0;
		case 'V':
			return puts("vss-writer-check " VSSD_VERSION), 0;
		default:
			return EXIT_USAGE;
		}
	}
	o->command = argv + optind;
	if (*o->command)
		return -1;
	fputs("vss-writer-check: the command that starts the writer is missing; see --help\n", stderr);
	return EXIT_USAGE;
}

/* ---- the writer under test ---- */

static pid_t start_writer(char **command, const char *address)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
	dup2(STDERR_FILENO, STDOUT_FILENO); /* our own output may be for a program */
	execvp(*command, command);
	fprintf(stderr, "vss-writer-check: %s: %s\n", *command, strerror(errno));
	_exit(127);
}

/* Asks first; a writer that does not end within 5 s is killed. */
static void stop_writer(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGTERM);
	for (int i = 0; i < 500; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return;
		usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static bool wait_for_registration(struct stage *stage, pid_t pid, unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 10; i++) {
		if (stage_wait_registrations(stage, 1, 100))
			return true;
		if (writer_has_ended(pid)) {
			fputs("vss-writer-check: the command ended before it registered\n", stderr);
			return false;
		}
	}
	fprintf(stderr, "vss-writer-check: no writer registered within %u s\n", seconds);
	return false;
}

/* ---- the copy that is no copy ---- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
	return remove(path);
}

static int open_copy(char *path, size_t size, const struct private_bus *bus)
{
	snprintf(path, size, "%s/copy", private_bus_directory(bus));
	if (mkdir(path, 0700) < 0)
		return -1;
	/* A writer with a user of its own gets the descriptor; it needs no way through the path. */
	chmod(path, 0777);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void run_checks(const struct options *o, struct check_run *run)
{
	for (size_t i = 0; i < n_checks; i++) {
		if (o->n_only > 0 && !is_listed(checks[i].name, o->only, o->n_only))
			continue;
		if (is_listed(checks[i].name, o->skip, o->n_skip))
			report_verdict(run->report, checks[i].name, VERDICT_SKIP, 0, "Left out as asked");
		else
			check_run(run, &checks[i]);
	}
}

static int try_writer(const struct options *o, struct private_bus *bus, struct stage *stage)
{
	char copy[128];
	struct report report;
	struct check_run run = { .stage = stage, .report = &report };
	int status = EXIT_CANNOT_RUN;

	report_init(&report, o->json);
	run.copy_fd = open_copy(copy, sizeof copy, bus);
	run.writer_pid = start_writer(o->command, private_bus_address(bus));
	if (run.copy_fd >= 0 && wait_for_registration(stage, run.writer_pid, o->wait_seconds)) {
		run_checks(o, &run);
		report_print_end(&report);
		status = report.counts[VERDICT_FAIL] > 0 ? EXIT_FAILED : 0;
	}
	stop_writer(run.writer_pid);
	if (run.copy_fd >= 0)
		close(run.copy_fd);
	nftw(copy, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	report_clear(&report);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	struct private_bus *bus = NULL;
	struct stage *stage = NULL;
	struct err err = { 0 };
	int status = parse(&options, argc, argv);

	if (status >= 0)
		return status;
	signal(SIGPIPE, SIG_IGN);
	if (private_bus_start(&bus, &err) < 0 || stage_open(&stage, private_bus_address(bus), &err) < 0) {
		fprintf(stderr, "vss-writer-check: %s\n", err.text);
		status = EXIT_CANNOT_RUN;
	} else {
		status = try_writer(&options, bus, stage);
	}
	stage_close(stage);
	private_bus_stop(bus);
	return status;
}
