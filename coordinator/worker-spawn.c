/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/worker-spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#define WORKER_FD 3

static int add_file_actions(posix_spawn_file_actions_t *actions, int fd)
{
	int r = posix_spawn_file_actions_init(actions);

	if (r != 0)
		return r;
	r = posix_spawn_file_actions_adddup2(actions, fd, WORKER_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	/* What a library prints must not get lost, nor lie on vssd's own standard output. */
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, STDERR_FILENO, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(actions, WORKER_FD + 1);
	if (r != 0)
		posix_spawn_file_actions_destroy(actions);
	return r;
}

/* vssd blocks the signals that its loop takes; a worker begins with none blocked and none ignored. */
static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;
	int r = posix_spawnattr_init(attributes);

	if (r != 0)
		return r;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setpgroup(attributes, 0);
	r = posix_spawnattr_setflags(attributes,
				     POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	if (r != 0)
		posix_spawnattr_destroy(attributes);
	return r;
}

int worker_spawn(const char *program, const char *role, int fd, pid_t *ret_pid)
{
	char *argv[] = { (char *)program, (char *)role, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r = add_file_actions(&actions, fd);

	if (r != 0)
		return r;
	r = set_attributes(&attributes);
	if (r == 0) {
		r = posix_spawn(ret_pid, program, &actions, &attributes, argv, environ);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return r;
}
