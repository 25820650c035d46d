/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/storage-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/log.h"

#define UNIT "vss-watch.service"
#define WAKE_EVERY (2 * USEC_PER_SEC) /* a set wakes it once for each of its copies */
#define START_LIMIT (10 * USEC_PER_SEC)

struct storage_watch {
	sd_event *event;
	struct bus *bus;
	const char *program;
	uint64_t last;
	struct bus_pending *asked;
	int pidfd; /* of the process that was started here; -1 */
	sd_event_source *exit;
};

struct storage_watch *storage_watch_new(sd_event *event, struct bus *bus, const char *program)
{
	struct storage_watch *watch = calloc(1, sizeof *watch);

	if (!watch)
		return NULL;
	*watch = (struct storage_watch){ .event = sd_event_ref(event), .bus = bus, .program = program, .pidfd = -1 };
	return watch;
}

static void forget_process(struct storage_watch *watch)
{
	watch->exit = sd_event_source_disable_unref(watch->exit);
	if (watch->pidfd >= 0)
		close(watch->pidfd);
	watch->pidfd = -1;
}

/* It goes on without us: what it watches does not go away with vssd. */
struct storage_watch *storage_watch_free(struct storage_watch *watch)
{
	if (!watch)
		return NULL;
	if (watch->asked)
		bus_pending_cancel(watch->asked);
	forget_process(watch);
	sd_event_unref(watch->event);
	free(watch);
	return NULL;
}

/* ---- as a process ---- */

static int on_exit_of_watch(sd_event_source *source, int fd, uint32_t events, void *data)
{
	siginfo_t info;

	waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);
	forget_process(data);
	return 0;
}

static int spawn(const char *program, pid_t *ret)
{
	char *argv[] = { (char *)program, NULL };
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r = posix_spawnattr_init(&attributes);

	if (r != 0)
		return r;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	r = posix_spawn(ret, program, NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return r;
}

static void start_process(struct storage_watch *watch)
{
	pid_t pid;
	int r;

	if (watch->pidfd >= 0)
		return;
	r = spawn(watch->program, &pid);
	if (r != 0) {
		log_error("%s cannot be started, nobody watches the storage of copies: %s", watch->program, strerror(r));
		return;
	}
	watch->pidfd = pidfd_open(pid, 0);
	if (watch->pidfd >= 0)
		sd_event_add_io(watch->event, &watch->exit, watch->pidfd, EPOLLIN, on_exit_of_watch, watch);
}

/* ---- as a unit ---- */

static void unit_started(const struct bus_reply *reply, void *data)
{
	struct storage_watch *watch = data;

	watch->asked = NULL;
	if (reply->error == VSS_E_CANCELLED || !reply->error)
		return;
	start_process(watch);
}

void storage_watch_wake(struct storage_watch *watch)
{
	uint64_t now = clock_now();

	if (watch->asked || (watch->last && now < watch->last + WAKE_EVERY))
		return;
	watch->last = now;
	if (bus_call(watch->bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
		     "StartUnit", "ss", json_pack("[ss]", UNIT, "fail"), NULL, 0, now + START_LIMIT, unit_started, watch,
		     &watch->asked, NULL) < 0)
		start_process(watch);
}
