/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The half that watches, and the guard's main process: one thread, one poll. The ioctls that may hang are made by the
 * windows' crews. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "coordinator/guard/message.h"
#include "coordinator/guard/releaser.h"

#define PRIORITY 50
#define POLLED_MAX (4 + CLIENTS_MAX + 3 * WINDOWS_MAX)
#define RESERVE_RETRY USEC_PER_SEC
#define STOP_PATIENCE (1500 * USEC_PER_MSEC)
#define LOCK_NAME "lock"

/* ---- beginning ---- */

static int fail(const char *what, const char *object)
{
	fprintf(stderr, "vss-guard: cannot %s %s: %s\n", what, object, strerror(errno));
	return -1;
}

static int open_directory(struct releaser *r)
{
	if (mkdir(r->run_directory, 0700) < 0 && errno != EEXIST)
		return fail("make", r->run_directory);
	r->directory = open(r->run_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->directory < 0)
		return fail("open", r->run_directory);
	/* Kept open until we end: one guard at a time. */
	int lock = openat(r->directory, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0)
		return fail("make the lock in", r->run_directory);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		fprintf(stderr, "vss-guard: another one is running for %s\n", r->run_directory);
		close(lock);
		return -1;
	}
	if (ftruncate(lock, 0) == 0)
		dprintf(lock, "%d\n", (int)getpid());
	return 0;
}

static int open_socket(struct releaser *r)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (snprintf(address.sun_path, sizeof address.sun_path, "%s/" GUARD_SOCKET_NAME, r->run_directory) >=
	    (int)sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return fail("make a socket in", r->run_directory);
	}
	unlink(address.sun_path);
	r->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->listen < 0 || bind(r->listen, (struct sockaddr *)&address, sizeof address) < 0 ||
	    chmod(address.sun_path, 0600) < 0 || listen(r->listen, 16) < 0)
		return fail("listen at", address.sun_path);
	return 0;
}

static int take_signals(void)
{
	sigset_t set;

	/* The kernel reaps executors: one that may be forgotten is not waited for. */
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT }, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- systemd, without its library: a datagram for each thing said ---- */

static void notify_open(struct releaser *r)
{
	const char *path = getenv("NOTIFY_SOCKET"), *watchdog = getenv("WATCHDOG_USEC");
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	r->notify = -1;
	if (!path || strlen(path) >= sizeof address.sun_path)
		return;
	strcpy(address.sun_path, path);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (*path == '@')
		address.sun_path[0] = '\0';
	r->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (connect(r->notify, (struct sockaddr *)&address, size) < 0)
		close(steal_fd(r->notify));
	if (r->notify >= 0 && watchdog)
		r->watchdog = strtoull(watchdog, NULL, 10) / 3;
}

static void notify(const struct releaser *r, const char *text)
{
	if (r->notify >= 0)
		(void)!send(r->notify, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- the executor in reserve ---- */

static void refill(struct releaser *r)
{
	struct err err = { 0 };

	if (r->reserve.pid || r->stopping || clock_now() < r->reserve_due)
		return;
	if (half_start(&r->reserve, r->program, r->run_directory, &err) < 0) {
		fprintf(stderr, "vss-guard: %s\n", err.text);
		r->reserve_due = clock_now() + RESERVE_RETRY;
	}
}

int releaser_reserve(struct releaser *r, struct err *err)
{
	if (r->stopping)
		return err_set(err, VSS_E_NOT_AVAILABLE, "vss-guard is being stopped: try again");
	if (r->n_windows == WINDOWS_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "vss-guard has %d windows already; that is the limit",
			       WINDOWS_MAX);
	return r->reserve.pid ? 0 : half_start(&r->reserve, r->program, r->run_directory, err);
}

/* One that ends closes its socket before its pidfd tells: not waited for, since whoever polls a closed socket at a
 * higher priority keeps it, on one CPU, from ending at all. */
static void reserve_event(struct releaser *r, bool ended)
{
	int word = ended ? -1 : message_receive(r->reserve.socket, NULL, 0, NULL);

	if (word == WORD_READY)
		r->reserve.ready = true;
	if (word >= 0)
		return;
	half_forget(&r->reserve);
	r->reserve_due = clock_now() + RESERVE_RETRY / 10;
}

/* For a window whose executor ended before anything was held. */
static void replace_executor(struct releaser *r, struct window *w)
{
	struct err err = { 0 };

	if (r->reserve.pid || half_start(&r->reserve, r->program, r->run_directory, &err) == 0) {
		window_take_half(w, &r->reserve);
		return;
	}
	fprintf(stderr, "vss-guard: %s\n", err.text);
	window_fence(w, FAULT_EXECUTOR);
}

/* Nothing is started while anything is held. */
static bool is_quiet(const struct releaser *r)
{
	for (size_t i = 0; i < r->n_windows; i++)
		if (r->windows[i]->state < WINDOW_FENCED)
			return false;
	return true;
}

/* ---- what an earlier guard left ---- */

static void adopt(struct releaser *r, const char *name)
{
	struct err err = { 0 };
	struct window *w;
	autoclose int fd = openat(r->directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || r->n_windows == WINDOWS_MAX)
		return;
	if (window_adopt(&w, fd, r->directory, &err) < 0)
		fprintf(stderr, "vss-guard: %s/%s is left alone: %s\n", r->run_directory, name, err.text);
	else
		r->windows[r->n_windows++] = w;
}

static void adopt_all(struct releaser *r)
{
	DIR *list = opendir(r->run_directory);

	for (struct dirent *e; list && (e = readdir(list));)
		if (strncmp(e->d_name, BOARD_PREFIX, strlen(BOARD_PREFIX)) == 0)
			adopt(r, e->d_name);
	if (list)
		closedir(list);
}

/* ---- the loop ---- */

struct turn {
	struct pollfd polled[POLLED_MAX];
	size_t n;
};

static void add(struct turn *turn, int fd, short events)
{
	turn->polled[turn->n++] = (struct pollfd){ .fd = fd, .events = events };
}

/* In this order; dispatch reads it back. A negative descriptor is never ready. */
static void collect(struct releaser *r, struct turn *turn)
{
	turn->n = 0;
	add(turn, r->signals, POLLIN);
	add(turn, r->stopping ? -1 : r->listen, POLLIN);
	add(turn, r->reserve.pidfd, POLLIN);
	add(turn, r->reserve.socket, POLLIN);
	for (size_t i = 0; i < r->n_windows; i++) {
		struct window *w = r->windows[i];
		add(turn, w->half.socket, POLLIN);
		add(turn, w->half.pidfd, POLLIN);
		add(turn, crew_fd(w->crew), POLLIN);
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		add(turn, r->clients[i].fd, client_events(&r->clients[i]));
}

static void stop(struct releaser *r)
{
	(void)!read(r->signals, &(struct signalfd_siginfo){ 0 }, sizeof(struct signalfd_siginfo));
	r->stopping = true;
	r->stop_due = clock_now() + STOP_PATIENCE;
	for (size_t i = 0; i < r->n_windows; i++)
		window_fence(r->windows[i], FAULT_STOPPED);
}

/* Windows and clients that are added meanwhile were not polled. */
static void dispatch(struct releaser *r, const struct turn *turn)
{
	const struct pollfd *p = turn->polled;
	size_t n_windows = r->n_windows;
	int fds[CLIENTS_MAX];

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		fds[i] = r->clients[i].fd;
	if (p[0].revents)
		stop(r);
	if (p[1].revents)
		clients_accept(r);
	if (p[2].revents || p[3].revents)
		reserve_event(r, p[2].revents);
	p += 4;
	for (size_t i = 0; i < n_windows; i++, p += 3) {
		if (p[0].revents)
			window_heard(r->windows[i]);
		if (p[1].revents)
			window_half_ended(r->windows[i]);
		if (p[2].revents)
			window_step(r->windows[i]);
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++, p++)
		if (p->revents && fds[i] >= 0 && r->clients[i].fd == fds[i])
			client_event(&r->clients[i], p->revents);
}

static void step(struct releaser *r)
{
	uint64_t now = clock_now();

	for (size_t i = r->n_windows; i-- > 0;) {
		window_step(r->windows[i]);
		if (window_wants_half(r->windows[i]))
			replace_executor(r, r->windows[i]);
		if (r->windows[i]->state == WINDOW_OVER) {
			window_free(r->windows[i]);
			r->windows[i] = r->windows[--r->n_windows];
		}
	}
	clients_step(r);
	if (is_quiet(r))
		refill(r);
	if (r->watchdog && now >= r->watchdog_due) {
		notify(r, "WATCHDOG=1");
		r->watchdog_due = now + r->watchdog;
	}
}

static int turn_timeout(const struct releaser *r)
{
	uint64_t now = clock_now(), due = clients_due(r);

	for (size_t i = 0; i < r->n_windows; i++)
		if (window_due(r->windows[i]) < due)
			due = window_due(r->windows[i]);
	if (!r->reserve.pid && r->reserve_due < due)
		due = r->reserve_due > now ? r->reserve_due : now + RESERVE_RETRY;
	if (r->watchdog && r->watchdog_due < due)
		due = r->watchdog_due;
	if (r->stopping && r->stop_due < due)
		due = r->stop_due;
	if (due == USEC_INFINITY)
		return -1;
	return due <= now ? 0 : (int)((due - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

static bool is_over(const struct releaser *r)
{
	return r->stopping && (r->n_windows == 0 || clock_now() >= r->stop_due);
}

static void serve(struct releaser *r)
{
	struct turn turn;

	while (!is_over(r)) {
		collect(r, &turn);
		if (poll(turn.polled, turn.n, turn_timeout(r)) > 0)
			dispatch(r, &turn);
		step(r);
	}
	half_kill(&r->reserve);
}

int releaser_main(const char *run_directory, const char *program)
{
	static struct releaser r; /* locked with the rest; too large for a stack */

	r = (struct releaser){ .run_directory = run_directory, .program = program, .listen = -1, .reserve = HALF_NONE };
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		r.clients[i] = (struct client){ .releaser = &r, .fd = -1 };
	notify_open(&r);
	r.signals = take_signals();
	settle(PRIORITY);
	if (open_directory(&r) < 0 || open_socket(&r) < 0)
		return 1;
	adopt_all(&r);
	refill(&r);
	notify(&r, "READY=1");
	serve(&r);
	return 0;
}
