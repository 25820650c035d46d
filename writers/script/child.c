/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define READ_TURN 65536	    /* bytes read from one output in one turn of the loop */
#define READ_LAST (1 << 20) /* and after its end: what a left-over process goes on writing is nobody's */
#define STDIN_PIPE_SIZE (1 << 20)
#define EXIT_CANNOT_EXECUTE 127

struct output {
	struct child *child;
	enum child_output which;
	int fd;
	sd_event_source *source;
	struct lines lines;
};

struct child {
	pid_t pid; /* 0 once it has been waited for */
	int pidfd, stdin_fd;
	struct output outputs[2];
	sd_event_source *exit_source, *limit_source;
	uint64_t kill_at;
	bool passed_limit;
	const struct child_handlers *handlers;
	void *data;
};

/* ---- in the new process ---- */

static void die(const char *path, const char *what)
{
	dprintf(STDERR_FILENO, "%s cannot be executed: %s: %s\n", path, what, strerror(errno));
	_exit(EXIT_CANNOT_EXECUTE);
}

/* Out of the way first, so that no descriptor is overwritten before it has been moved. */
static void place_fds(const struct child_spec *spec, const int stdio[3])
{
	int moved[3], least = CHILD_FIRST_FD + (int)spec->n_fds;

	for (int i = 0; i < 3; i++) {
		moved[i] = fcntl(stdio[i], F_DUPFD_CLOEXEC, least);
		if (moved[i] < 0)
			_exit(EXIT_CANNOT_EXECUTE);
	}
	int *high = calloc(spec->n_fds + 1, sizeof *high);
	for (size_t i = 0; high && i < spec->n_fds; i++)
		high[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, least);
	for (int i = 0; i < 3; i++)
		dup2(moved[i], i);
	for (size_t i = 0; high && i < spec->n_fds; i++)
		if (dup2(high[i], CHILD_FIRST_FD + (int)i) < 0)
			die(spec->path, "a copy's directory cannot be handed over");
	/* The rest is close-on-exec; a descriptor that we inherited ourselves may not be. */
	close_range((unsigned)least, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void change_user(const struct child_spec *spec)
{
	const struct config *config = spec->config;

	if (!config->user || config->uid == geteuid())
		return;
	if (initgroups(config->user, config->gid) < 0 || setresgid(config->gid, config->gid, config->gid) < 0 ||
	    setresuid(config->uid, config->uid, config->uid) < 0)
		die(spec->path, "cannot become its User=");
}

static _Noreturn void become(const struct child_spec *spec, const int stdio[3])
{
	setsid(); /* also a process group, and no terminal whose Ctrl-C would reach it */
	place_fds(spec, stdio);
	reset_signals();
	/* As their agents' units have it. What a hook leaves behind to hold a lock would die of a word that nobody hears any more. */
	if (spec->config->format != FORMAT_NATIVE)
		signal(SIGPIPE, SIG_IGN);
	umask(022);
	if (chdir("/") < 0)
		die(spec->path, "/");
	change_user(spec);
	/* By path: nobody but root can have changed it since it was judged, and a script's interpreter needs one. */
	execve(spec->path, spec->argv, spec->environment);
	die(spec->path, "execve");
	_exit(EXIT_CANNOT_EXECUTE);
}

/* ---- its output ---- */

static void on_line(const char *line, void *data)
{
	struct output *output = data;

	output->child->handlers->line(output->which, line, output->child->data);
}

static void close_output(struct output *output)
{
	output->source = sd_event_source_disable_unref(output->source);
	if (output->fd >= 0)
		close(output->fd);
	output->fd = -1;
}

/* Up to `most` bytes, as far as they are there. */
static void read_output(struct output *output, size_t most)
{
	char bytes[4096];

	while (output->fd >= 0 && most > 0) {
		ssize_t n = read(output->fd, bytes, sizeof bytes < most ? sizeof bytes : most);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			lines_end(&output->lines, on_line, output);
			close_output(output);
			return;
		}
		most -= (size_t)n;
		lines_feed(&output->lines, bytes, (size_t)n, on_line, output);
	}
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *data)
{
	read_output(data, READ_TURN);
	return 0;
}

/* ---- its end ---- */

static void signal_group(struct child *child, int number)
{
	if (child->pid <= 0)
		return;
	/* Not waited for yet, so the number is still its own. It may not have made its group yet: hence both. */
	kill(child->pid, number);
	kill(-child->pid, number);
}

static int on_exit_event(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct child *child = data;
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(child->outputs); i++) {
		read_output(&child->outputs[i], READ_LAST);
		lines_end(&child->outputs[i].lines, on_line, &child->outputs[i]);
		close_output(&child->outputs[i]);
	}
	if (child->passed_limit)
		signal_group(child, SIGKILL); /* whoever outlived SIGTERM in its group */
	waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG);
	child->pid = 0;
	child->exit_source = sd_event_source_disable_unref(child->exit_source);
	child->limit_source = sd_event_source_disable_unref(child->limit_source);
	child->handlers->exit(info.si_code != CLD_EXITED, info.si_status, child->data);
	return 0;
}

static int on_limit(sd_event_source *source, uint64_t usec, void *data)
{
	struct child *child = data;
	uint64_t now = clock_now();

	child->passed_limit = true;
	signal_group(child, now >= child->kill_at ? SIGKILL : SIGTERM);
	if (now >= child->kill_at)
		return 0;
	sd_event_source_set_time(source, child->kill_at);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int child_set_limit(struct child *child, uint64_t terminate, uint64_t kill)
{
	child->kill_at = kill;
	if (!child->limit_source)
		return -1;
	sd_event_source_set_time(child->limit_source, terminate);
	return sd_event_source_set_enabled(child->limit_source,
					   terminate == USEC_INFINITY ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

bool child_passed_limit(const struct child *child)
{
	return child->passed_limit;
}

/* ---- starting it ---- */

static int watch(struct child *child, sd_event *loop)
{
	int r = sd_event_add_io(loop, &child->exit_source, child->pidfd, EPOLLIN, on_exit_event, child);

	if (r >= 0)
		r = sd_event_source_set_priority(child->exit_source, SD_EVENT_PRIORITY_NORMAL + 1);
	if (r >= 0)
		r = sd_event_add_time(loop, &child->limit_source, CLOCK_MONOTONIC, USEC_INFINITY, 1000, on_limit,
				      child);
	if (r >= 0)
		r = sd_event_source_set_enabled(child->limit_source, SD_EVENT_OFF);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(child->outputs); i++)
		if (child->outputs[i].fd >= 0)
			r = sd_event_add_io(loop, &child->outputs[i].source, child->outputs[i].fd, EPOLLIN, on_output,
					    &child->outputs[i]);
	return r;
}

static int nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK);
}

struct plumbing {
	int in[2], out[2], error[2]; /* 0: reading end */
};

static int open_plumbing(struct plumbing *pipes, bool converses)
{
	if (pipe2(pipes->out, O_CLOEXEC) < 0 || nonblocking(pipes->out[0]) < 0)
		return -1;
	if (!converses)
		return (pipes->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 ? -1 : 0;
	if (pipe2(pipes->in, O_CLOEXEC) < 0 || pipe2(pipes->error, O_CLOEXEC) < 0)
		return -1;
	fcntl(pipes->in[1], F_SETPIPE_SZ, STDIN_PIPE_SIZE); /* long lines fit; where it fails they are refused */
	return nonblocking(pipes->error[0]) < 0 || nonblocking(pipes->in[1]) < 0 ? -1 : 0;
}

static void close_plumbing(struct plumbing *pipes)
{
	for (int i = 0; i < 2; i++) {
		cleanup_close(&pipes->in[i]);
		cleanup_close(&pipes->out[i]);
		cleanup_close(&pipes->error[i]);
	}
}

static int launch(struct child *child, sd_event *loop, const struct child_spec *spec, struct plumbing *pipes)
{
	const int stdio[3] = { pipes->in[0], pipes->out[1], spec->converses ? pipes->error[1] : pipes->out[1] };
	pid_t pid = fork();

	if (pid == 0)
		become(spec, stdio);
	if (pid < 0)
		return -1;
	child->pid = pid;
	child->stdin_fd = steal_fd(pipes->in[1]);
	child->outputs[0].fd = steal_fd(pipes->out[0]);
	child->outputs[1].fd = steal_fd(pipes->error[0]);
	child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (child->pidfd < 0)
		return -1;
	int r = watch(child, loop);
	errno = r < 0 ? -r : 0;
	return r;
}

int child_start(struct child **ret, sd_event *loop, const struct child_spec *spec,
		const struct child_handlers *handlers, void *data, struct err *err)
{
	struct plumbing pipes = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct child *child = calloc(1, sizeof *child);

	if (!child)
		return err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "%s cannot be started: out of memory", spec->path);
	child->pidfd = child->stdin_fd = -1;
	child->handlers = handlers;
	child->data = data;
	for (int i = 0; i < 2; i++) {
		child->outputs[i].child = child;
		child->outputs[i].which = i == 0 ? CHILD_STDOUT : CHILD_STDERR;
		child->outputs[i].fd = -1;
	}
	if (open_plumbing(&pipes, spec->converses) < 0 || launch(child, loop, spec, &pipes) < 0) {
		err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "%s cannot be started: %s", spec->path, strerror(errno));
		close_plumbing(&pipes);
		child_free(child);
		return -1;
	}
	close_plumbing(&pipes);
	*ret = child;
	return 0;
}

struct child *child_free(struct child *child)
{
	if (!child)
		return NULL;
	if (child->pid > 0) {
		signal_group(child, SIGKILL);
		waitid(P_PID, (id_t)child->pid, NULL, WEXITED);
	}
	for (size_t i = 0; i < ARRAY_SIZE(child->outputs); i++)
		close_output(&child->outputs[i]);
	sd_event_source_disable_unref(child->exit_source);
	sd_event_source_disable_unref(child->limit_source);
	cleanup_close(&child->pidfd);
	cleanup_close(&child->stdin_fd);
	free(child);
	return NULL;
}

/* ---- talking to it ---- */

int child_write(struct child *child, const char *text, struct err *err)
{
	size_t size = strlen(text);
	ssize_t n = write(child->stdin_fd, text, size);

	if (n == (ssize_t)size)
		return 0;
	return err_set(err, VSS_E_WRITER_NON_RETRYABLE, "The co-process does not read its stdin: %s",
		       n < 0 ? strerror(errno) : "a line did not fit");
}

void child_close_stdin(struct child *child)
{
	cleanup_close(&child->stdin_fd);
	child->stdin_fd = -1;
}
