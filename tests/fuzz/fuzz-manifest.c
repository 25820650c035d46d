/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/manifest.h"
#include "fuzz.h"

static void note(const struct err *err, void *data)
{
	must(err->code && strstr(err->text, "input.writer"));
	++*(unsigned *)data;
}

static void check(const struct manifest *m)
{
	must(id_is_valid(m->id) && m->name && *m->name && m->user && *m->user);
	must(m->level >= -1 && m->level <= 2);
	must(m->n_paths <= MANIFEST_PATHS_MAX);
	for (size_t i = 0; i < m->n_paths; i++)
		must(m->paths[i][0] == '/');
	must(!m->unit || !strchr(m->unit, '/'));
	must(!m->bus_name || !strpbrk(m->bus_name, "':/ "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char directory[] = "/tmp/vssd-fuzz.XXXXXX", path[64];
	struct manifests manifests;
	unsigned n_errors = 0;
	struct err err = { 0 };

	must(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/input.writer", directory);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	must(manifests_read(&manifests, (const char *[]){ directory, NULL }, note, &n_errors, &err) == 0);
	must(manifests.n + n_errors == (size > 0));
	for (size_t i = 0; i < manifests.n; i++)
		check(&manifests.items[i]);
	manifests_done(&manifests);
	unlink(path);
	rmdir(directory);
	return 0;
}
