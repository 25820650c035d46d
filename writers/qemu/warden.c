/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/qemu/note.h"
#include "writers/qemu/patience.h"
#include "writers/qemu/rescue.h"
#include "writers/script/log.h"

#define LINE_MAX_BYTES 512 /* "watch", a time, and a note's file name */
#define WATCHED_MAX 256
#define SEND_LIMIT (100 * USEC_PER_MSEC)

extern char **environ;

/* ---- the writer's side ---- */

static struct {
	pthread_mutex_t lock; /* each guest's events have a thread of their own */
	pid_t pid;
	int fd;
} warden = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static int spawn(int end, struct err *err)
{
	char *const argv[] = { (char *)"vss-qemu-writer", (char *)"--warden", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;

	/* A group of its own: what is typed at the writer's terminal is not meant for it. */
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, end, STDIN_FILENO);
	int r = posix_spawn(&warden.pid, "/proc/self/exe", &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return r == 0 ? 0 : err_errno(err, r, VSS_E_WRITER_OUT_OF_RESOURCES, "The warden cannot be started");
}

static bool is_alive(void)
{
	/* Its end of the socket tells, and its status is taken so that no corpse stays. */
	struct pollfd polled = { warden.fd, POLLIN, 0 };

	if (warden.fd >= 0 && poll(&polled, 1, 0) == 0)
		return true;
	if (warden.pid > 0)
		waitpid(warden.pid, NULL, WNOHANG);
	return false;
}

static int start(struct err *err)
{
	int ends[2];

	cleanup_close(&warden.fd);
	warden.fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(err, errno, VSS_E_WRITER_OUT_OF_RESOURCES, "The warden cannot be started");
	int r = spawn(ends[1], err);
	close(ends[1]);
	if (r < 0)
		close(ends[0]);
	else
		warden.fd = ends[0];
	return r;
}

static int tell(const char *line)
{
	struct pollfd polled = { warden.fd, POLLOUT, 0 };

	if (poll(&polled, 1, (int)(SEND_LIMIT / USEC_PER_MSEC)) <= 0)
		return -1;
	return send(warden.fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -1 : 0;
}

static int tell_of(const char *verb, uint64_t until, const char *guest)
{
	char file[NOTE_FILE_SIZE], line[LINE_MAX_BYTES];

	note_file(guest, file);
	snprintf(line, sizeof line, "%s %" PRIu64 " %s", verb, until, file);
	return tell(line);
}

int warden_start(struct err *err)
{
	pthread_mutex_lock(&warden.lock);
	int r = start(err);
	if (r == 0 && tell_of("leftovers", 0, "") < 0)
		r = err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "The warden does not take orders");
	pthread_mutex_unlock(&warden.lock);
	return r;
}

int warden_watch(const char *guest, uint64_t until, struct err *err)
{
	pthread_mutex_lock(&warden.lock);
	int r = is_alive() ? 0 : start(err);
	if (r == 0 && tell_of("watch", until, guest) < 0)
		r = err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "The warden does not take orders");
	pthread_mutex_unlock(&warden.lock);
	return r;
}

void warden_forget(const char *guest)
{
	pthread_mutex_lock(&warden.lock);
	(void)!tell_of("forget", 0, guest);
	pthread_mutex_unlock(&warden.lock);
}

void warden_rescue(const char *guest)
{
	struct err err = { 0 };

	pthread_mutex_lock(&warden.lock);
	if ((!is_alive() && start(&err) < 0) || tell_of("rescue", 0, guest) < 0)
		log_line(LOG_ERR, guest, "nobody is there to thaw it: %s", *err.text ? err.text : "the warden is busy");
	pthread_mutex_unlock(&warden.lock);
}

/* ---- the warden's side ---- */

static struct watched {
	char file[NOTE_FILE_SIZE];
	uint64_t until;
} watched[WATCHED_MAX];
static size_t n_watched;

static struct watched *find(const char *file)
{
	for (size_t i = 0; i < n_watched; i++)
		if (strcmp(watched[i].file, file) == 0)
			return &watched[i];
	return NULL;
}

static void forget(const char *file)
{
	struct watched *row = find(file);

	if (row)
		*row = watched[--n_watched];
}

static void watch(const char *file, uint64_t until)
{
	struct watched *row = find(file);

	if (!row && n_watched == WATCHED_MAX)
		return; /* its note is there all the same */
	if (!row)
		row = &watched[n_watched++];
	snprintf(row->file, sizeof row->file, "%s", file);
	row->until = until;
}

static uint64_t next_time(void)
{
	uint64_t next = USEC_INFINITY;

	for (size_t i = 0; i < n_watched; i++)
		if (watched[i].until < next)
			next = watched[i].until;
	return next;
}

static void obey(char *line, int directory)
{
	char verb[16] = "", file[NOTE_FILE_SIZE] = "";
	uint64_t until = 0;

	if (sscanf(line, "%15s %" SCNu64 " %279s", verb, &until, file) < 2)
		return;
	if (strcmp(verb, "watch") == 0) {
		watch(file, until);
	} else if (strcmp(verb, "forget") == 0) {
		forget(file);
	} else if (strcmp(verb, "rescue") == 0) {
		forget(file);
		rescue_start(directory, file, -1);
	} else if (strcmp(verb, "leftovers") == 0) {
		rescue_all(directory, -1);
	}
}

/* One that stands still keeps the agent's only connection: it has to go first. */
static void fence(pid_t writer)
{
	log_line(LOG_ERR, NULL, "the writer has not thawed in time: it is killed, and its guests are thawed");
	if (writer > 1 && getppid() == writer)
		kill(writer, SIGKILL);
}

/* Returns when the writer is gone, or as good as that. */
static void serve(pid_t writer, int directory)
{
	for (;;) {
		char line[LINE_MAX_BYTES];
		const struct patience patience = { next_time(), -1 };
		int r = patience_wait(&patience, STDIN_FILENO, POLLIN);
		if (r == -ETIMEDOUT) {
			fence(writer);
			return;
		}
		ssize_t n = r < 0 ? 0 : recv(STDIN_FILENO, line, sizeof line - 1, 0);
		if (n <= 0)
			return;
		line[n] = '\0';
		obey(line, directory);
	}
}

/* It is needed most when memory is short. */
static void spare_from_oom_killer(void)
{
	autoclose int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "-1000", 5);
}

int warden_main(void)
{
	pid_t writer = getppid();

	prctl(PR_SET_NAME, "vss-qemu-warden");
	spare_from_oom_killer();
	signal(SIGPIPE, SIG_IGN);
	/* A stop of the unit ends the writer first, and with it the warden's work. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	autoclose int directory = notes_open();
	if (directory < 0)
		return EXIT_FAILURE;
	serve(writer, directory);
	rescue_all(directory, -1);
	rescue_wait();
	return EXIT_SUCCESS;
}

int warden_thaw_all(void)
{
	signal(SIGPIPE, SIG_IGN);
	autoclose int directory = notes_open();
	if (directory < 0)
		return EXIT_FAILURE;
	rescue_all(directory, -1);
	rescue_wait();
	return EXIT_SUCCESS;
}
