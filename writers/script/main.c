/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-script-writer: writers made of executables. Wiring only. */
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "common/cleanup.h"
#include "writers/script/log.h"
#include "writers/script/script-writer.h"

#define CONFIG_PATTERN "/etc/vssd/script-writers.d/*.conf"
#define RUNTIME_DIRECTORY "/run/vss-script-writer"
#define EXIT_USAGE 2

struct program {
	sd_event *loop;
	int runtime_directory;
	const char *bus_address;
	struct script_writer **writers;
	size_t n_writers, n_running;
};

static int usage(void)
{
	fputs("Usage: vss-script-writer [--runtime-dir DIR] [--bus ADDRESS] [FILE...]\n"
	      "\n"
	      "Serves the script writers that FILEs configure, by default " CONFIG_PATTERN ".\n"
	      "See vss-script-writer(8).\n",
	      stderr);
	return EXIT_USAGE;
}

static int open_runtime_directory(const char *path)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -1;
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int make_absolute(const char *file, char path[PATH_MAX], struct err *err)
{
	autofree char *here = *file == '/' ? NULL : getcwd(NULL, 0);
	int n = snprintf(path, PATH_MAX, "%s%s%s", here ? here : "", here ? "/" : "", file);

	if (n < PATH_MAX && (here || *file == '/'))
		return 0;
	return err_set(err, VSS_E_INVALID_ARGUMENT, "%s: the path is too long", file);
}

static void start_writer(struct program *program, const char *file)
{
	struct script_writer *writer;
	struct err err = { 0 };
	char path[PATH_MAX];

	if (make_absolute(file, path, &err) < 0 ||
	    script_writer_new(&writer, program->loop, path, program->runtime_directory, program->bus_address, &err) <
		0) {
		log_line(LOG_ERR, NULL, "%s", err.text);
		return;
	}
	log_line(LOG_INFO, script_writer_name(writer), "serves %s", file);
	program->writers[program->n_writers++] = writer;
	program->n_running++;
}

/* One that cannot be started is told of, and does not keep the others from their work. */
static int start_writers(struct program *program, char *const *files, size_t n)
{
	glob_t found = { 0 };

	if (n == 0 && glob(CONFIG_PATTERN, 0, NULL, &found) == 0) {
		files = found.gl_pathv;
		n = found.gl_pathc;
	}
	program->writers = calloc(n + 1, sizeof *program->writers);
	for (size_t i = 0; program->writers && i < n; i++)
		start_writer(program, files[i]);
	if (n == 0)
		log_line(LOG_ERR, NULL, "there is no %s", CONFIG_PATTERN);
	globfree(&found);
	if (program->n_writers == 0)
		return -1;
	sd_notifyf(0, "READY=1\nSTATUS=%zu of %zu script writers are served", program->n_writers, n);
	return 0;
}

static void on_stopped(struct script_writer *writer, void *data)
{
	struct program *program = data;

	if (--program->n_running == 0)
		sd_event_exit(program->loop, 0);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct program *program = data;

	sd_notify(0, "STOPPING=1");
	for (size_t i = 0; i < program->n_writers; i++)
		script_writer_stop(program->writers[i], on_stopped, program);
	return 0;
}

static int watch_signals(struct program *program)
{
	static const int numbers[] = { SIGTERM, SIGINT };
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&mask, numbers[i]);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN); /* a co-process that died is noticed otherwise */
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		int r = sd_event_add_signal(program->loop, NULL, numbers[i], on_signal, program);
		if (r < 0)
			return r;
	}
	return 0;
}

static int run(struct program *program, const char *runtime_directory, char *const *files, size_t n)
{
	program->runtime_directory = open_runtime_directory(runtime_directory);
	if (program->runtime_directory < 0) {
		log_line(LOG_ERR, NULL, "%s cannot be used: %s", runtime_directory, strerror(errno));
		return EXIT_FAILURE;
	}
	int r = sd_event_new(&program->loop);
	if (r >= 0)
		r = watch_signals(program);
	if (r >= 0 && start_writers(program, files, n) < 0)
		return EXIT_FAILURE;
	if (r >= 0)
		r = sd_event_loop(program->loop);
	if (r < 0)
		log_line(LOG_ERR, NULL, "the event loop failed: %s", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "bus", required_argument, NULL, 'b' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	/* systemd's RuntimeDirectory= */
	const char *runtime_directory = getenv("RUNTIME_DIRECTORY");
	struct program program = { .runtime_directory = -1 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'V')
			return printf("vss-script-writer %s\n", VSSD_VERSION) < 0;
		if (option != 'r' && option != 'b')
			return usage();
		*(option == 'r' ? &runtime_directory : &program.bus_address) = optarg;
	}
	int code = run(&program, runtime_directory ? runtime_directory : RUNTIME_DIRECTORY, argv + optind,
		       (size_t)(argc - optind));
	for (size_t i = 0; i < program.n_writers; i++)
		script_writer_free(program.writers[i]);
	free(program.writers);
	sd_event_unref(program.loop);
	cleanup_close(&program.runtime_directory);
	return code;
}
