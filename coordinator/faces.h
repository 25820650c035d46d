/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The D-Bus faces: they check, authorise and translate; what happens is decided in the modules without D-Bus. */
#pragma once

#include "coordinator/coordinator.h"
#include "coordinator/revert.h"

extern const struct bus_interface coordinator_interface, session_interface, shadow_interface, storage_interface,
	writer_record_interface;

/* coordinator-bus.c: the root object */
int coordinator_face_export(struct coordinator *coordinator, struct err *err);

/* session-open-bus.c, session-bus.c */
void face_create_session(struct bus_call *call, void *object);
void face_adopt(struct bus_call *call, void *object);
void face_list_sessions(struct bus_call *call, void *object);
struct session_listener session_face_listener(struct coordinator *coordinator);
void session_faces_restore(struct coordinator *coordinator, void (*done)(struct coordinator *coordinator));
void session_faces_free(struct coordinator *coordinator);

/* writer-bus.c */
void face_register_writer(struct bus_call *call, void *object);
void face_unregister_writer(struct bus_call *call, void *object);
void face_keep_alive(struct bus_call *call, void *object);
void face_list_writers(struct bus_call *call, void *object);
void face_reset_writer(struct bus_call *call, void *object);
struct registry_listener writer_face_listener(struct coordinator *coordinator);
/* Starts the service that owns bus_name, for a set of the session; as session_context.activate. */
void writer_face_activate(const char *session, const char *bus_name, void *data);
/* Takes up the writers that were registered before a restart; done runs when all have been asked for. */
void writer_faces_restore(struct coordinator *coordinator, void (*done)(struct coordinator *coordinator));
void writer_faces_free(struct coordinator *coordinator);

/* probe-bus.c */
void face_probe_writers(struct bus_call *call, void *object);

/* shadow-bus.c */
void face_list_shadows(struct bus_call *call, void *object);
void face_list_shadows_json(struct bus_call *call, void *object);
void face_get_record(struct bus_call *call, void *object);
void face_delete_shadows(struct bus_call *call, void *object);
void face_expose(struct bus_call *call, void *object);
void face_unexpose(struct bus_call *call, void *object);
void face_mount(struct bus_call *call, void *object);
struct catalogue_listener shadow_face_listener(struct coordinator *coordinator);
void shadow_faces_free(struct coordinator *coordinator);

/* revert-bus.c */
void face_revert(struct bus_call *call, void *object);
void face_list_reverts(struct bus_call *call, void *object);
void revert_faces_free(struct coordinator *coordinator);

/* storage-bus.c */
void face_list_shadow_storage(struct bus_call *call, void *object);
void face_add_shadow_storage(struct bus_call *call, void *object);
void face_resize_shadow_storage(struct bus_call *call, void *object);
void face_delete_shadow_storage(struct bus_call *call, void *object);
/* Answers the call with every store, and of each whether copies of the volume may be kept there, and why not. */
void face_list_candidates(struct coordinator *coordinator, struct bus_call *call, json_t *volume_path);
void storage_faces_free(struct coordinator *coordinator);

/* volume-bus.c */
void face_list_volumes(struct bus_call *call, void *object);
void face_list_providers(struct bus_call *call, void *object);
/* Resolves a path (string) or descriptor (index) of the call: fn gets the volumes worker's rows, or the error. What lies
 * below the volume is not looked for, named in its row, or resolved as well. fn runs exactly once; call stays the
 * caller's. */
enum face_below { FACE_BELOW_IGNORED, FACE_BELOW_NAMED, FACE_BELOW_TOO };
typedef void (*face_volumes_fn)(struct bus_call *call, const struct err *err, json_t *volumes, void *data);
void face_resolve(struct coordinator *coordinator, struct bus_call *call, json_t *volume, enum face_below below,
		  face_volumes_fn fn, void *data);

/* options.c */
struct option_rule {
	const char *name;
	json_type type; /* JSON_TRUE stands for a boolean */
};
/* The rules end with a NULL name. -1: err names the option that is unknown or has the wrong type. */
int options_check(json_t *options, const struct option_rule *rules, struct err *err);
/* Checks the last argument of the call; answers it with the error and returns false if that fails. */
bool options_accept(struct bus_call *call, const struct option_rule *rules);
extern const struct option_rule no_options[];
/* Argument number i of the call, as text. */
const char *call_text(struct bus_call *call, size_t i);
json_t *call_options(struct bus_call *call);
void call_fail(struct bus_call *call, enum vss_error error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Object path below parent for an id; caller frees. */
char *face_path(const char *parent, const char *id);
