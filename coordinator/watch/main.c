/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-watch: watches the fill of copies' stores and of thin pools that hold copies, for as long as there are any. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/config.h"
#include "coordinator/log.h"
#include "coordinator/state-store.h"
#include "coordinator/watch/keeper.h"

#define LINGER (10 * USEC_PER_SEC) /* volume groups come up late at boot, copies one after another */
#define WRITE_EVERY (1 * USEC_PER_SEC)

struct arguments {
	const char *runtime_dir, *vssd_dir, *worker, *config;
	uint64_t linger;
};

static void usage(FILE *out)
{
	fputs("vss-watch [--runtime-dir DIR] [--vssd-dir DIR] [--config FILE] [--worker PROGRAM] [--linger SECONDS]\n"
	      "Keeps the storage of shadow copies from filling up. See vss-watch(8).\n",
	      out);
}

static int parse_arguments(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = { { "runtime-dir", required_argument, NULL, 'r' },
						 { "vssd-dir", required_argument, NULL, 'd' },
						 { "worker", required_argument, NULL, 'w' },
						 { "config", required_argument, NULL, 'c' },
						 { "linger", required_argument, NULL, 'l' },
						 { "help", no_argument, NULL, 'h' },
						 { "version", no_argument, NULL, 'V' },
						 { NULL, 0, NULL, 0 } };
	int option;

	*a = (struct arguments){ VSS_WATCH_DIR, "/run/vssd", VSSD_LIBEXEC_DIR "/vss-worker",
				 VSSD_CONFIG_FILE, LINGER };
	while ((option = getopt_long(argc, argv, "r:d:w:c:l:hV", options, NULL)) >= 0) {
		switch (option) {
		case 'r':
			a->runtime_dir = optarg;
			break;
		case 'd':
			a->vssd_dir = optarg;
			break;
		case 'w':
			a->worker = optarg;
			break;
		case 'c':
			a->config = optarg;
			break;
		case 'l':
			a->linger = strtoul(optarg, NULL, 10) * USEC_PER_SEC;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'V':
			puts("vss-watch " VSSD_VERSION);
			exit(0);
		default:
			usage(stderr);
			return -1;
		}
	}
	if (optind == argc)
		return 0;
	usage(stderr);
	return -1;
}

/* One at a time: the lock, or -1 when another one watches. */
static int take_lock(const char *runtime_dir)
{
	char path[PATH_MAX];

	mkdir(runtime_dir, 0755);
	snprintf(path, sizeof path, "%s/lock", runtime_dir);
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -1;
	return steal_fd(fd);
}

static int signal_fd(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static void write_state(struct state_store *store, const struct keeper *keeper, uint64_t now)
{
	static uint64_t written;
	autojson json_t *state = NULL;
	struct err err = { 0 };

	if (written && now < written + WRITE_EVERY)
		return;
	written = now;
	state = keeper_state(keeper);
	if (state_store_put(store, "watch", state, &err) < 0)
		log_warning("%s", err.text);
}

/* Until there has been nothing to watch for a while, or a signal comes. */
static void run(struct keeper *keeper, struct state_store *store, int signals, uint64_t linger)
{
	struct pollfd wake = { .fd = signals, .events = POLLIN };
	uint64_t busy = clock_now();

	for (;;) {
		uint64_t now = clock_now(), next = keeper_turn(keeper, now);
		if (keeper_has_work(keeper))
			busy = clock_now();
		write_state(store, keeper, now);
		log_flush();
		now = clock_now();
		if (now > busy + linger)
			break;
		if (poll(&wake, 1, next > now ? (int)((next - now) / USEC_PER_MSEC) + 1 : 0) > 0)
			break;
	}
}

/* As vssd tags its copies with it. */
static void machine_id(const struct config *config, char text[SD_ID128_STRING_MAX])
{
	sd_id128_t id;

	if (*config->machine_id)
		snprintf(text, SD_ID128_STRING_MAX, "%s", config->machine_id);
	else if (sd_id128_get_machine(&id) >= 0)
		sd_id128_to_string(id, text);
	else
		snprintf(text, SD_ID128_STRING_MAX, "%032d", 0);
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	char sessions[PATH_MAX], machine[SD_ID128_STRING_MAX];
	struct config config;
	struct keeper keeper = { .worker = { .fd = -1 } };
	struct state_store *store = NULL;
	struct err err = { 0 };

	if (parse_arguments(&arguments, argc, argv) < 0)
		return 2;
	autoclose int lock = take_lock(arguments.runtime_dir), signals = signal_fd();
	if (lock < 0) {
		sd_notify(false, "READY=1");
		return 0; /* it is watched already */
	}
	if (signals < 0 || state_store_new(&store, arguments.runtime_dir, "state", &err) < 0) {
		log_error("%s", err.code ? err.text : "no signals");
		log_flush();
		return 1;
	}
	config_defaults(&config);
	if (config_read(&config, arguments.config, &err) < 0)
		log_warning("%s", err.text); /* vssd says no more; what fills up has to be watched all the same */
	machine_id(&config, machine);
	snprintf(sessions, sizeof sessions, "%s/sessions", arguments.vssd_dir);
	keeper.worker.program = arguments.worker;
	keeper.owner = (struct room_owner){ machine, sessions };
	keeper.events = json_array();
	sd_notify(false, "READY=1");
	run(&keeper, store, signals, arguments.linger);
	state_store_remove(store, "watch");
	keeper_done(&keeper);
	state_store_free(store);
	log_flush();
	return 0;
}
