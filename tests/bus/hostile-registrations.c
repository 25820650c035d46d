/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registrations with garbage, of too many, of somebody else's instance. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "hostile.h"

#define PATIENCE (10 * USEC_PER_SEC)
#define ID "33333333-3333-4333-8333-333333333333"

static enum vss_error register_writer(struct bus *bus, json_t *metadata)
{
	struct err err = { 0 };

	json_decref(victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "RegisterWriter", "oa{sv}",
				json_pack("[so]", VSS_WRITER_DEFAULT_PATH, metadata), &err));
	return err.code;
}

static json_t *metadata_of(const char *id, const char *instance)
{
	return json_pack("{ss ss ss}", "Id", id, "Instance", instance, "Name", "Hostile");
}

static struct bus *open_bus(void)
{
	struct bus *bus = NULL;

	return bus_open(&bus, NULL, NULL) < 0 ? NULL : bus;
}

/* ---- garbage ---- */

static json_t *garbage(struct dice *dice, int depth)
{
	static const char *const texts[] = { "", "/",	      "/data",	"x",	      "\xEF\xBF\xBF",
					     ID, "front-end", "Freeze", "all-volumes" };

	switch (dice_roll(dice, depth > 3 ? 4 : 6)) {
	case 0:
		return json_string(texts[dice_roll(dice, ARRAY_SIZE(texts))]);
	case 1:
		return json_integer((json_int_t)(dice_roll(dice, 5) * UINT64_C(0x1FFFFFFFFFFFFFFF)) - 1);
	case 2:
		return json_boolean(dice_one_in(dice, 2));
	case 3:
		return json_real(0.5);
	case 4:
		return json_pack("[oo]", garbage(dice, depth + 1), garbage(dice, depth + 1));
	default:
		return json_pack("{so so so}", "Name", garbage(dice, depth + 1), "Files", garbage(dice, depth + 1),
				 "Path", garbage(dice, depth + 1));
	}
}

/* Well-made metadata with one or two members spoilt. */
static json_t *spoilt(struct dice *dice)
{
	static const char *const members[] = { "Id",	 "Instance", "Name",  "InstanceName",	 "Version",
					       "Level",	 "Events",   "Scope", "FreezeLimitUsec", "Components",
					       "Unknown" };
	/* 64 bytes of the unknown are quoted: the last character is cut in two. */
	static const char cut[] = "123456789012345678901234567890123456789012345678901234567890123\xC3\xA4";
	json_t *metadata = metadata_of(ID, ID);

	json_object_set_new(metadata, "Components", json_pack("[{ss s[{ss}]}]", "Name", "c", "Files", "Path", "/data"));
	for (uint32_t n = dice_roll(dice, 2) + 1; n > 0; n--)
		json_object_set_new(metadata, members[dice_roll(dice, ARRAY_SIZE(members))], garbage(dice, 0));
	if (dice_one_in(dice, 10))
		json_object_set_new(metadata, cut, json_true());
	return metadata;
}

bool attack_with_metadata(void *data)
{
	struct attack *a = data;
	struct bus *bus = open_bus();
	autojson json_t *rows = NULL;

	for (unsigned i = 0; i < a->size; i++)
		register_writer(bus, spoilt(&a->dice));
	rows = victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "ListWriters", "a{sv}", json_pack("[{}]"), NULL);
	bus_free(bus);
	return json_array_size(rows) >= 2; /* the expected ones are there still */
}

/* ---- too many, and whose ---- */

static bool at_most_sixteen(void)
{
	struct bus *bus = open_bus();
	enum vss_error error = VSS_OK;
	char instance[ID_SIZE];
	int n;

	for (n = 0; n < 17 && !error; n++) {
		id_new(instance);
		error = register_writer(bus, metadata_of(ID, instance));
	}
	bus_free(bus);
	if (n == 17 && error == VSS_E_LIMITS_EXCEEDED)
		return true;
	fprintf(stderr, "writer %d of a connection: %s\n", n, error_text(error));
	return false;
}

static bool is_expected(struct bus *bus, const char *id)
{
	autojson json_t *rows =
	    victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "ListWriters", "a{sv}", json_pack("[{}]"), NULL);
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		if (strcmp(json_string_value(json_object_get(row, "WriterId")), id) == 0)
			return json_is_true(json_object_get(row, "Expected"));
	return false;
}

/* A name that looks like another instance, and the instance: both go with their connection. */
static void register_lookalikes(void)
{
	struct bus *bus = open_bus();
	char first[ID_SIZE], second[ID_SIZE];
	json_t *metadata;

	id_new(first);
	id_new(second);
	metadata = metadata_of(ID, first);
	json_object_set_new(metadata, "Name", json_string(second));
	register_writer(bus, metadata);
	register_writer(bus, metadata_of(ID, second));
	json_decref(victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "UnregisterWriter", "sa{sv}",
				json_pack("[s{}]", first), NULL));
	bus_free(bus);
}

static bool no_writer_stays(struct bus *bus)
{
	uint64_t end = clock_now() + PATIENCE;
	json_int_t n = -1;

	while (n != 0 && clock_now() < end) {
		autojson json_t *value = victim_call(bus, VSS_ROOT_PATH, "org.freedesktop.DBus.Properties", "Get", "ss",
						     json_pack("[ss]", VSS_IFACE_COORDINATOR, "Writers"), NULL);
		n = json_integer_value(value);
		usleep(10000);
	}
	if (n != 0)
		fprintf(stderr, "%lld writers stay whose connections are gone\n", (long long)n);
	return n == 0;
}

bool attack_with_registrations(void *data)
{
	struct attack *a = data;
	struct bus *bus = open_bus(), *other = open_bus();
	enum vss_error taken, again, moved;
	bool well = at_most_sixteen();

	register_lookalikes();
	taken = register_writer(other, metadata_of(ID, ABSENT_WRITER));
	again = register_writer(bus, metadata_of(ID, ID));
	moved = register_writer(other, metadata_of(ID, ID)); /* the same user's: another process takes over */
	for (unsigned i = 0; i < a->size; i++)
		register_writer(dice_one_in(&a->dice, 2) ? bus : other, metadata_of(ID, ID));
	bus_free(other);
	well = well && taken == VSS_E_OBJECT_ALREADY_EXISTS && !again && !moved && is_expected(bus, ABSENT_WRITER);
	if (!well)
		fprintf(stderr, "registered: %s, %s, %s\n", error_text(taken), error_text(again), error_text(moved));
	bus_free(bus);
	bus = open_bus();
	well = no_writer_stays(bus) && well;
	bus_free(bus);
	return well;
}

/* ---- too large together ---- */

/* Ten megabytes of paths, each within its limit. */
static json_t *large_metadata(void)
{
	static char path[4000];
	json_t *components = json_array(), *metadata;
	char instance[ID_SIZE], name[16];

	memset(path, 'x', sizeof path - 1);
	path[0] = '/';
	for (int i = 0; i < 256; i++) {
		json_t *files = json_array();
		for (int j = 0; j < 10; j++)
			json_array_append_new(files, json_pack("{ss}", "Path", path));
		snprintf(name, sizeof name, "c%d", i);
		json_array_append_new(components, json_pack("{ss so}", "Name", name, "Files", files));
	}
	id_new(instance);
	metadata = metadata_of(ID, instance);
	json_object_set_new(metadata, "Components", components);
	return metadata;
}

/* All of them in one answer are more than a bus lets pass: refused, and vssd lives. */
bool attack_with_large_metadata(void *data)
{
	struct bus *bus = open_bus(), *reader = open_bus();
	struct err list = { 0 }, objects = { 0 };

	for (int i = 0; i < 4; i++)
		register_writer(bus, large_metadata());
	json_decref(victim_call(reader, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "ListWriters", "a{sv}", json_pack("[{}]"),
				&list));
	json_decref(victim_call(reader, VSS_ROOT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "",
				json_array(), &objects));
	bus_free(bus);
	bus_free(reader);
	if (list.code && objects.code && list.code != VSS_E_WRITER_NOT_RESPONDING)
		return true;
	fprintf(stderr, "large lists: %s, %s\n", error_text(list.code), error_text(objects.code));
	return false;
}

/* ---- another user ---- */

bool attack_as_nobody(void *data)
{
	struct bus *bus = open_bus();
	char instance[ID_SIZE];
	enum vss_error own, other, absent;
	struct err alive = { 0 };

	id_new(instance);
	own = register_writer(bus, metadata_of(NOBODYS_WRITER, instance));
	other = register_writer(bus, metadata_of(ID, ID));
	absent = register_writer(bus, metadata_of(NOBODYS_WRITER, ABSENT_WRITER));
	json_decref(victim_call(bus, VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "KeepAlive", "sa{sv}",
				json_pack("[s{}]", ID), &alive));
	bus_free(bus);
	if (!own && other == VSS_E_ACCESS_DENIED && absent == VSS_E_OBJECT_ALREADY_EXISTS &&
	    alive.code == VSS_E_OBJECT_NOT_FOUND)
		return true;
	fprintf(stderr, "nobody registered: %s, %s, %s; kept alive: %s\n", error_text(own), error_text(other),
		error_text(absent), error_text(alive.code));
	return false;
}
