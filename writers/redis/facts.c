/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/facts.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"

static bool is_text(const char *info, const char *key, const char *expected)
{
	char text[32];

	return strcmp(info_text(info, key, text, sizeof text), expected) == 0;
}

static void read_replication(const char *info, struct server_facts *facts)
{
	char host[96], port[16];

	facts->replica = !is_text(info, "role", "master");
	facts->replicas = info_number(info, "connected_slaves");
	facts->offset = info_number(info, facts->replica ? "slave_repl_offset" : "master_repl_offset");
	if (!facts->replica)
		return;
	facts->link_up = is_text(info, "master_link_status", "up");
	facts->syncing = info_number(info, "master_sync_in_progress") != 0;
	facts->down_since = info_number(info, "master_link_down_since_seconds");
	text_format(facts->master, sizeof facts->master, "%s:%s", info_text(info, "master_host", host, sizeof host),
		    info_text(info, "master_port", port, sizeof port));
}

static void read_persistence(const char *info, struct server_facts *facts)
{
	facts->aof = info_number(info, "aof_enabled") == 1;
	facts->aof_broken = facts->aof && !is_text(info, "aof_last_write_status", "ok");
	facts->aof_quiet =
	    info_number(info, "aof_buffer_length") == 0 && info_number(info, "aof_pending_bio_fsync") == 0;
	facts->loading = info_number(info, "loading") || info_number(info, "async_loading");
	facts->saving = info_number(info, "rdb_bgsave_in_progress") != 0;
	facts->save_failed = !is_text(info, "rdb_last_bgsave_status", "ok");
	facts->changes = info_number(info, "rdb_changes_since_last_save");
	facts->last_save = info_number(info, "rdb_last_save_time");
}

enum vss_result facts_ask(struct bundled_task *task, redisContext *context, struct server_facts *ret_facts)
{
	uint64_t limit = bundled_setting_span(task->settings, task->name, "CommandLimit");
	redisReply *reply = NULL;
	enum vss_result result = server_ask(task, context, "INFO", clock_now() + limit, &reply, "INFO");

	*ret_facts = (struct server_facts){ 0 };
	if (result != VSS_RESULT_OK)
		return result;
	if (reply->type == REDIS_REPLY_STRING) {
		info_text(reply->str, "redis_version", ret_facts->version, sizeof ret_facts->version);
		info_text(reply->str, "run_id", ret_facts->run_id, sizeof ret_facts->run_id);
		read_persistence(reply->str, ret_facts);
		read_replication(reply->str, ret_facts);
	}
	freeReplyObject(reply);
	if (*ret_facts->version && *ret_facts->run_id)
		return VSS_RESULT_OK;
	return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "INFO: the server does not say what it is");
}

const char *server_directory(const json_t *row)
{
	json_t *first = json_array_get(json_object_get(row, "Paths"), 0);

	return json_string_value(json_is_string(first) ? first : json_object_get(first, "Path")) ?: "its directory";
}

enum vss_result facts_judge(struct bundled_task *task, const struct server_facts *facts)
{
	if (facts->loading)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server is just loading its data");
	if (facts->syncing)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server is a replica that %s is just filling",
				    facts->master);
	if (facts->aof_broken)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "The server cannot write its append-only file, and refuses writes: is there room "
				    "in %s? Its log says why",
				    server_directory(task->instance));
	return VSS_RESULT_OK;
}

void facts_describe_role(const struct server_facts *facts, char *text, size_t size)
{
	if (!facts->replica && facts->replicas > 0)
		text_format(text, size, "master, %lld replica%s", facts->replicas, facts->replicas == 1 ? "" : "s");
	else if (!facts->replica)
		text_format(text, size, "master, without replicas");
	else if (facts->syncing)
		text_format(text, size, "replica of %s, which is just filling it", facts->master);
	else if (facts->link_up)
		text_format(text, size, "replica of %s, connected to it", facts->master);
	else if (facts->down_since >= 0)
		text_format(text, size, "replica of %s, not connected to it for %lld s: as old is what is copied",
			    facts->master, facts->down_since);
	else
		text_format(text, size, "replica of %s, not connected to it yet", facts->master);
}
