/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/discover.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/bundled/bundled.h"
#include "writers/qemu/image.h"
#include "writers/qemu/libvirt.h"
#include "writers/qemu/monitor.h"

#define LIBVIRT_LIMIT (1500 * USEC_PER_MSEC)
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

static void name_files(json_t *row, json_t *disks)
{
	json_t *paths = json_array(), *disk;
	size_t i;

	json_array_foreach(disks, i, disk)
		name_file(paths, json_string_value(disk));
	json_object_set_new(row, "Paths", paths);
	json_object_set_new(row, "Disks", disks);
}

/* ---- guests of the configuration ---- */

static json_t *make_row(const json_t *settings, const char *guest)
{
	const char *agent = bundled_setting_text(settings, guest, "Agent"), *qmp = bundled_setting_text(settings, guest, "Qmp");
	json_t *row = json_pack("{ss ss}", "Name", guest, "Caption", "QEMU guest"), *disks = json_array();

	add_images(row, disks, bundled_setting(settings, guest, "Disks"), true);
	add_images(row, disks, bundled_setting(settings, guest, "RawDisks"), false);
	if (*qmp)
		ask_monitor(row, disks, guest, qmp);
	name_files(row, disks);
	if (*agent)
		json_object_set_new(row, "Agent", json_string(agent));
	if (*qmp)
		json_object_set_new(row, "Qmp", json_string(qmp));
	return row;
}

/* A section that names neither an agent nor disks is there for a domain of libvirt. */
static bool is_own(const json_t *settings, const char *guest)
{
	static const char *const keys[] = { "Agent", "Qmp", "Disks", "RawDisks" };
	json_t *section = json_object_get(settings, guest);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_object_get(section, keys[i]))
			return true;
	return false;
}

/* ---- domains of libvirt ---- */

/* Of a domain that runs libvirt knows the chains; of one that is off the disks alone. */
static json_t *domain_row(const char *uri, json_t *domain)
{
	const char *name = json_string_value(json_object_get(domain, "Name"));
	bool runs = json_is_true(json_object_get(domain, "Running"));
	json_t *row = json_pack("{ss ss}", "Name", name, "Caption", "libvirt domain"), *disks = json_array();

	add_images(row, disks, json_object_get(domain, "Files"), !runs);
	name_files(row, disks);
	json_object_set_new(row, "Agent", json_sprintf("%s%s %s", LIBVIRT_ADDRESS, uri, name));
	return row;
}

static bool wanted(const json_t *settings, const char *uri)
{
	const char *choice = bundled_setting_text(settings, NULL, "Libvirt");

	if (strcmp(choice, "auto") != 0)
		return strcmp(choice, "yes") == 0;
	return libvirt_is_built_in() && (strcmp(uri, "qemu:///system") != 0 || access("/run/libvirt/libvirt-sock", F_OK) == 0 ||
					 access("/run/libvirt/virtqemud-sock", F_OK) == 0);
}

/* Once libvirt's domains are known they do not vanish because it is not there to be asked: that is an error. */
static int add_domains(const json_t *settings, json_t *rows, struct err *err)
{
	const struct patience patience = { clock_now() + LIBVIRT_LIMIT, -1 };
	const char *uri = bundled_setting_text(settings, NULL, "LibvirtUri");
	autojson json_t *domains = NULL;
	static bool asked;
	size_t i;
	json_t *domain;

	if (!asked && !wanted(settings, uri))
		return 0;
	domains = libvirt_domains(uri, &patience, err);
	if (!domains)
		return -1;
	asked = true;
	json_array_foreach(domains, i, domain) {
		const char *name = json_string_value(json_object_get(domain, "Name"));
		if (name && !is_own(settings, name))
			json_array_append_new(rows, domain_row(uri, domain));
	}
	return 0;
}

json_t *discover_guests(const json_t *settings, struct err *err)
{
	autojson json_t *rows = json_array();
	json_t *unused;
	const char *guest;

	if (!remembered)
		remembered = json_object();
	json_object_foreach(bundled_setting_instances(settings), guest, unused)
		if (*guest && is_own(settings, guest))
			json_array_append_new(rows, make_row(settings, guest));
	return add_domains(settings, rows, err) < 0 ? NULL : steal_pointer(rows);
}
