/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup session: its life, and the calls that vssd answers at once. */
#include "requestor/backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define ADD_AT_ONCE 32u /* calls in flight; a bus allows 128 a connection */

/* ---- its life ---- */

static int attach(struct vss_backup **ret, struct vss_connection *c, json_t *path, struct vss_failure *error)
{
	const char *text = json_string_value(path);
	struct vss_backup *b;

	if (!text || strncmp(text, VSS_SESSION_PATH "/", sizeof VSS_SESSION_PATH) != 0)
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer names no session");
	b = calloc(1, sizeof *b);
	if (!b)
		return fail(error, VSS_E_OUT_OF_MEMORY, "Out of memory for a backup session");
	b->connection = c;
	snprintf(b->path, sizeof b->path, "%s", text);
	if (!id_from_hex(text + sizeof VSS_SESSION_PATH, b->id)) {
		free(b);
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer names no session: %s", text);
	}
	/* Nothing is waited for: the bus handles the match rule before any call that follows it. */
	b->watch = bus_watch_signals(c->bus, VSS_BUS_NAME, b->path, VSS_IFACE_SESSION, operation_signal, b);
	if (!b->watch) {
		free(b);
		return fail(error, VSS_E_OUT_OF_MEMORY, "Out of memory for a backup session");
	}
	*ret = b;
	return 0;
}

int vss_backup_new(struct vss_backup **ret, struct vss_connection *c, json_t *options, struct vss_failure *error)
{
	static const struct target create = { VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "CreateSession", "a{sv}" };
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	const char *context = json_string_value(json_object_get(options, "Context"));
	int r = 0;

	/* Twice, for a vssd that ends just now because it was idle. */
	for (int i = 0; i < 2 && (i == 0 || answer.gone); i++) {
		answer_clear(&answer);
		r = connection_call(c, &create, json_pack("[o]", options ? json_incref(options) : json_object()),
				    CALL_USEC, &answer, error);
	}
	if (r < 0 || attach(ret, c, json_array_get(answer.args, 0), error) < 0)
		return -1;
	(*ret)->persistent = context && strcmp(context, "backup") != 0;
	return 0;
}

int vss_backup_adopt(struct vss_backup **ret, struct vss_connection *c, const char *token, struct vss_failure *error)
{
	static const struct target adopt = { VSS_ROOT_PATH, VSS_IFACE_COORDINATOR, "Adopt", "sa{sv}" };
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	if (connection_call(c, &adopt, json_pack("[s{}]", token), CALL_USEC, &answer, error) < 0)
		return -1;
	return attach(ret, c, json_array_get(answer.args, 0), error);
}

int vss_backup_detach(struct vss_backup *b, unsigned seconds, char token[64], struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	if (session_call(b, "Detach", "ua{sv}", json_pack("[I{}]", (json_int_t)seconds), CALL_USEC, &answer, error) < 0)
		return -1;
	const char *text = json_string_value(json_array_get(answer.args, 0));
	if (!text || strlen(text) >= 64)
		return fail(error, VSS_E_UNEXPECTED, "vssd's answer to Detach is no token");
	snprintf(token, 64, "%s", text);
	b->closed = true;
	return 0;
}

/* Where there is nothing to remove, or vssd hangs: the message goes out, and vssd does the rest in its own time. */
static void send_without_waiting(struct vss_backup *b, const char *method)
{
	struct bus *bus = b->connection->bus;

	if (bus_call(bus, VSS_BUS_NAME, b->path, VSS_IFACE_SESSION, method, "a{sv}", json_pack("[{}]"), NULL, 0, 0,
		     NULL, NULL, NULL, NULL) == 0)
		bus_flush(bus);
}

struct vss_backup *vss_backup_free(struct vss_backup *b)
{
	if (!b)
		return NULL;
	const char *method = b->unfinished ? "Abort" : "Close";
	connection_uncancel(b->connection); /* meant for what was under way; a new one cuts the waiting here short */
	if (!b->closed && (b->connection->hung || (b->persistent && b->created && !b->unfinished))) {
		send_without_waiting(b, method);
	} else if (!b->closed) {
		cleanup(answer_clear) struct answer answer = ANSWER_INIT;
		session_call(b, method, "a{sv}", json_pack("[{}]"), CLOSE_USEC, &answer, NULL);
	}
	bus_watch_free(b->watch);
	json_decref(b->result);
	free(b);
	return NULL;
}

void vss_backup_on_progress(struct vss_backup *b, vss_progress_fn fn, void *data)
{
	b->progress = fn;
	b->progress_data = data;
}

const char *vss_backup_id(const struct vss_backup *b)
{
	return b->id;
}

/* ---- short calls ---- */

static int lost(struct vss_backup *b, struct vss_failure *error)
{
	b->closed = true;
	return fail(error, VSS_E_COORDINATOR_RESTARTED,
		    "Session %s is gone: vssd was restarted before the set was made, or the session was aborted",
		    b->id);
}

int session_call(struct vss_backup *b, const char *method, const char *signature, json_t *args, uint64_t limit,
		 struct answer *answer, struct vss_failure *error)
{
	struct target target = { b->path, VSS_IFACE_SESSION, method, signature };
	autojson json_t *owned = args;

	if (b->closed)
		return lost(b, error);
	int r = connection_call(b->connection, &target, json_incref(owned), limit, answer, error);
	if (r < 0 && answer->gone) {
		answer_clear(answer);
		if (connection_await_vssd(b->connection, error) < 0)
			return -1;
		r = connection_call(b->connection, &target, json_incref(owned), limit, answer, error);
	}
	return r < 0 && answer->unknown ? lost(b, error) : r;
}

int session_properties(struct vss_backup *b, json_t **ret_properties, struct vss_failure *error)
{
	struct target target = { b->path, "org.freedesktop.DBus.Properties", "GetAll", "s" };
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	for (int i = 0; i < 2 && (i == 0 || answer.gone); i++) {
		if (i > 0 && connection_await_vssd(b->connection, error) < 0)
			return -1;
		answer_clear(&answer);
		if (connection_call(b->connection, &target, json_pack("[s]", VSS_IFACE_SESSION), CALL_USEC, &answer,
				    error) == 0) {
			*ret_properties = json_incref(json_array_get(answer.args, 0));
			return 0;
		}
	}
	return answer.unknown ? lost(b, error) : -1;
}

int vss_backup_properties(struct vss_backup *b, json_t **ret_properties, struct vss_failure *error)
{
	if (b->closed)
		return lost(b, error);
	return session_properties(b, ret_properties, error);
}

int vss_backup_select(struct vss_backup *b, const char *writer, const char *component, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	return session_call(b, "AddComponent", "ssa{sv}", json_pack("[ss{}]", writer, component), CALL_USEC, &answer,
			    error);
}

int vss_backup_add(struct vss_backup *b, const char *path, int fd, json_t **ret_member, struct vss_failure *error)
{
	struct target target = { b->path, VSS_IFACE_SESSION, "AddToSnapshotSet", "va{sv}" };
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	json_t *args = path ? json_pack("[s{}]", path) : json_pack("[{si}{}]", "$fd", 0);

	if (connection_start(b->connection, &target, args, &fd, path ? 0 : 1, CALL_USEC, &answer, error) < 0 ||
	    connection_finish(b->connection, &answer, error) < 0)
		return answer.unknown ? lost(b, error) : -1;
	if (ret_member)
		*ret_member = json_incref(json_array_get(answer.args, 0));
	return 0;
}

/* Asks for n paths at once, then collects. The first failure is the one told; the others are dropped unread. */
static int add_some(struct vss_backup *b, const char *const *paths, size_t n, json_t *members,
		    struct vss_failure *error)
{
	struct target target = { b->path, VSS_IFACE_SESSION, "AddToSnapshotSet", "va{sv}" };
	struct answer answers[ADD_AT_ONCE];
	size_t started = 0;
	int r = 0;

	while (r == 0 && started < n) {
		answers[started] = (struct answer)ANSWER_INIT;
		r = connection_start(b->connection, &target, json_pack("[s{}]", paths[started]), NULL, 0, CALL_USEC,
				     &answers[started], error);
		started += r == 0;
	}
	for (size_t i = 0; i < started; i++) {
		if (r == 0)
			r = connection_finish(b->connection, &answers[i], error);
		if (r == 0)
			json_array_append(members, json_array_get(answers[i].args, 0));
		else if (answers[i].unknown)
			lost(b, error);
		answer_clear(&answers[i]);
	}
	return r;
}

int vss_backup_add_paths(struct vss_backup *b, const char *const *paths, size_t n, json_t **ret_members,
			 struct vss_failure *error)
{
	autojson json_t *members = json_array();

	for (size_t i = 0; i < n; i += ADD_AT_ONCE)
		if (add_some(b, paths + i, n - i < ADD_AT_ONCE ? n - i : ADD_AT_ONCE, members, error) < 0)
			return -1;
	if (ret_members)
		*ret_members = steal_pointer(members);
	return 0;
}

int vss_backup_writer_status(struct vss_backup *b, json_t **ret_rows, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	if (session_call(b, "GatherWriterStatus", "a{sv}", json_pack("[{}]"), CALL_USEC, &answer, error) < 0)
		return -1;
	*ret_rows = json_incref(json_array_get(answer.args, 0));
	return 0;
}

int vss_backup_set_succeeded(struct vss_backup *b, bool succeeded, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	return session_call(b, "SetBackupSucceeded", "ba{sv}", json_pack("[b{}]", succeeded), CALL_USEC, &answer,
			    error);
}

int vss_backup_set_component_succeeded(struct vss_backup *b, const char *writer, const char *component, bool succeeded,
				       struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;
	json_t *args = json_pack("[b{ss?ss?}]", succeeded, "Writer", writer, "Component", component);

	return session_call(b, "SetBackupSucceeded", "ba{sv}", args, CALL_USEC, &answer, error);
}

int vss_backup_abort(struct vss_backup *b, struct vss_failure *error)
{
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	if (session_call(b, "Abort", "a{sv}", json_pack("[{}]"), CLOSE_USEC, &answer, error) < 0)
		return -1;
	b->closed = true;
	return 0;
}

/* ---- long calls ---- */

int vss_backup_gather(struct vss_backup *b, json_t **ret_writers, struct vss_failure *error)
{
	autojson json_t *result = NULL;

	if (operation_run(b, "GatherWriterMetadata", NULL, &result, error) < 0)
		return -1;
	if (!ret_writers)
		return 0;
	return vss_query(b->connection, "ListWriters", NULL, 0, ret_writers, error);
}

int vss_backup_prepare(struct vss_backup *b, struct vss_failure *error)
{
	return operation_run(b, "PrepareForBackup", NULL, NULL, error);
}

int vss_backup_snapshot(struct vss_backup *b, json_t **ret_result, struct vss_failure *error)
{
	if (ret_result)
		*ret_result = NULL;
	if (operation_run(b, "DoSnapshotSet", NULL, ret_result, error) < 0)
		return -1;
	b->created = true;
	return 0;
}

int vss_backup_hold(struct vss_backup *b, json_t **ret_result, struct vss_failure *error)
{
	if (ret_result)
		*ret_result = NULL;
	return operation_run(b, "Hold", NULL, ret_result, error);
}

/* Its end is told over the channel, not here: until then the session is unfinished. */
int vss_backup_hold_over(struct vss_backup *b, int channel, struct vss_failure *error)
{
	struct target target = { b->path, VSS_IFACE_SESSION, "Hold", "a{sv}" };
	cleanup(answer_clear) struct answer answer = ANSWER_INIT;

	b->unfinished = true;
	if (connection_start(b->connection, &target, json_pack("[{s{si}}]", "Channel", "$fd", 0), &channel, 1, CALL_USEC,
			     &answer, error) < 0 ||
	    connection_finish(b->connection, &answer, error) < 0)
		return answer.unknown ? lost(b, error) : -1;
	return 0;
}

int vss_backup_release(struct vss_backup *b, json_t **ret_result, struct vss_failure *error)
{
	if (ret_result)
		*ret_result = NULL;
	return operation_run(b, "Release", NULL, ret_result, error);
}

int vss_backup_pre_restore(struct vss_backup *b, json_t **ret_result, struct vss_failure *error)
{
	if (ret_result)
		*ret_result = NULL;
	return operation_run(b, "PreRestore", NULL, ret_result, error);
}

int vss_backup_post_restore(struct vss_backup *b, bool succeeded, json_t **ret_result, struct vss_failure *error)
{
	autojson json_t *options = json_pack("{sb}", "Succeeded", succeeded);

	if (ret_result)
		*ret_result = NULL;
	return operation_run(b, "PostRestore", options, ret_result, error);
}

int vss_backup_complete(struct vss_backup *b, struct vss_failure *error)
{
	int r = operation_run(b, "BackupComplete", NULL, NULL, error);

	/* A writer that failed here has nothing left to be aborted: the copies are made and read. */
	if (b->created)
		b->unfinished = false;
	return r;
}
