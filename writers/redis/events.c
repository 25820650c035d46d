/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/redis/server.h"
#include "writers/redis/servers.h"

#define POLL_INTERVAL (10 * UINT64_C(1000))
#define PUT_BACK                                                                                                         \
	"Stop the server, put the files back into its directory, start it. "

static void free_reply(redisReply **reply)
{
	freeReplyObject(*reply);
}
#define autoreply cleanup(free_reply)

struct hold {
	redisContext *context; /* NULL: it does not run, its files are copied as they are */
	bool aof, replica, paused;
	char session[40], version[32], role[16], run_id[64];
	long long changes, last_save, offset; /* as they were when its writes stood still */
	uint64_t pause_end;
};

void hold_free(void *data)
{
	struct hold *hold = data;

	if (!hold)
		return;
	if (hold->context && hold->paused)
		server_tell(hold->context, "CLIENT UNPAUSE");
	if (hold->context)
		redisFree(hold->context);
	free(hold);
}

static uint64_t command_limit(const struct bundled_task *task)
{
	return clock_now() + bundled_setting_span(task->settings, task->name, "CommandLimit");
}

static int pause_a_moment(const struct bundled_task *task)
{
	int r = bundled_wait(task, -1, 0, clock_now() + POLL_INTERVAL);

	return r < 0 && r != -ETIMEDOUT ? r : bundled_expired(task);
}

static enum vss_result ask_info(struct bundled_task *task, redisContext *context, redisReply **ret_reply)
{
	enum vss_result result = server_ask(task, context, "INFO", command_limit(task), ret_reply, "INFO");

	if (result != VSS_RESULT_OK || (*ret_reply)->type == REDIS_REPLY_STRING)
		return result;
	freeReplyObject(steal_pointer(*ret_reply));
	return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server's answer to INFO is not understood");
}

/* ---- PrepareSnapshot ---- */

static enum vss_result check_server(struct bundled_task *task, struct hold *hold, const char *info)
{
	char text[64];

	info_text(info, "redis_version", hold->version, sizeof hold->version);
	info_text(info, "role", hold->role, sizeof hold->role);
	hold->replica = strcmp(hold->role, "master") != 0;
	hold->aof = info_number(info, "aof_enabled") == 1;
	info_text(info, "run_id", hold->run_id, sizeof hold->run_id);
	if (!*hold->version || !*hold->run_id)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server does not say what it is");
	if (info_number(info, "loading") || info_number(info, "async_loading"))
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server is just loading its data");
	if (hold->aof && strcmp(info_text(info, "aof_last_write_status", text, sizeof text), "ok") != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server cannot write its append-only file");
	return VSS_RESULT_OK;
}

/* By trying, since others than Redis call themselves a version of Redis, too: a pause that is over when it begins. Before 6.2
 * there were pauses of all commands only, in which nobody could be asked whether the file is written. */
static enum vss_result check_pause(struct bundled_task *task, redisContext *context, const char *version)
{
	enum vss_result result = server_ask(task, context, "CLIENT PAUSE", command_limit(task), NULL, "CLIENT PAUSE 0 WRITE");

	if (result != VSS_RESULT_OK && (strstr(task->message, "wrong number of arguments") || strstr(task->message, "yntax error")))
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE,
				    "The server, version %s, cannot hold its writes alone (CLIENT PAUSE WRITE), as Redis before 6.2. "
				    "Stop it for the copy, or leave this writer out of it",
				    version);
	return result;
}

/* What vssd made the set of is what Identify found; the server may have been told another directory since. */
static enum vss_result check_files(struct bundled_task *task, const struct hold *hold)
{
	autojson json_t *files = server_files(task, hold->context, command_limit(task));
	json_t *entry;
	const char *rest;
	size_t i;

	if (!files)
		return VSS_RESULT_RETRYABLE; /* it said why */
	json_array_foreach(files, i, entry) {
		const char *path = json_string_value(json_is_string(entry) ? entry : json_object_get(entry, "Path"));
		if (!bundled_place(task, path, &rest))
			return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT, "%s, where its files are, is on no volume of the set",
					    path);
	}
	return json_array_size(files) > 0 ? VSS_RESULT_OK :
					    bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server's directory cannot be found");
}

static enum vss_result await_save(struct bundled_task *task, const struct hold *hold, bool *ret_good)
{
	char status[16];

	for (;;) {
		autoreply redisReply *info = NULL;
		enum vss_result result = ask_info(task, hold->context, &info);
		if (result != VSS_RESULT_OK)
			return result;
		info_text(info->str, "rdb_last_bgsave_status", status, sizeof status);
		*ret_good = strcmp(status, "ok") == 0;
		if (info_number(info->str, "rdb_bgsave_in_progress") == 0)
			return VSS_RESULT_OK;
		int r = pause_a_moment(task);
		if (r < 0)
			return bundled_fail(task, r == -ETIMEDOUT ? VSS_RESULT_TIMED_OUT : VSS_RESULT_RETRYABLE,
					    "BGSAVE: the server does not end it within PrepareLimit");
	}
}

/* Without an append-only file what is in memory alone would not be in the copy. */
static enum vss_result save(struct bundled_task *task, const struct hold *hold)
{
	bool good;
	enum vss_result result = await_save(task, hold, &good); /* another one that is under way is too old */

	if (result == VSS_RESULT_OK)
		result = server_ask(task, hold->context, "BGSAVE", command_limit(task), NULL, "BGSAVE");
	if (result == VSS_RESULT_OK)
		result = await_save(task, hold, &good);
	if (result == VSS_RESULT_OK && !good)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "BGSAVE: the server failed; its log says why");
	return result;
}

static bool is_alive(const struct bundled_task *task)
{
	json_t *pid = json_object_get(task->instance, "Pid");
	char path[64];

	snprintf(path, sizeof path, "/proc/%d", (int)json_integer_value(pid));
	return json_is_integer(pid) && access(path, F_OK) == 0;
}

static enum vss_result prepare(struct bundled_task *task, struct hold *hold)
{
	autoreply redisReply *info = NULL;
	int r;
	enum vss_result result = server_connect(task, task->instance, command_limit(task), &hold->context, &r);

	if (result != VSS_RESULT_OK && r == SERVER_DOWN && !is_alive(task)) {
		*task->message = '\0';
		return VSS_RESULT_OK;
	}
	if (result == VSS_RESULT_OK)
		result = ask_info(task, hold->context, &info);
	if (result == VSS_RESULT_OK)
		result = check_server(task, hold, info->str);
	if (result == VSS_RESULT_OK)
		result = check_pause(task, hold->context, hold->version);
	if (result == VSS_RESULT_OK)
		result = check_files(task, hold);
	if (result == VSS_RESULT_OK && !hold->aof &&
	    strcmp(bundled_setting_text(task->settings, task->name, "Save"), "auto") == 0)
		result = save(task, hold);
	return result;
}

static enum vss_result on_prepare_snapshot(struct bundled_task *task)
{
	struct hold *hold = calloc(1, sizeof *hold);
	enum vss_result result;

	hold_free(*task->state); /* of a set whose end we did not hear of */
	*task->state = NULL;
	if (!hold)
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	snprintf(hold->session, sizeof hold->session, "%s", task->session);
	result = prepare(task, hold);
	if (result == VSS_RESULT_OK)
		*task->state = hold;
	else
		hold_free(hold);
	return result;
}

/* ---- Freeze ---- */

/* What was acknowledged is in the file as soon as the server's own buffer is empty and its background fsync is done. */
static enum vss_result await_quiet(struct bundled_task *task, struct hold *hold)
{
	char run_id[64];

	for (;;) {
		autoreply redisReply *info = NULL;
		enum vss_result result = ask_info(task, hold->context, &info);
		if (result != VSS_RESULT_OK)
			return result;
		if (strcmp(info_text(info->str, "run_id", run_id, sizeof run_id), hold->run_id) != 0)
			return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was restarted");
		hold->changes = info_number(info->str, "rdb_changes_since_last_save");
		hold->last_save = info_number(info->str, "rdb_last_save_time");
		hold->offset = info_number(info->str, hold->replica ? "slave_repl_offset" : "master_repl_offset");
		/* What a replica's master sends is not held: its file is one of an instant, whose last command may be cut off. */
		if (hold->replica || !hold->aof ||
		    (info_number(info->str, "aof_buffer_length") == 0 && info_number(info->str, "aof_pending_bio_fsync") == 0))
			return VSS_RESULT_OK;
		int r = pause_a_moment(task);
		if (r < 0)
			return bundled_fail(task, r == -ETIMEDOUT ? VSS_RESULT_TIMED_OUT : VSS_RESULT_RETRYABLE,
					    "The append-only file is not written within the limit");
	}
}

static enum vss_result on_freeze(struct bundled_task *task, struct hold *hold)
{
	uint64_t limit = bundled_setting_span(task->settings, task->name, "PauseLimit");

	if (!hold->context)
		return VSS_RESULT_OK;
	hold->pause_end = clock_now() + limit;
	hold->paused = true; /* whatever the answer */
	enum vss_result result = server_ask(task, hold->context, "CLIENT PAUSE", command_limit(task), NULL,
					    "CLIENT PAUSE %llu WRITE", (unsigned long long)(limit / 1000));
	return result == VSS_RESULT_OK ? await_quiet(task, hold) : result;
}

/* ---- Thaw ---- */

static json_t *describe(const struct bundled_task *task, const struct hold *hold)
{
	static const char as_is[] = "The server did not run. " PUT_BACK;
	static const char append_only[] = PUT_BACK "It reads the append-only file, which has all that it had acknowledged; "
						      "appendonly must be on, or it reads the dump instead.";
	static const char dump[] = PUT_BACK "It reads the dump, which was saved before the copy (or when Saved says): what was "
					       "written since is not in it.";
	json_t *files = json_object_get(task->instance, "Paths");

	if (!hold->context)
		return json_pack("{ss sO ss}", "Way", "offline", "Files", files, "Restore", as_is);
	return json_pack("{ss ss ss ss sb sO sI sI ss}", "Way", hold->aof ? "append-only file" : "dump", "Version", hold->version,
			 "Role", hold->role, "RunId", hold->run_id, "Aof", hold->aof, "Files", files, "Offset",
			 (json_int_t)hold->offset, "Saved", (json_int_t)hold->last_save, "Restore", hold->aof ? append_only : dump);
}

static enum vss_result check_held(struct bundled_task *task, const struct hold *hold, const char *info)
{
	char run_id[64];

	if (strcmp(info_text(info, "run_id", run_id, sizeof run_id), hold->run_id) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was restarted while the copies were made");
	if (!hold->replica && info_number(info, "rdb_last_save_time") == hold->last_save &&
	    info_number(info, "rdb_changes_since_last_save") != hold->changes)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "The server wrote while the copies were made: somebody else ended the pause");
	return VSS_RESULT_OK;
}

static enum vss_result let_go(struct bundled_task *task, struct hold *hold)
{
	autoreply redisReply *info = NULL;

	if (clock_now() >= hold->pause_end)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT,
				    "The pause of the server's writes (PauseLimit=) was over before the copies were made");
	enum vss_result result = ask_info(task, hold->context, &info);
	if (result == VSS_RESULT_OK)
		result = check_held(task, hold, info->str);
	if (result == VSS_RESULT_OK)
		result = server_ask(task, hold->context, "CLIENT UNPAUSE", command_limit(task), NULL, "CLIENT UNPAUSE");
	if (result == VSS_RESULT_OK)
		hold->paused = false;
	return result;
}

static enum vss_result on_thaw(struct bundled_task *task, struct hold *hold)
{
	enum vss_result result = hold->context ? let_go(task, hold) : VSS_RESULT_OK;

	if (result == VSS_RESULT_OK)
		task->document = describe(task, hold);
	hold_free(hold);
	*task->state = NULL;
	return result;
}

/* ---- all ---- */

static void rehearse(struct bundled_task *task)
{
	redisContext *context = NULL;
	autoreply redisReply *info = NULL;
	struct hold hold = { 0 };
	int r;
	enum vss_result result = server_connect(task, task->instance, command_limit(task), &context, &r);

	if (result == VSS_RESULT_OK)
		result = ask_info(task, context, &info);
	if (result == VSS_RESULT_OK)
		result = check_server(task, &hold, info->str);
	if (result == VSS_RESULT_OK)
		bundled_check(task, "server", VSS_VERDICT_OK, "answers, version %s, %s", hold.version,
			      hold.aof ? "with an append-only file" : "dumps alone");
	else if (r == SERVER_DOWN && !is_alive(task))
		bundled_check(task, "server", VSS_VERDICT_OK, "does not run: the files are copied as they are");
	else
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", task->message);
	*task->message = '\0'; /* a rehearsal does not fail */
	if (context)
		redisFree(context);
}

enum vss_result server_serve(struct bundled_task *task)
{
	struct hold *hold = *task->state;

	if (task->event == VSS_EVENT_ABORT) {
		hold_free(hold);
		*task->state = NULL;
		return VSS_RESULT_OK;
	}
	if (task->event == VSS_EVENT_PREPARE_BACKUP) {
		if (task->verify)
			rehearse(task);
		return VSS_RESULT_OK;
	}
	if (task->event == VSS_EVENT_PREPARE_SNAPSHOT)
		return on_prepare_snapshot(task);
	if (!hold || strcmp(hold->session, task->session) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "It was not prepared for this set");
	return task->event == VSS_EVENT_FREEZE ? on_freeze(task, hold) : on_thaw(task, hold);
}
