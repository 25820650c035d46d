/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root object: one table of what vssd offers, and where it is done. */
#include "common/names.h"
#include "coordinator/faces.h"

static const struct bus_method coordinator_methods[] = {
	{ "CreateSession", "a{sv}", "o", "options", "session", face_create_session },
	{ "Adopt", "sa{sv}", "o", "token options", "session", face_adopt },
	{ "ListSessions", "a{sv}", "aa{sv}", "options", "sessions", face_list_sessions },
	{ "ListWriters", "a{sv}", "aa{sv}", "options", "writers", face_list_writers },
	{ "ProbeWriters", "a{sv}", "aa{sv}", "options", "writers", face_probe_writers },
	{ "ResetWriter", "sa{sv}", "", "writer options", "", face_reset_writer },
	{ "RegisterWriter", "oa{sv}", "o", "path metadata", "record", face_register_writer },
	{ "UnregisterWriter", "sa{sv}", "", "instance options", "", face_unregister_writer },
	{ "KeepAlive", "sa{sv}", "", "session options", "", face_keep_alive },
	{ "ListProviders", "a{sv}", "aa{sv}", "options", "providers", face_list_providers },
	{ "ListVolumes", "a{sv}", "aa{sv}", "options", "volumes", face_list_volumes },
	{ "ListShadows", "a{sv}", "aa{sv}", "options", "shadows", face_list_shadows },
	{ "ListShadowsJson", "a{sv}", "h", "options", "shadows", face_list_shadows_json },
	{ "GetRecord", "sa{sv}", "s", "shadow options", "record", face_get_record },
	{ "DeleteShadows", "a{sv}", "aa{sv}", "options", "results", face_delete_shadows },
	{ "ListShadowStorage", "a{sv}", "aa{sv}", "options", "associations", face_list_shadow_storage },
	{ "AddShadowStorage", "ssa{sv}", "o", "for on options", "storage", face_add_shadow_storage },
	{ "ResizeShadowStorage", "ssa{sv}", "", "for on options", "", face_resize_shadow_storage },
	{ "DeleteShadowStorage", "sa{sv}", "", "for options", "", face_delete_shadow_storage },
	{ "Expose", "ssa{sv}", "s", "shadow path options", "path", face_expose },
	{ "Unexpose", "sa{sv}", "", "shadow options", "", face_unexpose },
	{ "Mount", "sa{sv}", "h", "shadow options", "mount", face_mount },
	{ "Revert", "sa{sv}", "a{sv}", "shadow options", "result", face_revert },
	{ "ListReverts", "a{sv}", "aa{sv}", "options", "reverts", face_list_reverts },
	{ NULL },
};

static json_t *get_version(void *object)
{
	return json_string(VSSD_VERSION);
}

static json_t *get_writers(void *object)
{
	struct coordinator *c = object;

	return json_integer((json_int_t)registry_present(c->registry));
}

static json_t *get_sessions(void *object)
{
	struct coordinator *c = object;

	return json_integer((json_int_t)c->sessions.n_sessions);
}

static const struct bus_property coordinator_properties[] = {
	{ "Version", "s", get_version, false },
	{ "Writers", "u", get_writers, true },
	{ "Sessions", "u", get_sessions, true },
	{ NULL },
};

const struct bus_interface coordinator_interface = { VSS_IFACE_COORDINATOR, coordinator_methods, coordinator_properties,
						     NULL };

static const struct bus_interface *const coordinator_interfaces[] = { &coordinator_interface, NULL };

int coordinator_face_export(struct coordinator *coordinator, struct err *err)
{
	if (bus_export(coordinator->bus, VSS_ROOT_PATH, coordinator_interfaces, coordinator, err) < 0)
		return -1;
	return bus_export_manager(coordinator->bus, VSS_ROOT_PATH, err);
}
