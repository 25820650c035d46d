/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/agent.h"

#include <string.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "common/text.h"

void agent_init(struct agent *agent)
{
	*agent = (struct agent){ 0 };
	channel_init(&agent->channel);
}

void agent_close(struct agent *agent)
{
	channel_close(&agent->channel);
	agent->in_step = false;
}

bool agent_is_open(const struct agent *agent)
{
	return agent->channel.fd >= 0;
}

static enum agent_result say(struct agent *agent, enum agent_result result, const char *command, const char *why)
{
	text_format(agent->why, sizeof agent->why, "%s%s%.300s", command, *command ? ": " : "", why);
	return result;
}

/* Whatever breaks the conversation: the answers to come are of no command any more. */
static enum agent_result broken(struct agent *agent, enum channel_result result, const char *command)
{
	agent->in_step = false;
	switch (result) {
	case CHANNEL_ABSENT:
		return say(agent, AGENT_ABSENT, "", agent->channel.why);
	case CHANNEL_SILENT:
		return say(agent, AGENT_SILENT, command, agent->channel.why);
	case CHANNEL_CANCELLED:
		return say(agent, AGENT_CANCELLED, command, agent->channel.why);
	case CHANNEL_OK:
	case CHANNEL_GONE:
	case CHANNEL_GARBLED:
	case CHANNEL_FAILED:
		break;
	}
	say(agent, AGENT_LOST, command, agent->channel.why);
	channel_close(&agent->channel);
	return AGENT_LOST;
}

static enum channel_result send_command(struct agent *agent, const char *command, json_t *arguments, bool reset,
					const struct patience *patience)
{
	autojson json_t *request = json_pack("{ss sO*}", "execute", command, "arguments", arguments);
	autofree char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	autofree char *line = NULL;
	int n = text ? asprintf(&line, "%s%s\n", reset ? "\xFF" : "", text) : -1;

	if (n < 0)
		return CHANNEL_FAILED;
	return channel_send(&agent->channel, line, (size_t)n, patience);
}

/* ---- in step ---- */

static json_int_t new_id(void)
{
	unsigned id = 0;

	(void)!getrandom(&id, sizeof id, 0);
	return (json_int_t)(id & 0x7FFFFFFF);
}

/* Answers to earlier synchronisations, of ours or of those who had the agent before, begin with a sentinel as well. */
static enum channel_result await_id(struct agent *agent, json_int_t id, const struct patience *patience)
{
	for (;;) {
		enum channel_result result = channel_skip_to_sentinel(&agent->channel, patience);
		char *line;
		if (result == CHANNEL_OK)
			result = channel_line(&agent->channel, &line, patience);
		if (result != CHANNEL_OK)
			return result;
		autojson json_t *answer = json_loads(line, 0, NULL);
		json_t *value = json_object_get(answer, "return"), *error = json_object_get(answer, "error");
		if (json_is_integer(value) && json_integer_value(value) == id)
			return CHANNEL_OK;
		/* An agent's error has no sentinel; this one is libvirt's, which has asked for us. */
		if (error) {
			text_format(agent->channel.why, sizeof agent->channel.why, "%s",
				    json_string_value(json_object_get(error, "desc")) ?: "libvirt cannot reach it");
			return CHANNEL_SILENT;
		}
	}
}

static enum agent_result synchronise(struct agent *agent, const struct patience *patience)
{
	static const char command[] = "guest-sync-delimited";
	json_int_t id = new_id();
	autojson json_t *arguments = json_pack("{sI}", "id", id);
	/* The sentinel in front ends whatever half a command is still in the agent's parser. */
	enum channel_result result = send_command(agent, command, arguments, true, patience);

	if (result == CHANNEL_OK)
		result = await_id(agent, id, patience);
	if (result != CHANNEL_OK)
		return broken(agent, result, command);
	agent->in_step = true;
	return AGENT_OK;
}

enum agent_result agent_open(struct agent *agent, const char *address, const struct patience *patience)
{
	agent->in_step = false;
	enum channel_result result = channel_open(&agent->channel, address, patience);

	return result == CHANNEL_OK ? synchronise(agent, patience) : broken(agent, result, "");
}

/* ---- commands ---- */

static enum agent_result refused(struct agent *agent, const char *command, json_t *error)
{
	const char *class = json_string_value(json_object_get(error, "class")) ?: "";
	const char *words = json_string_value(json_object_get(error, "desc")) ?: "it says no more than that it failed";

	/* Libvirt's word, not the agent's: what was asked may still happen. */
	if (strcmp(class, "AgentUnresponsive") == 0) {
		agent->in_step = false;
		return say(agent, AGENT_SILENT, command, words);
	}
	return say(agent, strcmp(class, "CommandNotFound") == 0 ? AGENT_UNSUPPORTED : AGENT_REFUSED, command, words);
}

static enum agent_result await_answer(struct agent *agent, const char *command, json_t **ret,
				      const struct patience *patience)
{
	autojson json_t *answer = NULL;
	enum channel_result result = channel_json(&agent->channel, &answer, patience);

	if (result != CHANNEL_OK)
		return broken(agent, result, command);
	json_t *error = json_object_get(answer, "error"), *value = json_object_get(answer, "return");
	if (error)
		return refused(agent, command, error);
	if (!value) {
		text_format(agent->channel.why, sizeof agent->channel.why, "its answer is none");
		return broken(agent, CHANNEL_GARBLED, command);
	}
	if (ret)
		*ret = json_incref(value);
	return AGENT_OK;
}

enum agent_result agent_call(struct agent *agent, const char *command, json_t *arguments, json_t **ret,
			     const struct patience *patience)
{
	if (!agent_is_open(agent))
		return say(agent, AGENT_LOST, command, "the connection is gone");
	if (!agent->in_step) {
		enum agent_result synchronised = synchronise(agent, patience);
		if (synchronised != AGENT_OK)
			return synchronised;
	}
	enum channel_result result = send_command(agent, command, arguments, false, patience);
	return result == CHANNEL_OK ? await_answer(agent, command, ret, patience) : broken(agent, result, command);
}

/* The type is wrong: nothing that this agent says can be relied upon. */
static enum agent_result nonsense(struct agent *agent, const char *command)
{
	text_format(agent->channel.why, sizeof agent->channel.why, "its answer makes no sense");
	return broken(agent, CHANNEL_GARBLED, command);
}

enum agent_result agent_freeze_status(struct agent *agent, enum guest_freeze *ret, const struct patience *patience)
{
	static const char command[] = "guest-fsfreeze-status";
	autojson json_t *value = NULL;
	enum agent_result result = agent_call(agent, command, NULL, &value, patience);
	const char *text = json_string_value(value) ?: "";

	if (result != AGENT_OK)
		return result;
	*ret = strcmp(text, "frozen") == 0 ? GUEST_FREEZE_FROZEN : GUEST_FREEZE_THAWED;
	if (*ret == GUEST_FREEZE_FROZEN || strcmp(text, "thawed") == 0)
		return AGENT_OK;
	return nonsense(agent, command);
}

enum agent_result agent_count(struct agent *agent, const char *command, json_t *arguments, json_int_t *ret,
			      const struct patience *patience)
{
	autojson json_t *value = NULL;
	enum agent_result result = agent_call(agent, command, arguments, &value, patience);

	if (result != AGENT_OK)
		return result;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return nonsense(agent, command);
	*ret = json_integer_value(value);
	return AGENT_OK;
}
