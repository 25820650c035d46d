/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd: wiring only. Order of start: configuration, bus, what is on /run, the name, then the sweep through storage. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/faces.h"
#include "coordinator/log.h"

#define TRIM_AFTER (1 * USEC_PER_SEC)
#define STOP_PATIENCE (10 * USEC_PER_SEC) /* a set that is being created may end before vssd does */

struct arguments {
	const char *config, *runtime_dir, *worker, *guard, *watch;
	const char *manifest_dirs[9];
};

struct daemon {
	struct coordinator c;
	struct arguments arguments;
	sd_event_source *idle, *trim, *turn, *mounts, *term, *interrupt, *patience;
	int mounts_fd;
	bool idle_armed, stopping;
	uint64_t calls_at_release, calls_at_trim;
};

/* ---- the command line ---- */

static void usage(FILE *out)
{
	fputs("vssd [--config FILE] [--runtime-dir DIR] [--manifests DIR[:DIR...]] [--worker PROGRAM]\n"
	      "     [--guard SOCKET] [--watch PROGRAM]\n"
	      "The coordinator of the Volume Shadow Copy Service. See vssd(8).\n",
	      out);
}

static void split_manifests(struct arguments *a, char *list)
{
	size_t n = 0;

	memset(a->manifest_dirs, 0, sizeof a->manifest_dirs);
	for (char *dir = strtok(list, ":"); dir && n + 1 < ARRAY_SIZE(a->manifest_dirs); dir = strtok(NULL, ":"))
		a->manifest_dirs[n++] = dir;
}

static int parse_arguments(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = { { "config", required_argument, NULL, 'c' },
						 { "runtime-dir", required_argument, NULL, 'r' },
						 { "manifests", required_argument, NULL, 'm' },
						 { "worker", required_argument, NULL, 'w' },
						 { "guard", required_argument, NULL, 'g' },
						 { "watch", required_argument, NULL, 'W' },
						 { "help", no_argument, NULL, 'h' },
						 { "version", no_argument, NULL, 'V' },
						 { NULL, 0, NULL, 0 } };
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	int option;

	*a = (struct arguments){ VSSD_CONFIG_FILE, runtime ? runtime : "/run/vssd", VSSD_LIBEXEC_DIR "/vss-worker",
				 GUARD_SOCKET, VSSD_LIBEXEC_DIR "/vss-watch", { VSSD_DATA_DIR "/vssd/writers.d", VSSD_SYSCONF_DIR "/vssd/writers.d" } };
	while ((option = getopt_long(argc, argv, "c:r:m:w:g:W:hV", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			a->config = optarg;
			break;
		case 'r':
			a->runtime_dir = optarg;
			break;
		case 'm':
			split_manifests(a, optarg);
			break;
		case 'w':
			a->worker = optarg;
			break;
		case 'g':
			a->guard = optarg;
			break;
		case 'W':
			a->watch = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'V':
			puts("vssd " VSSD_VERSION);
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

/* ---- ending ---- */

static void stop(struct daemon *d, int code)
{
	if (!d->stopping)
		sd_notify(false, "STOPPING=1");
	d->stopping = true;
	sd_event_exit(d->c.event, code);
}

static bool is_creating(const struct daemon *d)
{
	for (const struct session *s = d->c.sessions.sessions; s; s = s->next)
		if (session_state_is_creating(s->state))
			return true;
	return false;
}

static int patience_over(sd_event_source *source, uint64_t usec, void *data)
{
	stop(data, 0);
	return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct daemon *d = data;

	log_info("ending: signal %u", info->ssi_signo);
	sd_notify(false, "STOPPING=1");
	d->stopping = true;
	if (!is_creating(d))
		stop(d, 0);
	else if (!d->patience)
		sd_event_add_time(d->c.event, &d->patience, CLOCK_MONOTONIC, clock_now() + STOP_PATIENCE, 0,
				  patience_over, d);
	return 0;
}

static void on_bus_lost(void *data)
{
	struct daemon *d = data;

	log_error("the connection to the bus is lost");
	stop(d, 1);
}

/* Nobody registered, no session, nothing under way. */
static bool is_idle(const struct daemon *d)
{
	const struct coordinator *c = &d->c;

	return c->sessions.n_sessions == 0 && registry_present(c->registry) == 0 && workers_busy(c->workers) == 0 &&
	       bus_calls_kept(c->bus) == 0 && fanout_is_idle(c->fanout) && !catalogue_is_busy(c->catalogue);
}

static void name_requested(const struct bus_reply *reply, void *data);

/* All that was sent to the name before it was given up has arrived by now: who came meanwhile is served. */
static void name_released(const struct bus_reply *reply, void *data)
{
	struct daemon *d = data;

	if (d->stopping) /* what is asked about below may be gone */
		return;
	if (!is_idle(d) || bus_calls_received(d->c.bus) != d->calls_at_release)
		bus_request_name(d->c.bus, VSS_BUS_NAME, name_requested, d, NULL);
	else
		stop(d, 0);
}

static int idle_over(sd_event_source *source, uint64_t usec, void *data)
{
	struct daemon *d = data;

	d->idle_armed = false;
	if (!is_idle(d))
		return 0;
	log_info("ending: nothing to do");
	d->calls_at_release = bus_calls_received(d->c.bus);
	bus_release_name(d->c.bus, VSS_BUS_NAME, name_released, d, NULL);
	return 0;
}

/* A list of hundreds of copies or writers leaves megabytes of free heap behind. */
static int trim_due(sd_event_source *source, uint64_t usec, void *data)
{
	struct daemon *d = data;

	if (d->c.sessions.n_sessions == 0)
		malloc_trim(0);
	return 0;
}

static void plan_trim(struct daemon *d)
{
	uint64_t calls = bus_calls_received(d->c.bus);

	if (calls == d->calls_at_trim)
		return;
	d->calls_at_trim = calls;
	sd_event_source_set_time(d->trim, clock_now() + TRIM_AFTER);
	sd_event_source_set_enabled(d->trim, SD_EVENT_ONESHOT);
}

/* After each turn of the loop: whatever happened was activity, and begins the idle time anew. */
static int on_turn(sd_event_source *source, void *data)
{
	struct daemon *d = data;

	log_flush();
	if (d->stopping && !is_creating(d))
		sd_event_exit(d->c.event, 0);
	plan_trim(d);
	if (d->c.config.idle_timeout == USEC_INFINITY)
		return 0;
	if (!is_idle(d)) {
		if (d->idle_armed)
			sd_event_source_set_enabled(d->idle, SD_EVENT_OFF);
		d->idle_armed = false;
		return 0;
	}
	sd_event_source_set_time(d->idle, clock_now() + d->c.config.idle_timeout);
	sd_event_source_set_enabled(d->idle, SD_EVENT_ONESHOT);
	d->idle_armed = true;
	return 0;
}

/* ---- starting ---- */

static void swept(const struct err *err, void *data)
{
	if (err->code && err->code != VSS_E_CANCELLED)
		log_warning("the catalogue could not be read: %s", err->text);
}

static void name_requested(const struct bus_reply *reply, void *data)
{
	struct daemon *d = data;
	json_int_t result = json_integer_value(json_array_get(reply->args, 0));

	if (reply->error || (result != 1 && result != 4)) {
		log_error("cannot own " VSS_BUS_NAME ": %s",
			  reply->error ? reply->message : "another vssd has it on this bus");
		stop(d, 1);
		return;
	}
	sd_notify(false, "READY=1");
	workers_warm(d->c.workers, "volumes");
	catalogue_refresh(d->c.catalogue, swept, d);
}

static struct daemon *daemon_of(struct coordinator *c)
{
	return (struct daemon *)((char *)c - offsetof(struct daemon, c));
}

static void sessions_restored(struct coordinator *c)
{
	struct daemon *d = daemon_of(c);
	struct err err = { 0 };

	if (bus_request_name(c->bus, VSS_BUS_NAME, name_requested, d, &err) < 0) {
		log_error("%s", err.text);
		stop(d, 1);
	}
}

static void writers_restored(struct coordinator *c)
{
	session_faces_restore(c, sessions_restored);
}

static int on_mounts(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct daemon *d = data;

	catalogue_storage_changed(d->c.catalogue);
	return 0;
}

static void manifest_refused(const struct err *err, void *data)
{
	log_warning("%s", err->text);
}

static void identify_machine(struct coordinator *c)
{
	sd_id128_t id;

	if (*c->config.machine_id) {
		memcpy(c->machine_id, c->config.machine_id, sizeof c->machine_id);
	} else if (sd_id128_get_machine(&id) >= 0) {
		sd_id128_to_string(id, c->machine_id);
	} else {
		/* Without one, copies are still ours as long as nobody else without one sees them. */
		memset(c->machine_id, '0', 32);
		log_warning("this machine has no id in /etc/machine-id");
	}
	if (gethostname(c->host_name, sizeof c->host_name - 1) < 0)
		strcpy(c->host_name, "localhost");
}

/* Where backup tools mount copies in their private namespaces: one place that is always there, so that what they back up
 * has the same paths each night. */
static void make_mount_root(const char *runtime_dir)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/root", runtime_dir) < 0)
		path = NULL;
	else if (mkdir(path, 0755) < 0 && errno != EEXIST)
		log_warning("%s cannot be made: %s", path, strerror(errno));
}

static void watch_storage(void *data)
{
	struct coordinator *c = data;

	storage_watch_wake(c->watch);
}

static int make_parts(struct daemon *d, struct err *err)
{
	struct coordinator *c = &d->c;
	const struct arguments *a = &d->arguments;
	struct registry_listener writers = writer_face_listener(c);
	struct catalogue_listener shadows = shadow_face_listener(c);

	if (state_store_new(&c->writer_store, a->runtime_dir, "writers", err) < 0 ||
	    state_store_new(&c->session_store, a->runtime_dir, "sessions", err) < 0 ||
	    bus_open(&c->bus, NULL, err) < 0 || workers_new(&c->workers, c->event, a->worker, err) < 0 ||
	    coordinator_face_export(c, err) < 0)
		return -1;
	make_mount_root(a->runtime_dir);
	c->bus_source = bus_source_new(c->event, c->bus, on_bus_lost, d);
	c->fanout = fanout_new(c->event);
	c->locks = locks_new();
	c->guard = guard_new(c->event, a->guard);
	c->watch = storage_watch_new(c->event, c->bus, a->watch);
	c->authority = authority_new(c->bus);
	c->registry = registry_new(&c->manifests, c->writer_store, c->config.max_writers, &writers);
	c->catalogue = catalogue_new(c->event, c->workers, &c->config, c->machine_id, &shadows);
	if (!c->bus_source || !c->fanout || !c->locks || !c->guard || !c->watch || !c->authority || !c->registry || !c->catalogue)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	c->sessions = (struct session_context){ .event = c->event,
						.config = &c->config,
						.registry = c->registry,
						.workers = c->workers,
						.fanout = c->fanout,
						.locks = c->locks,
						.catalogue = c->catalogue,
						.guard = c->guard,
						.watch_storage = watch_storage,
						.watch_data = c,
						.store = c->session_store,
						.machine_id = c->machine_id,
						.host_name = c->host_name,
						.listener = session_face_listener(c),
						.activate = writer_face_activate,
						.activate_data = c };
	return 0;
}

static int make_sources(struct daemon *d, struct err *err)
{
	sd_event *event = d->c.event;

	d->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (sd_event_add_signal(event, &d->term, SIGTERM, on_signal, d) < 0 ||
	    sd_event_add_signal(event, &d->interrupt, SIGINT, on_signal, d) < 0 ||
	    sd_event_add_time(event, &d->idle, CLOCK_MONOTONIC, USEC_INFINITY, USEC_PER_SEC, idle_over, d) < 0 ||
	    sd_event_add_time(event, &d->trim, CLOCK_MONOTONIC, USEC_INFINITY, USEC_PER_SEC, trim_due, d) < 0 ||
	    sd_event_add_post(event, &d->turn, on_turn, d) < 0 ||
	    (d->mounts_fd >= 0 &&
	     sd_event_add_io(event, &d->mounts, d->mounts_fd, EPOLLPRI, on_mounts, d) < 0))
		return err_set(err, VSS_E_UNEXPECTED, "Cannot set up the event loop");
	sd_event_source_set_enabled(d->idle, SD_EVENT_OFF);
	sd_event_source_set_enabled(d->trim, SD_EVENT_OFF);
	sd_event_set_watchdog(event, true);
	return 0;
}

static int start(struct daemon *d, struct err *err)
{
	struct coordinator *c = &d->c;

	config_defaults(&c->config);
	if (config_read(&c->config, d->arguments.config, err) < 0 ||
	    manifests_read(&c->manifests, d->arguments.manifest_dirs, manifest_refused, NULL, err) < 0)
		return -1;
	identify_machine(c);
	if (sd_event_new(&c->event) < 0)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	if (make_parts(d, err) < 0 || make_sources(d, err) < 0)
		return -1;
	writer_faces_restore(c, writers_restored);
	return 0;
}

static void finish(struct daemon *d)
{
	struct coordinator *c = &d->c;

	/* Whatever is under way ends while all that its callbacks use is still there. */
	sessions_free(&c->sessions);
	session_faces_free(c);
	c->guard = guard_free(c->guard);
	c->watch = storage_watch_free(c->watch);
	revert_faces_free(c);
	c->workers = workers_free(c->workers);
	if (c->bus)
		bus_cancel_calls(c->bus);
	c->fanout = fanout_free(c->fanout);
	c->catalogue = catalogue_free(c->catalogue);
	shadow_faces_free(c);
	storage_faces_free(c);
	writer_faces_free(c);
	registry_free(c->registry);
	authority_free(c->authority);
	bus_source_free(c->bus_source);
	if (c->bus)
		bus_flush(c->bus);
	bus_free(c->bus);
	locks_free(c->locks);
	state_store_free(c->writer_store);
	state_store_free(c->session_store);
	manifests_done(&c->manifests);
	sd_event_source *sources[] = { d->idle, d->trim, d->turn, d->mounts, d->term, d->interrupt, d->patience };
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		sd_event_source_disable_unref(sources[i]);
	if (d->mounts_fd >= 0)
		close(d->mounts_fd);
	sd_event_unref(c->event);
	log_flush();
}

int main(int argc, char **argv)
{
	struct daemon d = { .mounts_fd = -1 };
	struct err err = { 0 };
	sigset_t signals;
	int code = 1;

	if (parse_arguments(&d.arguments, argc, argv) < 0)
		return 2;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (start(&d, &err) < 0)
		log_error("%s", err.text);
	else
		code = sd_event_loop(d.c.event);
	finish(&d);
	return code < 0 ? 1 : code;
}
