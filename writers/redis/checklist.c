/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/checklist.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "writers/redis/events.h"
#include "writers/redis/facts.h"

static void check_data(struct bundled_task *task, redisContext *context, const struct server_facts *facts)
{
	bool saves = strcmp(bundled_setting_text(task->settings, task->name, "Save"), "auto") == 0;
	time_t saved = (time_t)facts->last_save;
	char policy[32] = "", when[64];
	struct tm at;

	if (facts_judge(task, facts) != VSS_RESULT_OK) {
		bundled_check(task, facts->aof_broken ? "append-only file" : "data", VSS_VERDICT_BAD, "%s",
			      task->message);
		return;
	}
	if (facts->aof) {
		char *known = server_setting(
		    task, context, clock_now() + bundled_setting_span(task->settings, task->name, "CommandLimit"),
		    "appendfsync");
		snprintf(policy, sizeof policy, "%s%s", known && *known ? ", fsync " : "", known ?: "");
		free(known);
		bundled_check(task, "append-only file", VSS_VERDICT_OK, "on%s: the copy has all that was acknowledged",
			      policy);
		return;
	}
	if (saves)
		bundled_check(task, "append-only file", VSS_VERDICT_OK, "off: a dump is saved before the copy");
	else if (localtime_r(&saved, &at) && strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &at) > 0)
		bundled_check(task, "append-only file", VSS_VERDICT_OK,
			      "off, and Save=never: the copy has the dump of %s", when);
}

static void check_running(struct bundled_task *task, redisContext *context)
{
	struct server_facts facts;
	char role[256];

	if (facts_ask(task, context, &facts) != VSS_RESULT_OK) {
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", task->message);
		return;
	}
	bundled_check(task, "server", VSS_VERDICT_OK, "answers, version %s", facts.version);
	facts_describe_role(&facts, role, sizeof role);
	bundled_check(task, "role", VSS_VERDICT_OK, "%s", role);
	if (server_check_pause(task, context, facts.version) == VSS_RESULT_OK)
		bundled_check(task, "pausable", VSS_VERDICT_OK, "its writes can be held");
	else
		bundled_check(task, "pausable", VSS_VERDICT_BAD, "%s", task->message);
	check_data(task, context, &facts);
	if (server_check_files(task, context) == VSS_RESULT_OK)
		bundled_check(task, "files", VSS_VERDICT_OK, "in %s, all on volumes of the set",
			      server_directory(task->instance));
	else
		bundled_check(task, "files", VSS_VERDICT_BAD, "%s", task->message);
}

void checklist(struct bundled_task *task)
{
	uint64_t until = clock_now() + bundled_setting_span(task->settings, task->name, "CommandLimit");
	redisContext *context = NULL;
	int r;

	if (server_connect(task, task->instance, until, &context, &r) == VSS_RESULT_OK)
		check_running(task, context);
	else if (r == SERVER_DOWN && !server_is_alive(task))
		bundled_check(task, "server", VSS_VERDICT_OK, "does not run: the files are copied as they are");
	else
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", task->message);
	*task->message = '\0'; /* a rehearsal does not fail */
	if (context)
		redisFree(context);
}
