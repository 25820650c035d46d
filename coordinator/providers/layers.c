/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/layers.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/sysfs.h"

static void read_kind(struct layer *layer, int device)
{
	char text[PATH_MAX];

	layer->kind = "disk";
	if (sysfs_read(device, "loop/backing_file", text, sizeof text)) {
		layer->kind = "loop";
		layer->backing = strdup(text);
	} else if (faccessat(device, "dm", F_OK, 0) == 0) {
		layer->kind = "dm";
		sysfs_read(device, "dm/uuid", layer->dm_uuid, sizeof layer->dm_uuid);
		layer->is_lvm = strncmp(layer->dm_uuid, "LVM-", 4) == 0;
	} else if (faccessat(device, "partition", F_OK, 0) == 0) {
		layer->kind = "partition";
	} else if (faccessat(device, "md", F_OK, 0) == 0) {
		layer->kind = "md";
	} else if (strncmp(layer->name, "nbd", 3) == 0) {
		layer->kind = "nbd";
	} else if (strncmp(layer->name, "ublkb", 5) == 0) {
		layer->kind = "ublk";
	}
}

static void add_slave(dev_t number, void *data)
{
	layers_add(data, number);
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
	char name[sizeof layers->list[0].name];
	dev_t disk;

	if (is_known(layers, number))
		return;
	autoclose int device = sysfs_open(number, name, sizeof name);
	if (device < 0)
		return;
	if (layers->n == LAYERS_MAX) {
		layers->cut_off = true;
		return;
	}
	struct layer *layer = &layers->list[layers->n++];
	*layer = (struct layer){ .number = number };
	memcpy(layer->name, name, sizeof name);
	read_kind(layer, device);
	layer->is_leaf = strcmp(layer->kind, "dm") != 0 && strcmp(layer->kind, "md") != 0 &&
			 strcmp(layer->kind, "partition") != 0;
	sysfs_for_each(device, "slaves", add_slave, layers);
	if (strcmp(layer->kind, "partition") == 0 && sysfs_read_number(device, "../dev", &disk))
		layers_add(layers, disk);
}

void layers_done(struct layers *layers)
{
	for (size_t i = 0; i < layers->n; i++)
		free(layers->list[i].backing);
	layers->n = 0;
}

bool layer_is_virtual(const struct layer *layer)
{
	static const char *const kinds[] = { "loop", "nbd", "ublk" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(layer->kind, kinds[i]) == 0)
			return true;
	return false;
}
