/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer for tests: fails, hangs or dies at any event as it is told. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <vsswriter.h>

#include "bare-writer.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "options.h"

struct program;

struct test_writer {
	struct program *program;
	struct vss_writer *writer;
	unsigned number; /* from 1 */
	bool hung, ready;
	uint64_t answer_at; /* of a late answer, else USEC_INFINITY */
	enum vss_event late_event;
	uint64_t spent; /* bit i: the options' action i was to be done once, and was */
};

struct program {
	struct options options;
	struct test_writer *writers;
	int epoll_fd, signal_fd;
	FILE *log;
	bool announced;
};

static void log_event(const struct test_writer *w, const struct vss_event_info *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void log_event(const struct test_writer *w, const struct vss_event_info *event, const char *format, ...)
{
	va_list args;

	if (!w->program->log)
		return;
	fprintf(w->program->log, "%llu %u %s %s %s ", (unsigned long long)clock_now(), w->number,
		vss_event_name(event->event), *event->session ? event->session : "-", *event->set ? event->set : "-");
	va_start(args, format);
	vfprintf(w->program->log, format, args);
	va_end(args);
	fputc('\n', w->program->log);
	fflush(w->program->log);
}

static enum vss_result write_into_copies(struct test_writer *w, const struct vss_event_info *event, const char *name)
{
	unsigned written = 0;

	for (size_t i = 0; i < event->n_volumes; i++) {
		if (event->volumes[i].copy < 0)
			continue;
		autoclose int fd = openat(event->volumes[i].copy, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, "repaired\n", 9) != 9) {
			vss_writer_set_message(w->writer, "cannot write %s into the copy of %s: %s", name,
					       event->volumes[i].path, strerror(errno));
			return VSS_RESULT_NON_RETRYABLE;
		}
		written++;
	}
	vss_writer_set_message(w->writer, "wrote %s into %u copies", name, written);
	return VSS_RESULT_OK;
}

static enum vss_result act(struct test_writer *w, const struct vss_event_info *event, const struct action *action)
{
	switch (action->kind) {
	case ACTION_OK:
	case ACTION_UNKNOWN: /* such a writer is a bare one */
		return VSS_RESULT_OK;
	case ACTION_FAIL:
		if (action->text)
			vss_writer_set_message(w->writer, "%s", action->text);
		return action->result;
	case ACTION_HANG:
		w->hung = true;
		return VSS_RESULT_LATER;
	case ACTION_EXIT:
		_exit(1);
	case ACTION_KILL:
		raise(SIGKILL);
		return VSS_RESULT_OK;
	case ACTION_STOP:
		raise(SIGSTOP);
		return VSS_RESULT_OK;
	case ACTION_LATE:
		w->answer_at = clock_now() + action->milliseconds * USEC_PER_MSEC;
		w->late_event = event->event;
		return VSS_RESULT_LATER;
	case ACTION_DELAY:
		usleep(action->milliseconds * 1000);
		return VSS_RESULT_OK;
	case ACTION_BREAK:
		vss_writer_break_freeze(w->writer, action->text);
		return VSS_RESULT_OK;
	case ACTION_WRITE:
		return write_into_copies(w, event, action->text);
	}
	return VSS_RESULT_NON_RETRYABLE;
}

static const struct action *next_action(struct test_writer *w, enum vss_event event)
{
	static const struct action nothing = { .kind = ACTION_OK };
	const struct options *options = &w->program->options;
	const struct action *action = options_action(options, event, w->number);

	if (!action->once)
		return action;
	uint64_t bit = UINT64_C(1) << (action - options->actions);
	if (w->spent & bit)
		return &nothing;
	w->spent |= bit;
	return action;
}

static enum vss_result on_event(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct test_writer *w = data;
	const struct action *action = next_action(w, event->event);
	size_t copies = 0;

	for (size_t i = 0; i < event->n_volumes; i++)
		copies += event->volumes[i].copy >= 0;
	log_event(w, event, "begin action=%d volumes=%zu copies=%zu", (int)action->kind, event->n_volumes, copies);
	enum vss_result result = act(w, event, action);
	log_event(w, event, "end result=%d", (int)result);
	return result;
}

/* ---- making the writers ---- */

static int add_component(struct vss_writer *writer, const struct options *options)
{
	struct vss_file_set files[PATHS_MAX];
	const struct vss_component component = {
		.size = sizeof component,
		.name = "data",
		.selectable = true,
		.files = files,
		.n_files = options->n_paths,
		.requires_paths = options->requires_paths,
		.n_requires = options->n_requires,
	};

	for (size_t i = 0; i < options->n_paths; i++)
		files[i] = (struct vss_file_set){ options->paths[i], "*", true };
	if (options->n_paths == 0 && options->n_requires == 0)
		return 0;
	return vss_writer_add_component(writer, &component);
}

static int make_writer(struct program *program, unsigned number)
{
	const struct options *o = &program->options;
	struct test_writer *w = &program->writers[number - 1];
	char name[32], error[256] = "";
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };
	const struct vss_writer_ops ops = {
		.size = sizeof ops, .version = VSS_WRITER_API_VERSION,
		.id = o->id, .name = o->name, .level = o->level,
		.instance = number == 1 ? o->instance : NULL,
		.instance_name = o->count > 1 ? name : NULL,
		.freeze_limit_msec = o->freeze_limit, .all_volumes = o->all_volumes,
		.freeze = on_event, .thaw = on_event, .abort = on_event, .identify = on_event,
		.prepare_backup = on_event, .prepare_snapshot = on_event, .post_snapshot = on_event,
		.backup_complete = on_event, .backup_shutdown = on_event,
		.pre_restore = on_event, .post_restore = on_event,
	};

	snprintf(name, sizeof name, "%u", number);
	*w = (struct test_writer){ .program = program, .number = number, .answer_at = USEC_INFINITY };
	int r = vss_writer_new(&w->writer, &ops, w, error, sizeof error);
	if (r == 0)
		r = add_component(w->writer, o);
	if (r == 0)
		r = vss_writer_start(w->writer, VSS_WRITER_DEFAULT, NULL);
	if (r == 0 && epoll_ctl(program->epoll_fd, EPOLL_CTL_ADD, vss_writer_fd(w->writer), &event) < 0)
		r = -errno;
	if (r < 0)
		fprintf(stderr, "vss-test-writer: writer %u: %s\n", number, *error ? error : strerror(-r));
	return r;
}

static int watch_signals(struct program *program)
{
	sigset_t signals;
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = 0 };

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	program->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return epoll_ctl(program->epoll_fd, EPOLL_CTL_ADD, program->signal_fd, &event);
}

/* ---- the loop ---- */

static void announce(struct program *program)
{
	if (program->announced)
		return;
	for (unsigned i = 0; i < program->options.count; i++) {
		struct test_writer *w = &program->writers[i];
		w->ready = w->ready || vss_writer_status(w->writer, NULL) == VSS_WRITER_REGISTERED;
		if (!w->ready)
			return;
	}
	program->announced = true;
	puts("READY");
	fflush(stdout);
}

static int answer_late_ones(struct program *program)
{
	uint64_t now = clock_now(), next = USEC_INFINITY;

	for (unsigned i = 0; i < program->options.count; i++) {
		struct test_writer *w = &program->writers[i];
		if (w->answer_at <= now) {
			w->answer_at = USEC_INFINITY;
			vss_writer_done(w->writer, w->late_event, VSS_RESULT_OK, "late");
		}
		next = w->answer_at < next ? w->answer_at : next;
	}
	return next == USEC_INFINITY ? -1 : (int)((next - now) / USEC_PER_MSEC) + 1;
}

static void dispatch(struct program *program, unsigned number)
{
	struct test_writer *w = &program->writers[number - 1];

	vss_writer_dispatch(w->writer);
	if (w->hung)
		epoll_ctl(program->epoll_fd, EPOLL_CTL_DEL, vss_writer_fd(w->writer), NULL);
}

static void run(struct program *program)
{
	struct epoll_event events[64];

	for (;;) {
		int timeout = answer_late_ones(program);
		int n = epoll_wait(program->epoll_fd, events, ARRAY_SIZE(events), timeout);
		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == 0)
				return;
			dispatch(program, events[i].data.u32);
		}
		announce(program);
	}
}

/* A writer takes seven descriptors. */
static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct program program = { .signal_fd = -1 };
	bool failed = false;
	int r = options_parse(&program.options, argc, argv);

	if (r != 0)
		return r < 0 ? 2 : 0;
	if (options_want_unknown(&program.options))
		return bare_writer_run(&program.options);
	allow_many_descriptors();
	program.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	program.writers = calloc(program.options.count, sizeof *program.writers);
	program.log = program.options.log ? fopen(program.options.log, "ae") : NULL;
	if (program.options.log && !program.log) {
		fprintf(stderr, "vss-test-writer: %s: %s\n", program.options.log, strerror(errno));
		return 1;
	}
	watch_signals(&program);
	for (unsigned i = 1; i <= program.options.count && !failed; i++)
		failed = make_writer(&program, i) < 0;
	if (!failed)
		run(&program);
	for (unsigned i = 0; i < program.options.count; i++)
		vss_writer_free(program.writers[i].writer);
	free(program.writers);
	if (program.log)
		fclose(program.log);
	close(program.signal_fd);
	close(program.epoll_fd);
	return failed ? 1 : 0;
}
