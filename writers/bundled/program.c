/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bundled writer's program: options, the loop, the way to vssd, discovery. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/bundled/rounds.h"
#include "writers/bundled/settings.h"
#include "writers/script/log.h"

#define EXIT_USAGE 2
#define FIRST_DISCOVERY_LIMIT (5 * USEC_PER_SEC)
#define STOP_LIMIT (10 * USEC_PER_SEC)

/* The thread that looks for instances; what it found is taken over by the loop. */
struct discovery {
	pthread_t thread;
	bool running;
	bool answer; /* Identify waits for it */
	int fd;	     /* readable: it is done */
	json_t *found;
	struct err err;
};

struct program {
	const struct bundled_kind *kind;
	const char *config_file, *bus_address;
	json_t *settings;
	sd_event *loop;
	struct vss_writer *writer;
	struct instances instances;
	struct rounds rounds;
	struct discovery discovery;
	sd_event_source *bus_source, *timer, *first_timer, *stop_timer;
	bool registered, stopping;
	char refusal[256]; /* that was logged last */
};

static void go_on_the_bus(struct program *program);

/* ---- discovery ---- */

static void *discover(void *data)
{
	struct program *program = data;

	program->discovery.found = program->kind->discover(program->settings, &program->discovery.err);
	(void)!write(program->discovery.fd, &(uint64_t){ 1 }, sizeof(uint64_t));
	return NULL;
}

static int discovery_start(struct program *program)
{
	if (program->discovery.running)
		return -1;
	program->discovery.err = (struct err){ 0 };
	program->discovery.running = pthread_create(&program->discovery.thread, NULL, discover, program) == 0;
	return program->discovery.running ? 0 : -1;
}

static void discovery_take(struct program *program)
{
	struct discovery *discovery = &program->discovery;
	autojson json_t *found = NULL;

	pthread_join(discovery->thread, NULL);
	discovery->running = false;
	found = steal_pointer(discovery->found);
	if (!found) {
		log_line(LOG_ERR, NULL, "the instances cannot be found out: %s", discovery->err.text);
		return;
	}
	instances_update(&program->instances, found);
	instances_declare(&program->instances, program->writer);
}

static int on_discovered(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct program *program = data;
	bool answer = program->discovery.answer;
	uint64_t count;

	(void)!read(fd, &count, sizeof count);
	discovery_take(program);
	program->discovery.answer = false;
	if (answer)
		vss_writer_done(program->writer, VSS_EVENT_IDENTIFY,
				program->discovery.err.code ? VSS_RESULT_RETRYABLE : VSS_RESULT_OK,
				program->discovery.err.code ? program->discovery.err.text : NULL);
	go_on_the_bus(program);
	return 0;
}

/* ---- events ---- */

static void set_timer(struct program *program)
{
	uint64_t next = rounds_next_time(&program->rounds);

	sd_event_source_set_time(program->timer, next);
	sd_event_source_set_enabled(program->timer, next == USEC_INFINITY ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static enum vss_result refuse(struct vss_writer *writer, const char *text)
{
	vss_writer_set_message(writer, "%s", text);
	return VSS_RESULT_RETRYABLE;
}

static enum vss_result on_identify(struct program *program)
{
	if (discovery_start(program) < 0)
		return refuse(program->writer, program->discovery.running ? "Looking for instances hangs" :
									     "No thread can be started");
	program->discovery.answer = true;
	return VSS_RESULT_LATER;
}

static enum vss_result on_event(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct program *program = data;
	struct err err = { 0 };

	if (program->stopping)
		return event->event == VSS_EVENT_ABORT ? VSS_RESULT_OK : refuse(writer, "The writer is just being stopped");
	if (event->event == VSS_EVENT_IDENTIFY)
		return on_identify(program);
	if (rounds_add(&program->rounds, event_copy_new(event), &err) < 0)
		return refuse(writer, err.text);
	set_timer(program);
	return VSS_RESULT_LATER;
}

static int turn(struct program *program)
{
	rounds_turn(&program->rounds);
	set_timer(program);
	if (program->stopping && !program->rounds.first)
		return sd_event_exit(program->loop, 0);
	return 0;
}

static int on_done(sd_event_source *source, int fd, uint32_t events, void *data)
{
	return turn(data);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	return turn(data);
}

/* ---- the bus ---- */

static void note_status(struct program *program)
{
	const char *text;
	enum vss_writer_status status = vss_writer_status(program->writer, &text);
	bool registered = status == VSS_WRITER_REGISTERED || status == VSS_WRITER_FROZEN;

	if (registered == program->registered && (registered || strncmp(text, program->refusal, sizeof program->refusal - 1) == 0))
		return;
	snprintf(program->refusal, sizeof program->refusal, "%s", registered ? "" : text);
	if (registered) {
		program->registered = true;
		log_line(LOG_INFO, NULL, "registered");
		return;
	}
	log_line(LOG_WARNING, NULL, "not registered: %s", *text ? text : "the bus is gone");
	if (!program->registered)
		return;
	program->registered = false;
	if (program->rounds.first || instances_hold(&program->instances))
		rounds_abort(&program->rounds, "the coordinator has gone");
	set_timer(program);
}

static int on_bus(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct program *program = data;

	(void)!vss_writer_dispatch(program->writer); /* it connects again by itself */
	note_status(program);
	return 0;
}

static void go_on_the_bus(struct program *program)
{
	int r;

	if (program->bus_source)
		return;
	r = vss_writer_start(program->writer, VSS_WRITER_DEFAULT, program->bus_address);
	if (r >= 0)
		r = sd_event_add_io(program->loop, &program->bus_source, vss_writer_fd(program->writer), EPOLLIN, on_bus,
				    program);
	if (r < 0) {
		log_line(LOG_ERR, NULL, "the writer cannot be started: %s", strerror(-r));
		sd_event_exit(program->loop, EXIT_FAILURE);
	}
}

static int on_first_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct program *program = data;

	if (!program->bus_source)
		log_line(LOG_WARNING, NULL, "looking for instances takes long; registers without them");
	go_on_the_bus(program);
	return 0;
}

/* ---- beginning and end ---- */

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *data)
{
	log_line(LOG_ERR, NULL, "something hangs and is left to itself");
	_exit(EXIT_FAILURE);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct program *program = data;

	if (program->stopping)
		return 0;
	program->stopping = true;
	sd_notify(0, "STOPPING=1");
	sd_event_add_time(program->loop, &program->stop_timer, CLOCK_MONOTONIC, clock_now() + STOP_LIMIT, 0,
			  on_stop_timer, program);
	if (program->rounds.first || instances_hold(&program->instances))
		rounds_abort(&program->rounds, "the writer is being stopped");
	return turn(program);
}

static int watch_signals(struct program *program)
{
	static const int numbers[] = { SIGTERM, SIGINT };
	sigset_t mask;
	int r = 0;

	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&mask, numbers[i]);
	sigprocmask(SIG_BLOCK, &mask, NULL); /* threads inherit it */
	signal(SIGPIPE, SIG_IGN);	     /* a server that died is noticed otherwise */
	for (size_t i = 0; i < ARRAY_SIZE(numbers) && r >= 0; i++)
		r = sd_event_add_signal(program->loop, NULL, numbers[i], on_signal, program);
	return r;
}

static int set_up_loop(struct program *program)
{
	int r = sd_event_new(&program->loop);

	if (r >= 0)
		r = watch_signals(program);
	if (r >= 0)
		r = done_list_init(&program->rounds.done);
	program->discovery.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r >= 0)
		r = sd_event_add_io(program->loop, NULL, program->rounds.done.fd, EPOLLIN, on_done, program);
	if (r >= 0)
		r = sd_event_add_io(program->loop, NULL, program->discovery.fd, EPOLLIN, on_discovered, program);
	if (r >= 0)
		r = sd_event_add_time(program->loop, &program->timer, CLOCK_MONOTONIC, USEC_INFINITY, 1, on_timer, program);
	if (r >= 0)
		r = sd_event_source_set_enabled(program->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(program->loop, &program->first_timer, CLOCK_MONOTONIC,
				      clock_now() + FIRST_DISCOVERY_LIMIT, 0, on_first_timer, program);
	if (r < 0)
		log_line(LOG_ERR, NULL, "the event loop cannot be used: %s", strerror(-r));
	return r;
}

static int make_writer(struct program *program)
{
	const struct bundled_kind *kind = program->kind;
	struct vss_writer_ops ops = {
		.size = sizeof ops,
		.version = VSS_WRITER_API_VERSION,
		.id = kind->id,
		.name = kind->name,
		.app_version = VSSD_VERSION,
		.level = kind->level,
		.freeze_limit_msec = kind->freeze_limit_msec,
		.freeze = on_event,
		.thaw = on_event,
		.abort = on_event,
		.identify = on_event,
	};
	vss_event_fn *const fields[] = {
		[VSS_EVENT_PREPARE_BACKUP] = &ops.prepare_backup,     [VSS_EVENT_PREPARE_SNAPSHOT] = &ops.prepare_snapshot,
		[VSS_EVENT_POST_SNAPSHOT] = &ops.post_snapshot,	      [VSS_EVENT_BACKUP_COMPLETE] = &ops.backup_complete,
		[VSS_EVENT_BACKUP_SHUTDOWN] = &ops.backup_shutdown,   [VSS_EVENT_PRE_RESTORE] = &ops.pre_restore,
		[VSS_EVENT_POST_RESTORE] = &ops.post_restore,
	};
	char why[256] = "";

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i] && (kind->events & (1u << i)))
			*fields[i] = on_event;
	int r = vss_writer_new(&program->writer, &ops, program, why, sizeof why);
	if (r < 0)
		log_line(LOG_ERR, NULL, "the writer cannot be made: %s", *why ? why : strerror(-r));
	program->rounds.writer = program->writer;
	return r;
}

static int check_only(struct program *program)
{
	struct err err = { 0 };
	autojson json_t *found = program->kind->discover(program->settings, &err);

	if (!found) {
		log_line(LOG_ERR, NULL, "the instances cannot be found out: %s", err.text);
		return EXIT_FAILURE;
	}
	json_dumpf(found, stdout, JSON_INDENT(2));
	puts("");
	return EXIT_SUCCESS;
}

static int run(struct program *program)
{
	if (set_up_loop(program) < 0 || make_writer(program) < 0)
		return EXIT_FAILURE;
	if (discovery_start(program) < 0)
		go_on_the_bus(program);
	sd_notify(0, "READY=1");
	int code = sd_event_loop(program->loop);
	program->stopping = true;
	program->writer = vss_writer_free(program->writer);
	instances_clear(&program->instances);
	/* A discovery that hangs would keep us here; nothing is lost with the process' end. */
	if (program->discovery.running)
		_exit(code == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	sd_event_source_unref(program->bus_source);
	sd_event_source_unref(program->timer);
	sd_event_source_unref(program->first_timer);
	sd_event_source_unref(program->stop_timer);
	sd_event_unref(program->loop);
	return code == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int usage(const struct bundled_kind *kind)
{
	fprintf(stderr,
		"Usage: %s [--config FILE] [--bus ADDRESS] [--check]\n"
		"\n"
		"A writer of vssd; FILE is %s where none is given. --check shows what it finds.\n"
		"See %s(8).\n",
		kind->program, kind->config_file, kind->program);
	return EXIT_USAGE;
}

int bundled_main(const struct bundled_kind *kind, int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "bus", required_argument, NULL, 'b' },
		{ "check", no_argument, NULL, 'k' },	    { "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	struct program program = { .kind = kind, .instances = { .kind = kind } };
	struct err err = { 0 };
	bool check = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'V')
			return printf("%s %s\n", kind->program, VSSD_VERSION) < 0;
		if (option == '?')
			return usage(kind);
		check |= option == 'k';
		if (option != 'k')
			*(option == 'c' ? &program.config_file : &program.bus_address) = optarg;
	}
	if (optind != argc)
		return usage(kind);
	program.settings = settings_read(kind, program.config_file, &err);
	if (!program.settings) {
		log_line(LOG_ERR, NULL, "%s", err.text);
		return EXIT_FAILURE;
	}
	program.rounds = (struct rounds){ .kind = kind, .settings = program.settings, .instances = &program.instances };
	int code = check ? check_only(&program) : run(&program);
	json_decref(program.settings);
	return code;
}
