/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root under which COMMAND sees the copies: a mount namespace of the child's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct copy_mount {
	const char *live; /* absolute path of the volume's root; borrowed */
	int fd;		  /* a detached mount */
};

struct root {
	char *path;
	bool made; /* by us, to be removed */
};

/* asked (may be NULL): an existing directory to use. Otherwise a directory that is always the same where vssd runs, so
 * that backup tools which remember paths find them again, else a private one. 0, or -1 with a text in why. */
int root_choose(struct root *root, const char *asked, char why[512]);
void root_release(struct root *root);

/* In the child: a mount namespace (and, without privileges, a user namespace with the same ids) with the copies mounted
 * below path, parents first, and nothing of it seen or left outside. */
int root_enter(const char *path, const struct copy_mount *copies, size_t n, char why[512]);

/* Sorts so that a volume comes before those that lie below it. */
void copies_sort(struct copy_mount *copies, size_t n);
