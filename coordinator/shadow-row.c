/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/shadow-row.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "common/text.h"

static const char *text_of(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

static json_t *attributes(bool persistent)
{
	json_t *list = json_pack("[s]", "Differential");

	if (persistent) {
		json_array_append_new(list, json_string("Persistent"));
		json_array_append_new(list, json_string("No auto release"));
	}
	return list;
}

/* Where the copy is: the provider says so, or as findmnt(8) writes a subvolume of a device. */
static void describe_device(char device[512], const char *copy, json_t *record)
{
	const char *own = text_of(record, "Device");

	if (*own)
		text_format(device, 512, "%s", own);
	else
		text_format(device, 512, "%s[/" VSS_STORE_DIR "/%s/" VSS_STORE_COPY "]",
			    text_of(json_object_get(record, "Volume"), "Device"), copy);
}

/* The record was written by some vssd, perhaps another machine's, perhaps by nobody honest: only known types get
 * through. */
json_t *shadow_row(const char *machine_id, const struct role_info *role, const char *copy, const char *filesystem,
		   json_t *record)
{
	json_t *volume = json_object_get(record, "Volume");
	bool persistent = json_is_true(json_object_get(record, "Persistent"));
	bool ours = strcmp(text_of(record, "Host"), machine_id) == 0;
	char device[512];

	describe_device(device, copy, record);
	json_t *row =
	    json_pack("{ss ss sI sI ss ss ss ss ss ss}", "Shadow", copy, "Set", text_of(record, "Set"), "SetCount",
		      json_integer_value(json_object_get(record, "SetCount")), "Created",
		      json_integer_value(json_object_get(record, "Created")), "Volume", text_of(volume, "Path"),
		      "VolumeId", text_of(volume, "Id"), "Filesystem", filesystem, "Device", device, "Host",
		      text_of(record, "Host"), "HostName", text_of(record, "HostName"));

	json_object_update_new(
	    row, json_pack("{ss ss ss sb ss ss ss ss ss ss ss so}", "Provider", role->name, "ProviderId", role->id,
			   "Context", text_of(record, "Context"), "Persistent", persistent, "Session",
			   persistent ? "" : text_of(record, "Session"), "Consistency", text_of(record, "Consistency"),
			   "ConsistencyReason", text_of(record, "ConsistencyReason"), "Instant",
			   text_of(record, "Instant"), "InstantReason", text_of(record, "InstantReason"), "Exposed", "",
			   "State", ours ? "created" : "foreign", "Attributes", attributes(persistent)));
	return row;
}

json_t *shadow_row_broken(const char *machine_id, const struct role_info *role, const char *copy,
			  const char *filesystem, const char *host, const char *set, const char *why)
{
	json_t *record =
	    json_pack("{ss ss ss sb}", "Host", host, "Set", set, "ConsistencyReason", why, "Persistent", 1);
	json_t *row = shadow_row(machine_id, role, copy, filesystem, record);

	json_object_set_new(row, "State", json_string("unfinished"));
	json_decref(record);
	return row;
}

json_t *shadow_row_damaged(const char *machine_id, const struct role_info *role, const char *copy,
			   const char *filesystem, json_t *record, const char *why)
{
	json_t *row = shadow_row(machine_id, role, copy, filesystem, record);

	if (strcmp(text_of(row, "State"), "created") == 0)
		json_object_set_new(row, "State", json_string("unfinished"));
	json_object_update_new(row, json_pack("{ss ss ss ss}", "Consistency", "", "ConsistencyReason", why, "Instant",
					      "", "InstantReason", ""));
	return row;
}

json_t *shadow_row_brief(json_t *row)
{
	static const char *const members[] = {
		"Shadow",   "Set",	     "SetCount", "Created",    "Volume",     "VolumeId",    "Device",
		"HostName", "Provider",	     "Context",	 "Persistent", "Attributes", "Consistency", "ConsistencyReason",
		"Instant",  "InstantReason", "Exposed",	 "State"
	};
	json_t *brief = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		json_t *value = json_object_get(row, members[i]);
		if (!json_is_string(value) || json_string_length(value) > 0)
			json_object_set(brief, members[i], value);
	}
	return brief;
}
