/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls of org.vssd.Coordinator1 that need no session of ours. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "common/names.h"
#include "requestor/connection.h"

#define REVERT_USEC (UINT64_C(3600) * USEC_PER_SEC) /* writers, and storage that takes its time */
#define STORAGE_USEC (UINT64_C(600) * USEC_PER_SEC) /* a smaller size deletes copies */
#define PATH_SIZE (sizeof VSS_SESSION_PATH + ID_HEX_SIZE)

static struct target coordinator(const char *method, const char *signature)
{
	return (struct target){ VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, method, signature };
}

static json_t *options_or_empty(json_t *options)
{
	return options ? json_incref(options) : json_object();
}

/* One that changes nothing may be asked again when vssd went away under it: by an idle exit, or by a restart. */
static bool may_be_repeated(const char *method)
{
	static const char *const prefixes[] = { "List", "Probe", "Get", "Mount" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncmp(method, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static int call(struct vss_connection *c, const struct target *target, json_t *args, uint64_t limit,
		struct answer *answer, struct vss_failure *error)
{
	autojson json_t *owned = args;
	int r = connection_call(c, target, json_incref(owned), limit, answer, error);

	if (r == 0 || !answer->gone || !may_be_repeated(target->method))
		return r;
	/* One that was never there since we connected is not waited for, but for its idle exit asked once more. */
	if (c->losses > 0 && connection_await_vssd(c, error) < 0)
		return -1;
	answer_clear(answer);
	return connection_call(c, target, json_incref(owned), limit, answer, error);
}

static json_t *read_rows(int fd)
{
	struct stat info;
	void *text;
	json_t *rows;

	if (fd < 0 || fstat(fd, &info) < 0 || info.st_size <= 0)
		return NULL;
	text = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return NULL;
	rows = json_loadb(text, (size_t)info.st_size, 0, NULL);
	munmap(text, (size_t)info.st_size);
	return rows;
}

/* Hundreds of rows come faster as one text. */
static int query_shadows(struct vss_connection *c, json_t *options, uint64_t timeout_usec, json_t **ret_rows,
			 struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("ListShadowsJson", "a{sv}");
	json_t *rows;

	if (call(c, &target, json_pack("[o]", options_or_empty(options)), timeout_usec ? timeout_usec : CALL_USEC,
		 &answer, error) < 0)
		return -1;
	rows = read_rows(answer.fd);
	if (!json_is_array(rows)) {
		json_decref(rows);
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer to ListShadowsJson is not a list");
	}
	*ret_rows = rows;
	return 0;
}

int vss_query(struct vss_connection *c, const char *method, json_t *options, uint64_t timeout_usec, json_t **ret_rows,
	      struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator(method, "a{sv}");

	if (strcmp(method, "ListShadows") == 0 && !json_is_true(json_object_get(options, "Usage")))
		return query_shadows(c, options, timeout_usec, ret_rows, error);
	if (call(c, &target, json_pack("[o]", options_or_empty(options)), timeout_usec ? timeout_usec : CALL_USEC,
		 &answer, error) < 0)
		return -1;
	json_t *rows = json_array_get(answer.args, 0);
	if (!json_is_array(rows))
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer to %s is not a list", method);
	*ret_rows = json_incref(rows);
	return 0;
}

int vss_status(struct vss_connection *c, json_t **ret_properties, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = { VSS_ROOT_PATH, "org.freedesktop.DBus.Properties", "GetAll", "s" };

	if (call(c, &target, json_pack("[s]", VSS_IFACE_COORDINATOR), CALL_USEC, &answer, error) < 0)
		return -1;
	*ret_properties = json_incref(json_array_get(answer.args, 0));
	return 0;
}

/* Ids come as people type them: braces and upper case are VSS's own way of writing them. */
static int parse_id(const char *what, const char *text, char id[ID_SIZE], struct vss_failure *error)
{
	if (id_parse(text, id))
		return 0;
	return fail(error, VSS_E_INVALID_ARGUMENT,
		    "\"%s\" is not the id of a %s (like 153b6835-be81-45ed-bd01-2edbf4f61a85)", text, what);
}

int vss_expose(struct vss_connection *c, const char *shadow, const char *path, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("Expose", "ssa{sv}");
	char id[ID_SIZE];

	if (parse_id("shadow copy", shadow, id, error) < 0)
		return -1;
	return call(c, &target, json_pack("[ss{}]", id, path), CALL_USEC, &answer, error);
}

int vss_unexpose(struct vss_connection *c, const char *shadow, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("Unexpose", "sa{sv}");
	char id[ID_SIZE];

	if (parse_id("shadow copy", shadow, id, error) < 0)
		return -1;
	return call(c, &target, json_pack("[s{}]", id), CALL_USEC, &answer, error);
}

int vss_mount(struct vss_connection *c, const char *shadow, int *ret_fd, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("Mount", "sa{sv}");
	char id[ID_SIZE];

	if (parse_id("shadow copy", shadow, id, error) < 0 ||
	    call(c, &target, json_pack("[s{}]", id), CALL_USEC, &answer, error) < 0)
		return -1;
	if (answer.fd < 0)
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer to Mount of shadow copy %s carries no descriptor",
			    id);
	*ret_fd = steal_fd(answer.fd);
	return 0;
}

int vss_record(struct vss_connection *c, const char *shadow, json_t **ret_record, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("GetRecord", "sa{sv}");
	char id[ID_SIZE];
	json_error_t why;

	if (parse_id("shadow copy", shadow, id, error) < 0 ||
	    call(c, &target, json_pack("[s{}]", id), CALL_USEC, &answer, error) < 0)
		return -1;
	const char *text = json_string_value(json_array_get(answer.args, 0));
	*ret_record = json_loads(text ? text : "", 0, &why);
	if (!*ret_record)
		return fail(error, VSS_E_INVALID_DOCUMENT, "The record of shadow copy %s is not valid JSON: %s", id,
			    why.text);
	return 0;
}

int vss_revert(struct vss_connection *c, const char *shadow, json_t *options, json_t **ret_result,
	       struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("Revert", "sa{sv}");
	char id[ID_SIZE];

	if (parse_id("shadow copy", shadow, id, error) < 0 ||
	    call(c, &target, json_pack("[so]", id, options_or_empty(options)), REVERT_USEC, &answer, error) < 0)
		return -1;
	*ret_result = json_incref(json_array_get(answer.args, 0));
	return 0;
}

static int set_storage(struct vss_connection *c, const char *method, const char *path, const char *storage,
		       const char *max_size, bool guaranteed, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator(method, "ssa{sv}");

	return call(c, &target, json_pack("[ss{ss sb}]", path, storage, "MaxSize", max_size ? max_size : "UNBOUNDED",
					  "Guaranteed", guaranteed),
		    STORAGE_USEC, &answer, error);
}

int vss_add_storage(struct vss_connection *c, const char *path, const char *storage, const char *max_size, bool guaranteed,
		    struct vss_failure *error)
{
	return set_storage(c, "AddShadowStorage", path, storage, max_size, guaranteed, error);
}

int vss_resize_storage(struct vss_connection *c, const char *path, const char *storage, const char *max_size,
		       bool guaranteed, struct vss_failure *error)
{
	return set_storage(c, "ResizeShadowStorage", path, storage, max_size, guaranteed, error);
}

int vss_delete_storage(struct vss_connection *c, const char *path, const char *storage, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("DeleteShadowStorage", "sa{sv}");

	return call(c, &target, json_pack("[s{ss*}]", path, "On", storage), STORAGE_USEC, &answer, error);
}

int vss_reset_writer(struct vss_connection *c, const char *writer, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	struct target target = coordinator("ResetWriter", "sa{sv}");
	char id[ID_SIZE];

	return call(c, &target, json_pack("[s{}]", id_parse(writer, id) ? id : writer), CALL_USEC, &answer, error);
}

int vss_abort_session(struct vss_connection *c, const char *session, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	char id[ID_SIZE], hex[ID_HEX_SIZE], path[PATH_SIZE];
	struct target target = { path, VSS_IFACE_SESSION, "Abort", "a{sv}" };

	if (parse_id("session", session, id, error) < 0)
		return -1;
	id_to_hex(id, hex);
	snprintf(path, sizeof path, "%s/%s", VSS_SESSION_PATH, hex);
	if (call(c, &target, json_pack("[{}]"), CLOSE_USEC, &answer, error) == 0)
		return 0;
	if (answer.unknown)
		return fail(error, VSS_E_OBJECT_NOT_FOUND, "There is no session %s (see vssctl list sessions)", id);
	return -1;
}

const char *vss_requestor_version(void)
{
	return VSSD_VERSION;
}
