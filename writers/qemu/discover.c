/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/discover.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/bundled/bundled.h"
#include "writers/qemu/image.h"
#include "writers/qemu/monitor.h"

#define MONITOR_LIMIT (500 * USEC_PER_MSEC)

/* What the monitors of guests that are off now said when they were on: {guest: [files]}. One discovery runs at a time. */
static json_t *remembered;

static void note_problem(json_t *row, const struct err *err)
{
	if (!json_object_get(row, "Problem"))
		json_object_set_new(row, "Problem", json_string(err->text));
}

static void add_images(json_t *row, json_t *disks, json_t *images, bool probe)
{
	size_t i;
	json_t *image;

	json_array_foreach(images, i, image) {
		struct err err = { 0 };
		if (image_files(json_string_value(image), probe, disks, &err) < 0)
			note_problem(row, &err);
	}
}

static void add_known(json_t *disks, json_t *files)
{
	struct err ignored;
	size_t i;
	json_t *file;

	json_array_foreach(files, i, file)
		image_files(json_string_value(file), false, disks, &ignored);
}

static void ask_monitor(json_t *row, json_t *disks, const char *guest, const char *address)
{
	const struct patience patience = { clock_now() + MONITOR_LIMIT, -1 };
	autojson json_t *files = json_array();
	struct err err = { 0 };
	char status[32];
	enum channel_result result = monitor_ask(address, status, files, &patience, &err);

	if (result == CHANNEL_OK)
		json_object_set(remembered, guest, files);
	/* One that hangs is noticed when it is to be frozen; its disks are those that it had. */
	else if (json_object_get(remembered, guest))
		err.code = VSS_OK;
	add_known(disks, json_object_get(remembered, guest));
	if (err.code)
		note_problem(row, &err);
}

/* A file is named by its directory and its name; a device is a volume by itself. */
static void name_file(json_t *paths, const char *file)
{
	const char *slash = strrchr(file, '/');

	if (strncmp(file, "/dev/", 5) == 0 || !slash)
		json_array_append_new(paths, json_pack("{ss ss sb}", "Path", file, "Spec", "*", "Recursive", 0));
	else
		json_array_append_new(paths, json_pack("{ss% ss sb}", "Path", file, slash == file ? (size_t)1 : (size_t)(slash - file),
						       "Spec", slash + 1, "Recursive", 0));
}

static json_t *make_row(const json_t *settings, const char *guest)
{
	const char *agent = bundled_setting_text(settings, guest, "Agent"), *qmp = bundled_setting_text(settings, guest, "Qmp");
	json_t *row = json_pack("{ss ss}", "Name", guest, "Caption", "QEMU guest"), *disks = json_array(),
	       *paths = json_array(), *disk;
	size_t i;

	add_images(row, disks, bundled_setting(settings, guest, "Disks"), true);
	add_images(row, disks, bundled_setting(settings, guest, "RawDisks"), false);
	if (*qmp)
		ask_monitor(row, disks, guest, qmp);
	json_array_foreach(disks, i, disk)
		name_file(paths, json_string_value(disk));
	json_object_set_new(row, "Paths", paths);
	json_object_set_new(row, "Disks", disks);
	if (*agent)
		json_object_set_new(row, "Agent", json_string(agent));
	if (*qmp)
		json_object_set_new(row, "Qmp", json_string(qmp));
	return row;
}

json_t *discover_guests(const json_t *settings, struct err *err)
{
	json_t *rows = json_array(), *unused;
	const char *guest;

	if (!remembered)
		remembered = json_object();
	json_object_foreach(bundled_setting_instances(settings), guest, unused)
		if (*guest)
			json_array_append_new(rows, make_row(settings, guest));
	return rows;
}
