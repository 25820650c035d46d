/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/note.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

#define DIRECTORY_DEFAULT "/run/vss-qemu-writer"
#define GUEST_NAME_MAX 80 /* as many bytes as a component's name has */

void note_file(const char *guest, char file[NOTE_FILE_SIZE])
{
	size_t n = 0;

	for (size_t i = 0; guest[i] && i < GUEST_NAME_MAX; i++) {
		unsigned char c = (unsigned char)guest[i];
		bool plain = isalnum(c) || c == '-' || c == '_' || (c == '.' && i > 0);
		n += (size_t)snprintf(file + n, NOTE_FILE_SIZE - n, plain ? "%c" : "%%%02X", c);
	}
	snprintf(file + n, NOTE_FILE_SIZE - n, ".frozen");
}

int note_write(int directory, const char *guest, json_t *note, struct err *err)
{
	char file[NOTE_FILE_SIZE], draft[NOTE_FILE_SIZE + 4];

	note_file(guest, file);
	snprintf(draft, sizeof draft, "%s.new", file);
	autoclose int fd = openat(directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || json_dumpfd(note, fd, JSON_COMPACT) < 0 || renameat(directory, draft, directory, file) < 0)
		return err_errno(err, errno, VSS_E_WRITER_OUT_OF_RESOURCES, "The note %s cannot be written", file);
	return 0;
}

void note_remove(int directory, const char *guest)
{
	char file[NOTE_FILE_SIZE];

	note_file(guest, file);
	unlinkat(directory, file, 0);
}

bool note_exists(int directory, const char *guest)
{
	char file[NOTE_FILE_SIZE];

	note_file(guest, file);
	return faccessat(directory, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

json_t *note_read(int directory, const char *file)
{
	autoclose int fd = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	json_t *note = fd >= 0 ? json_loadfd(fd, JSON_DISABLE_EOF_CHECK, NULL) : NULL;

	if (json_is_string(json_object_get(note, "Guest")) && json_is_string(json_object_get(note, "Agent")))
		return note;
	json_decref(note);
	return NULL;
}

int notes_open(void)
{
	const char *given = getenv("RUNTIME_DIRECTORY"), *path = given ? given : DIRECTORY_DEFAULT;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}
