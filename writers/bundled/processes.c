/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers that run on this machine, seen in /proc: where they work and where they listen. */
#include "writers/bundled/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"

#define SOCKETS_MAX 64 /* of one process */

static void close_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}
#define autoclosedir cleanup(close_directory)

static void close_file(FILE **file)
{
	if (*file)
		fclose(*file);
}
#define autoclosefile cleanup(close_file)

/* ---- the sockets of a process ---- */

struct sockets {
	unsigned long inodes[SOCKETS_MAX];
	size_t n;
};

static bool has(const struct sockets *sockets, unsigned long inode)
{
	for (size_t i = 0; i < sockets->n; i++)
		if (sockets->inodes[i] == inode)
			return true;
	return false;
}

static void read_sockets(const char *process, struct sockets *sockets)
{
	char path[PATH_MAX], target[64];

	sockets->n = 0;
	snprintf(path, sizeof path, "%s/fd", process);
	autoclosedir DIR *directory = opendir(path);
	if (!directory)
		return;
	for (const struct dirent *entry; (entry = readdir(directory)) && sockets->n < SOCKETS_MAX;) {
		ssize_t n = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
		target[n > 0 ? n : 0] = '\0';
		if (sscanf(target, "socket:[%lu]", &sockets->inodes[sockets->n]) == 1)
			sockets->n++;
	}
}

/* Num: RefCount Protocol Flags Type St Inode Path; the flag says that it listens. sockets NULL: whoever's. */
static json_t *listening_paths(const char *process, const struct sockets *sockets)
{
	json_t *paths = json_array();
	autofree char *line = NULL;
	char path[PATH_MAX];
	size_t room = 0;

	snprintf(path, sizeof path, "%s/net/unix", process);
	autoclosefile FILE *file = fopen(path, "re");
	while (file && getline(&line, &room, file) > 0) {
		unsigned flags;
		unsigned long inode;
		int at = 0;
		if (sscanf(line, "%*[^:]: %*x %*x %x %*x %*x %lu %n", &flags, &inode, &at) != 2 || at == 0 ||
		    !(flags & 0x10000) || line[at] != '/' || (sockets && !has(sockets, inode)))
			continue;
		line[strcspn(line, "\n")] = '\0';
		json_array_append_new(paths, json_string(line + at));
	}
	return paths;
}

/* sl local:port remote:port st ...; 0A listens. */
static void add_ports(const char *process, const char *protocol, const struct sockets *sockets, json_t *ports)
{
	autofree char *line = NULL;
	char path[PATH_MAX];
	size_t room = 0;

	snprintf(path, sizeof path, "%s/net/%s", process, protocol);
	autoclosefile FILE *file = fopen(path, "re");
	while (file && getline(&line, &room, file) > 0) {
		unsigned port, state;
		unsigned long inode;
		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %lu", &port,
			   &state, &inode) == 3 &&
		    state == 0x0a && has(sockets, inode))
			json_array_append_new(ports, json_integer(port));
	}
}

/* To whoever connects the kernel says which process began to listen. */
static pid_t listener_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t size = sizeof peer;
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || strlen(path) >= sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -1;
	return peer.pid;
}

bool processes_listens_at(pid_t pid, uid_t uid, char *socket, size_t size)
{
	autojson json_t *paths = listening_paths("/proc/self", NULL);
	json_t *entry;
	struct stat st;
	size_t i;

	json_array_foreach(paths, i, entry) {
		const char *path = json_string_value(entry);
		if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != uid || listener_of(path) != pid)
			continue;
		snprintf(socket, size, "%s", path);
		return true;
	}
	return false;
}

/* ---- a process ---- */

static bool is_named(const char *process, const char *const *names)
{
	char path[PATH_MAX], name[32] = "";

	snprintf(path, sizeof path, "%s/comm", process);
	autoclosefile FILE *file = fopen(path, "re");
	if (!file || !fgets(name, sizeof name, file))
		return false;
	name[strcspn(name, "\n")] = '\0';
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

/* One in a container has another root: its paths are not ours. */
static bool has_our_root(const char *process)
{
	char path[PATH_MAX];
	struct stat ours, its;

	snprintf(path, sizeof path, "%s/root", process);
	return stat("/", &ours) == 0 && stat(path, &its) == 0 && ours.st_dev == its.st_dev && ours.st_ino == its.st_ino;
}

/* Where it works; "" if it cannot be told, or leads to another place than it does for the process. */
static void working_directory(const char *process, char directory[PATH_MAX])
{
	char path[PATH_MAX];
	struct stat ours, its;

	snprintf(path, sizeof path, "%s/cwd", process);
	ssize_t n = readlink(path, directory, PATH_MAX - 1);
	directory[n > 0 ? n : 0] = '\0';
	if (stat(path, &its) < 0 || stat(directory, &ours) < 0 || ours.st_dev != its.st_dev || ours.st_ino != its.st_ino)
		*directory = '\0';
}

static json_t *describe(const char *process, pid_t pid)
{
	char directory[PATH_MAX];
	struct sockets sockets;
	struct stat st;
	json_t *ports = json_array();

	if (stat(process, &st) < 0) {
		json_decref(ports);
		return NULL;
	}
	working_directory(process, directory);
	read_sockets(process, &sockets);
	add_ports(process, "tcp", &sockets, ports);
	add_ports(process, "tcp6", &sockets, ports);
	return json_pack("{si ss sI sI so so}", "Pid", (int)pid, "Directory", directory, "Uid", (json_int_t)st.st_uid, "Gid",
			 (json_int_t)st.st_gid, "Sockets", listening_paths(process, &sockets), "Ports", ports);
}

json_t *processes_find(const char *const *names)
{
	json_t *found = json_array();
	autoclosedir DIR *directory = opendir("/proc");
	char path[32];

	if (!directory)
		return found;
	for (const struct dirent *entry; (entry = readdir(directory));) {
		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		snprintf(path, sizeof path, "/proc/%d", atoi(entry->d_name));
		if (!is_named(path, names) || !has_our_root(path))
			continue;
		json_t *process = describe(path, atoi(entry->d_name));
		if (process)
			json_array_append_new(found, process);
	}
	return found;
}
