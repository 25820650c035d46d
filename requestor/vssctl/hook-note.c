/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/hook-note.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"

#define LOOK_AGAIN (50 * USEC_PER_MSEC)
#define NAME_LENGTH_MAX 64

static int refuse(char why[512], const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(char why[512], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, 512, format, args);
	va_end(args);
	return -1;
}

static bool name_is_good(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t n = strlen(name);

	return n > 0 && n <= NAME_LENGTH_MAX && *name != '.' && strspn(name, allowed) == n;
}

/* Whoever can write there could make us believe that somebody else's session is ours. */
static int open_directory(const char *path, char why[512])
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return refuse(why, "%s cannot be made: %s", path, strerror(errno));
	autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(why, "%s cannot be opened: %s", path, strerror(errno));
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return refuse(why, "%s is not used: it is another user's, or others may write there", path);
	return steal_fd(fd);
}

static int lock(int fd, const char *name, uint64_t until, char why[512])
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return refuse(why, "The note of '%s' cannot be locked: %s", name, strerror(errno));
		if (clock_now() >= until)
			return refuse(why, "Another hook of the name '%s' is at work, and does not end", name);
		usleep(LOOK_AGAIN);
	}
	return 0;
}

/* One that is damaged counts as empty: leases end by themselves. */
static void read_note(struct hook_note *note)
{
	char text[256] = "";
	ssize_t n = pread(note->fd, text, sizeof text - 1, 0);

	note->token[0] = '\0';
	note->held = n > 0 && sscanf(text, "%36s %" SCNd64 " %63s", note->session, &note->since, note->token) >= 2 &&
		     id_is_valid(note->session);
}

int hook_note_open(struct hook_note *note, const char *directory, const char *name, uint64_t until, char why[512])
{
	*note = (struct hook_note)HOOK_NOTE_INIT;
	if (!name_is_good(name))
		return refuse(why, "\"%.64s\" is no name: letters, digits, - _ and . (not in front), %d at most", name,
			      NAME_LENGTH_MAX);
	autoclose int at = open_directory(directory, why);
	if (at < 0)
		return -1;
	autoclose int fd = openat(at, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse(why, "%s/%s cannot be opened: %s", directory, name, strerror(errno));
	if (lock(fd, name, until, why) < 0)
		return -1;
	note->fd = steal_fd(fd);
	read_note(note);
	return 0;
}

int hook_note_write(struct hook_note *note)
{
	char text[256];
	int n = snprintf(text, sizeof text, "%s %" PRId64 " %s\n", note->session, note->since, note->token);

	/* In place: what it replaces is a beginning of it. */
	if (pwrite(note->fd, text, (size_t)n, 0) != n)
		return -1;
	note->held = true;
	return ftruncate(note->fd, n);
}

int hook_note_clear(struct hook_note *note)
{
	note->held = false;
	return ftruncate(note->fd, 0);
}

void hook_note_close(struct hook_note *note)
{
	if (note->fd >= 0)
		close(note->fd);
	note->fd = -1;
}
