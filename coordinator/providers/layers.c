/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"

/* A sysfs attribute without its newline; false when there is none. */
static bool read_attribute(int device, const char *name, char *text, size_t size)
{
	autoclose int fd = openat(device, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (text[n - 1] == '\n')
		text[n - 1] = '\0';
	return true;
}

static bool read_number(int device, const char *name, dev_t *ret)
{
	char text[32];
	unsigned major, minor;

	if (!read_attribute(device, name, text, sizeof text) || sscanf(text, "%u:%u", &major, &minor) != 2)
		return false;
	*ret = makedev(major, minor);
	return true;
}

static void read_kind(struct layer *layer, int device)
{
	char text[PATH_MAX];

	layer->kind = "disk";
	if (read_attribute(device, "loop/backing_file", text, sizeof text)) {
		layer->kind = "loop";
		layer->backing = strdup(text);
	} else if (read_attribute(device, "dm/uuid", text, sizeof text) || faccessat(device, "dm", F_OK, 0) == 0) {
		layer->kind = "dm";
		layer->is_lvm = strncmp(text, "LVM-", 4) == 0;
	} else if (faccessat(device, "partition", F_OK, 0) == 0) {
		layer->kind = "partition";
	} else if (faccessat(device, "md", F_OK, 0) == 0) {
		layer->kind = "md";
	} else if (strncmp(layer->name, "nbd", 3) == 0) {
		layer->kind = "nbd";
	}
}

static void add_slaves(struct layers *layers, int device)
{
	int fd = openat(device, "slaves", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *slaves = fd < 0 ? NULL : fdopendir(fd);
	char path[300];
	dev_t number;

	if (!slaves) {
		cleanup_close(&fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(slaves));) {
		snprintf(path, sizeof path, "%s/dev", entry->d_name);
		if (entry->d_name[0] != '.' && read_number(dirfd(slaves), path, &number))
			layers_add(layers, number);
	}
	closedir(slaves);
}

static bool is_known(const struct layers *layers, dev_t number)
{
	for (size_t i = 0; i < layers->n; i++)
		if (layers->list[i].number == number)
			return true;
	return false;
}

void layers_add(struct layers *layers, dev_t number)
{
	char path[64], link[PATH_MAX];
	dev_t disk;

	if (layers->n == LAYERS_MAX || is_known(layers, number))
		return;
	snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(number), minor(number));
	ssize_t length = readlink(path, link, sizeof link - 1);
	autoclose int device = length < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (device < 0)
		return;
	link[length] = '\0';
	struct layer *layer = &layers->list[layers->n++];
	*layer = (struct layer){ .number = number };
	snprintf(layer->name, sizeof layer->name, "%.63s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	read_kind(layer, device);
	add_slaves(layers, device);
	if (strcmp(layer->kind, "partition") == 0 && read_number(device, "../dev", &disk))
		layers_add(layers, disk);
}

void layers_done(struct layers *layers)
{
	for (size_t i = 0; i < layers->n; i++)
		free(layers->list[i].backing);
	layers->n = 0;
}
