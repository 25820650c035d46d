/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/events.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/redis/checklist.h"
#include "writers/redis/facts.h"
#include "writers/redis/servers.h"

#define POLL_INTERVAL (10 * UINT64_C(1000))
#define PUT_BACK "Stop the server, put the files back into its directory, start it. "

struct hold {
	redisContext *context; /* NULL: it does not run, its files are copied as they are */
	bool paused, stood;    /* stood: a replica's data stood still as well */
	char session[40];
	struct server_facts facts; /* as they were when its writes stood still */
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

/* ---- PrepareSnapshot ---- */

/* By trying, since others than Redis call themselves a version of Redis, too: a pause that is over when it begins.
 * Before 6.2 there were pauses of all commands only, in which nobody could be asked whether the file is written. */
enum vss_result server_check_pause(struct bundled_task *task, redisContext *context, const char *version)
{
	enum vss_result result =
	    server_ask(task, context, "CLIENT PAUSE", command_limit(task), NULL, "CLIENT PAUSE 0 WRITE");

	if (result != VSS_RESULT_OK &&
	    (strstr(task->message, "wrong number of arguments") || strstr(task->message, "yntax error")))
		return bundled_fail(
		    task, VSS_RESULT_NON_RETRYABLE,
		    "The server, version %s, cannot hold its writes alone (CLIENT PAUSE WRITE), as Redis before 6.2. "
		    "Stop it for the copy, or leave this writer out of it",
		    version);
	return result;
}

/* What vssd made the set of is what Identify found; the server may have been told another directory since. */
enum vss_result server_check_files(struct bundled_task *task, redisContext *context)
{
	autojson json_t *files = server_files(task, context, command_limit(task));
	json_t *entry;
	const char *rest;
	size_t i;

	if (!files)
		return VSS_RESULT_RETRYABLE; /* it said why */
	json_array_foreach(files, i, entry) {
		const char *path = json_string_value(json_is_string(entry) ? entry : json_object_get(entry, "Path"));
		if (!bundled_place(task, path, &rest))
			return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
					    "%s, where its files are, is on no volume of the set", path);
	}
	return json_array_size(files) > 0
		   ? VSS_RESULT_OK
		   : bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server's directory cannot be found");
}

static enum vss_result await_save(struct bundled_task *task, const struct hold *hold, bool *ret_good)
{
	struct server_facts facts;

	for (;;) {
		enum vss_result result = facts_ask(task, hold->context, &facts);
		if (result != VSS_RESULT_OK)
			return result;
		*ret_good = !facts.save_failed;
		if (!facts.saving)
			return VSS_RESULT_OK;
		int r = pause_a_moment(task);
		if (r < 0)
			return bundled_fail(task, r == -ETIMEDOUT ? VSS_RESULT_TIMED_OUT : VSS_RESULT_RETRYABLE,
					    "BGSAVE: the server does not end it within PrepareLimit");
	}
}

/* A dump that fails can make a server refuse writes (stop-writes-on-bgsave-error): none is begun that cannot end. */
static enum vss_result check_room(struct bundled_task *task, redisContext *context)
{
	autofree char *directory = server_setting(task, context, command_limit(task), "dir");
	autofree char *file = directory ? server_setting(task, context, command_limit(task), "dbfilename") : NULL;
	char path[PATH_MAX];
	struct statvfs room;
	struct stat dump;

	if (!file)
		return VSS_RESULT_RETRYABLE; /* it said why */
	if (statvfs(directory, &room) < 0)
		return VSS_RESULT_OK; /* not to be seen from here */
	unsigned long long free_space = (unsigned long long)room.f_bavail * room.f_frsize, needed = 0;
	if (snprintf(path, sizeof path, "%s/%s", directory, file) < (int)sizeof path && stat(path, &dump) == 0)
		needed = (unsigned long long)dump.st_size;
	if (free_space > 0 && free_space >= needed)
		return VSS_RESULT_OK;
	return bundled_fail(task, VSS_RESULT_RETRYABLE,
			    "BGSAVE: %s has room for %llu KiB, and the last dump had %llu: make room, or see Save= in "
			    "vss-redis-writer(8)",
			    directory, free_space >> 10, needed >> 10);
}

/* Without an append-only file what is in memory alone would not be in the copy. */
static enum vss_result save(struct bundled_task *task, const struct hold *hold)
{
	bool good;
	enum vss_result result = await_save(task, hold, &good); /* another one that is under way is too old */

	if (result == VSS_RESULT_OK)
		result = check_room(task, hold->context);
	if (result == VSS_RESULT_OK)
		result = server_ask(task, hold->context, "BGSAVE", command_limit(task), NULL, "BGSAVE");
	if (result == VSS_RESULT_OK)
		result = await_save(task, hold, &good);
	if (result == VSS_RESULT_OK && !good)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "BGSAVE: the server failed: is there room in %s? Its log says why",
				    server_directory(task->instance));
	return result;
}

bool server_is_alive(const struct bundled_task *task)
{
	json_t *pid = json_object_get(task->instance, "Pid");
	char path[64];

	snprintf(path, sizeof path, "/proc/%d", (int)json_integer_value(pid));
	return json_is_integer(pid) && access(path, F_OK) == 0;
}

static enum vss_result prepare(struct bundled_task *task, struct hold *hold)
{
	int r;
	enum vss_result result = server_connect(task, task->instance, command_limit(task), &hold->context, &r);

	if (result != VSS_RESULT_OK && r == SERVER_DOWN && !server_is_alive(task)) {
		*task->message = '\0';
		return VSS_RESULT_OK;
	}
	if (result == VSS_RESULT_OK)
		result = facts_ask(task, hold->context, &hold->facts);
	if (result == VSS_RESULT_OK)
		result = facts_judge(task, &hold->facts);
	if (result == VSS_RESULT_OK)
		result = server_check_pause(task, hold->context, hold->facts.version);
	if (result == VSS_RESULT_OK)
		result = server_check_files(task, hold->context);
	if (result == VSS_RESULT_OK && !hold->facts.aof &&
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

/* What was acknowledged is in the file as soon as the server's own buffer is empty and its background fsync is done.
 * What its master sends a replica is held by Redis as well; where a server does not, its file is one of an instant,
 * whose last command may be cut off. */
static enum vss_result await_quiet(struct bundled_task *task, struct hold *hold)
{
	struct server_facts facts;

	for (long long changes = -1;; changes = facts.changes) {
		enum vss_result result = facts_ask(task, hold->context, &facts);
		if (result != VSS_RESULT_OK)
			return result;
		if (strcmp(facts.run_id, hold->facts.run_id) != 0)
			return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was restarted");
		result = facts_judge(task, &facts);
		if (result != VSS_RESULT_OK)
			return result;
		if (!facts.aof || facts.aof_quiet || (facts.replica && changes >= 0 && facts.changes != changes)) {
			hold->facts = facts;
			return VSS_RESULT_OK;
		}
		int r = pause_a_moment(task);
		if (r < 0)
			return bundled_fail(
			    task, r == -ETIMEDOUT ? VSS_RESULT_TIMED_OUT : VSS_RESULT_RETRYABLE,
			    "The append-only file is not written within the limit: how busy is the disk of %s?",
			    server_directory(task->instance));
	}
}

static enum vss_result on_freeze(struct bundled_task *task, struct hold *hold)
{
	uint64_t limit = bundled_setting_span(task->settings, task->name, "PauseLimit");

	if (!hold->context)
		return VSS_RESULT_OK;
	hold->pause_end = clock_now() + limit;
	enum vss_result result = server_ask(task, hold->context, "CLIENT PAUSE", command_limit(task), NULL,
					    "CLIENT PAUSE %llu WRITE", (unsigned long long)(limit / 1000));
	hold->paused = result == VSS_RESULT_OK || hold->context->err; /* without an answer it may come to be */
	return result == VSS_RESULT_OK ? await_quiet(task, hold) : result;
}

/* ---- Thaw ---- */

static json_t *describe(const struct bundled_task *task, const struct hold *hold)
{
	static const char as_is[] = "The server did not run. " PUT_BACK;
	static const char append_only[] =
	    PUT_BACK "It reads the append-only file, which has all that it had acknowledged; "
		     "appendonly must be on, or it reads the dump instead.";
	static const char dump[] =
	    PUT_BACK "It reads the dump, which was saved before the copy (or when Saved says): what was "
		     "written since is not in it.";
	const struct server_facts *facts = &hold->facts;
	json_t *files = json_object_get(task->instance, "Paths");

	if (!hold->context)
		return json_pack("{ss sO ss}", "Way", "offline", "Files", files, "Restore", as_is);
	json_t *document =
	    json_pack("{ss ss ss ss sb sO sI sI ss}", "Way", facts->aof ? "append-only file" : "dump", "Version",
		      facts->version, "Role", facts->replica ? "replica" : "master", "RunId", facts->run_id, "Aof",
		      facts->aof, "Files", files, "Offset", (json_int_t)facts->offset, "Saved",
		      (json_int_t)facts->last_save, "Restore", facts->aof ? append_only : dump);
	if (facts->replica) /* Held: what its master sends was, too */
		json_object_update_new(document, json_pack("{ss sb sb}", "Master", facts->master, "Connected",
							   facts->link_up, "Held", hold->stood));
	return document;
}

static enum vss_result check_held(struct bundled_task *task, struct hold *hold)
{
	struct server_facts facts;
	enum vss_result result = facts_ask(task, hold->context, &facts);

	if (result != VSS_RESULT_OK)
		return result;
	if (strcmp(facts.run_id, hold->facts.run_id) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was restarted while the copies were made");
	if (facts.replica != hold->facts.replica)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server became a %s while the copies were made",
				    facts.replica ? "replica" : "master");
	/* What was saved meanwhile is counted anew. */
	hold->stood = facts.last_save == hold->facts.last_save && facts.changes == hold->facts.changes;
	if (!facts.replica && facts.last_save == hold->facts.last_save && !hold->stood)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "The server wrote while the copies were made: somebody else ended the pause");
	return VSS_RESULT_OK;
}

static enum vss_result let_go(struct bundled_task *task, struct hold *hold)
{
	if (clock_now() >= hold->pause_end)
		return bundled_fail(
		    task, VSS_RESULT_TIMED_OUT,
		    "The pause of the server's writes (PauseLimit=) was over before the copies were made");
	enum vss_result result = check_held(task, hold);
	if (result == VSS_RESULT_OK)
		result = server_ask(task, hold->context, "CLIENT UNPAUSE", command_limit(task), NULL, "CLIENT UNPAUSE");
	if (result == VSS_RESULT_OK)
		hold->paused = false;
	return result;
}

static enum vss_result check_still_off(struct bundled_task *task)
{
	redisContext *context = NULL;
	int r;

	enum vss_result result = server_connect(task, task->instance, command_limit(task), &context, &r);
	if (context)
		redisFree(context);
	if (result != VSS_RESULT_OK && r == SERVER_DOWN && !server_is_alive(task)) {
		*task->message = '\0';
		return VSS_RESULT_OK;
	}
	return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was started while the copies were made");
}

static enum vss_result on_thaw(struct bundled_task *task, struct hold *hold)
{
	enum vss_result result = hold->context ? let_go(task, hold) : check_still_off(task);

	if (result == VSS_RESULT_OK)
		task->document = describe(task, hold);
	if (hold->paused)
		return result; /* Abort, which follows, sees to it */
	hold_free(hold);
	*task->state = NULL;
	return result;
}

/* ---- all ---- */

/* A server that is busy with a script refuses even this, and one that did not answer may do so as soon as it answers again. */
static enum vss_result try_release(struct bundled_task *task, struct hold *hold)
{
	int r;

	if (hold->context->err) { /* another answer is owed on it */
		server_tell(hold->context, "CLIENT UNPAUSE");
		redisFree(steal_pointer(hold->context));
		if (server_connect(task, task->instance, command_limit(task), &hold->context, &r) != VSS_RESULT_OK)
			return VSS_RESULT_NON_RETRYABLE;
	}
	return server_ask(task, hold->context, "CLIENT UNPAUSE", command_limit(task), NULL, "CLIENT UNPAUSE");
}

static void release(struct bundled_task *task, struct hold *hold)
{
	uint64_t end = task->deadline < hold->pause_end ? task->deadline : hold->pause_end;
	enum vss_result result;

	do {
		result = try_release(task, hold);
	} while (result == VSS_RESULT_RETRYABLE && clock_now() < end && pause_a_moment(task) == 0);
	hold->paused = result != VSS_RESULT_OK;
}

static void on_abort(struct bundled_task *task, struct hold *hold)
{
	if (hold && hold->paused)
		release(task, hold);
	*task->message = '\0';
	hold_free(hold);
	*task->state = NULL;
}

enum vss_result server_serve(struct bundled_task *task)
{
	struct hold *hold = *task->state;

	if (task->event == VSS_EVENT_ABORT) {
		on_abort(task, hold);
		return VSS_RESULT_OK;
	}
	if (task->event == VSS_EVENT_PREPARE_BACKUP) {
		if (task->verify)
			checklist(task);
		return VSS_RESULT_OK;
	}
	if (task->event == VSS_EVENT_PREPARE_SNAPSHOT)
		return on_prepare_snapshot(task);
	if (!hold || strcmp(hold->session, task->session) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "It was not prepared for this set");
	return task->event == VSS_EVENT_FREEZE ? on_freeze(task, hold) : on_thaw(task, hold);
}
