/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/libvirt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

#define OUTPUT_MAX (4u << 20)

extern char **environ;

/* Beside this program. */
static bool find_program(char path[PATH_MAX])
{
	static const char name[] = "vss-qemu-libvirt";
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof name);

	while (n > 0 && path[n - 1] != '/')
		n--;
	if (n <= 0)
		return false;
	memcpy(path + n, name, sizeof name);
	return access(path, X_OK) == 0;
}

bool libvirt_is_built_in(void)
{
	char path[PATH_MAX];

	return find_program(path);
}

/* in, out: -1: none. 0 or a negative errno. */
static int spawn(pid_t *ret_pid, char *const *argv, int in, int out, int err)
{
	char path[PATH_MAX];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;

	if (!find_program(path))
		return -ENOENT;
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawn_file_actions_init(&actions);
	if (in < 0)
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	else
		posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (err >= 0)
		posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	int r = posix_spawn(ret_pid, path, &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return -r;
}

/* ---- domains ---- */

/* All that comes until the end; NULL: too much, or too late. */
static char *read_all(int fd, const struct patience *patience)
{
	size_t used = 0, size = 0;
	char *text = NULL;

	for (;;) {
		if (size - used < 2) {
			char *grown = size < OUTPUT_MAX ? realloc(text, size = size ? size * 2 : 4096) : NULL;
			if (!grown)
				break;
			text = grown;
		}
		if (patience_wait(patience, fd, POLLIN) < 0)
			break;
		ssize_t n = read(fd, text + used, size - used - 1);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			break;
		if (n == 0) {
			text[used] = '\0';
			return text;
		}
		used += (size_t)n;
	}
	free(text);
	return NULL;
}

static json_t *parse(const char *output, int status, struct err *err)
{
	json_t *rows = NULL;

	if (!output) {
		err_set(err, VSS_E_WRITER_TIMED_OUT, "libvirt does not say in time which domains there are");
	} else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		err_set(err, VSS_E_WRITER_RETRYABLE, "libvirt does not say which domains there are: %.*s",
			(int)strcspn(output, "\n"), output);
	} else {
		rows = json_loads(output, 0, NULL);
		if (!json_is_array(rows))
			err_set(err, VSS_E_WRITER_RETRYABLE, "vss-qemu-libvirt makes no sense");
	}
	return rows;
}

json_t *libvirt_domains(const char *uri, const struct patience *patience, struct err *err)
{
	char *const argv[] = { (char *)"vss-qemu-libvirt", (char *)"list", (char *)uri, NULL };
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		err_errno(err, errno, VSS_E_WRITER_OUT_OF_RESOURCES, "libvirt cannot be asked");
		return NULL;
	}
	autoclose int from = ends[0];
	int r = spawn(&pid, argv, -1, ends[1], ends[1]);
	close(ends[1]);
	if (r < 0) {
		err_errno(err, -r, VSS_E_WRITER_OUT_OF_RESOURCES, "vss-qemu-libvirt cannot be started");
		return NULL;
	}
	autofree char *output = read_all(from, patience);
	if (!output)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return parse(output, status, err);
}

/* ---- an agent ---- */

int libvirt_agent(const char *address, pid_t *ret_pid)
{
	autofree char *uri = strdup(address + strlen(LIBVIRT_ADDRESS));
	char *domain = uri ? strchr(uri, ' ') : NULL;
	int ends[2];

	if (!domain)
		return -EINVAL;
	*domain++ = '\0';
	char *const argv[] = { (char *)"vss-qemu-libvirt", (char *)"agent", uri, domain, NULL };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	int r = spawn(ret_pid, argv, ends[1], ends[1], -1);
	close(ends[1]);
	if (r == 0)
		return ends[0];
	close(ends[0]);
	return r;
}
