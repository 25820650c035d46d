/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/held.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

static void file_name(const char *id, char name[ID_SIZE + 8])
{
	snprintf(name, ID_SIZE + 8, "%s.frozen", id);
}

int held_set(int directory, const char *id, const char *session, const char *set, struct err *err)
{
	char name[ID_SIZE + 8];

	file_name(id, name);
	autoclose int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%s %s\n", session, set) < 0)
		return err_errno(err, errno, VSS_E_WRITER_OUT_OF_RESOURCES, "The note %s cannot be written", name);
	return 0;
}

void held_clear(int directory, const char *id)
{
	char name[ID_SIZE + 8];

	file_name(id, name);
	unlinkat(directory, name, 0);
}

bool held_read(int directory, const char *id, char session[ID_SIZE], char set[ID_SIZE])
{
	char name[ID_SIZE + 8], text[2 * ID_SIZE + 1] = "";

	file_name(id, name);
	autoclose int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	session[0] = set[0] = '\0';
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0 || sscanf(text, "%36s %36s", session, set) != 2 || !id_is_valid(session))
		session[0] = set[0] = '\0';
	return true;
}
