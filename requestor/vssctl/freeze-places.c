/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/freeze-places.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"

#define INTERPRETERS_MAX 5 /* of interpreters, as the kernel allows */

struct filesystem {
	dev_t device; /* of a btrfs: of the subvolume alone */
	bool is_btrfs;
	uint8_t id[16];
};

static int identify(int fd, struct filesystem *ret)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -1;
	*ret = (struct filesystem){ .device = st.st_dev };
	if ((unsigned long)fs.f_type != BTRFS_SUPER_MAGIC || ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return 0;
	ret->is_btrfs = true;
	memcpy(ret->id, info.fsid, sizeof ret->id);
	return 0;
}

static bool is_same(const struct filesystem *a, const struct filesystem *b)
{
	if (a->is_btrfs && b->is_btrfs)
		return memcmp(a->id, b->id, sizeof a->id) == 0;
	return a->device == b->device;
}

struct frozen {
	char *const *paths;
	size_t n;
	char *why;
};

static int refuse(const struct frozen *f, const char *what, const char *name, size_t i)
{
	snprintf(f->why, 512, "%s%s%s lies on %s, which is to be frozen: it would wait for its own end", what,
		 *name ? " " : "", name, f->paths[i]);
	return -1;
}

/* Of an open file. */
static int check_fd(const struct frozen *f, int fd, const char *what, const char *name)
{
	struct filesystem own, theirs;

	if (identify(fd, &own) < 0)
		return 0;
	for (size_t i = 0; i < f->n; i++) {
		autoclose int root = open(f->paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (root >= 0 && identify(root, &theirs) == 0 && is_same(&own, &theirs))
			return refuse(f, what, name, i);
	}
	return 0;
}

/* ---- the executable ---- */

/* As execvp looks for it. */
static bool find_command(const char *command, char path[PATH_MAX])
{
	autofree char *list = strdup(getenv("PATH") ?: "/bin:/usr/bin");
	char *rest = list;

	if (strchr(command, '/')) {
		snprintf(path, PATH_MAX, "%s", command);
		return true;
	}
	for (char *dir; (dir = strsep(&rest, ":"));) {
		if (snprintf(path, PATH_MAX, "%s/%s", *dir ? dir : ".", command) < PATH_MAX && access(path, X_OK) == 0)
			return true;
	}
	return false;
}

/* "#!/bin/sh -e": the first word; of an ELF file the loader. False: none. */
static bool find_script_interpreter(const char *head, char path[PATH_MAX])
{
	if (strncmp(head, "#!", 2) != 0)
		return false;
	head += 2 + strspn(head + 2, " \t");
	snprintf(path, PATH_MAX, "%.*s", (int)strcspn(head, " \t\r\n"), head);
	return *path != '\0';
}

static bool find_loader(int fd, const char *head, char path[PATH_MAX])
{
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)(const void *)head;
	Elf64_Phdr part;

	if (memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0 || elf->e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (unsigned i = 0; i < elf->e_phnum && i < 64; i++) {
		if (pread(fd, &part, sizeof part, (off_t)(elf->e_phoff + i * sizeof part)) != sizeof part)
			return false;
		if (part.p_type != PT_INTERP || part.p_filesz == 0 || part.p_filesz >= PATH_MAX)
			continue;
		path[part.p_filesz] = '\0';
		return pread(fd, path, part.p_filesz, (off_t)part.p_offset) == (ssize_t)part.p_filesz;
	}
	return false;
}

static int check_executable(const struct frozen *f, const char *command)
{
	char path[PATH_MAX], next[PATH_MAX];

	if (!find_command(command, path))
		return 0; /* exec says so */
	for (int i = 0; i < INTERPRETERS_MAX; i++) {
		_Alignas(Elf64_Ehdr) char head[512] = "";
		autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd < 0)
			return 0;
		if (check_fd(f, fd, i == 0 ? "the command" : "its interpreter", path) < 0)
			return -1;
		if (read(fd, head, sizeof head - 1) <= 0 ||
		    (!find_script_interpreter(head, next) && !find_loader(fd, head, next)) || strcmp(next, path) == 0)
			return 0;
		memcpy(path, next, sizeof path);
	}
	return 0;
}

int freeze_places_check(char *const *paths, size_t n_paths, const char *command, char why[512])
{
	static const char *const names[] = { "standard input", "standard output", "standard error" };
	struct frozen f = { paths, n_paths, why };
	autoclose int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (check_executable(&f, command) < 0 || (here >= 0 && check_fd(&f, here, "the working directory", "") < 0))
		return -1;
	for (int fd = 0; fd < 3; fd++)
		if (check_fd(&f, fd, names[fd], "") < 0)
			return -1;
	return 0;
}
