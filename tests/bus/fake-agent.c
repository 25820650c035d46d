/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake-agent.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define RULES_MAX 16
#define COMMANDS_MAX 32
#define FILESYSTEMS 2

struct rule {
	char command[40];
	enum misbehaviour how;
	unsigned milliseconds, times;
	bool for_ever;
	char *answer;
};

struct seen {
	char command[40];
	unsigned count;
	char *arguments;
};

struct fake_agent {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t released;
	int listener, client, end;
	bool stopping, stalls, release;
	int frozen; /* filesystems */
	struct rule rules[RULES_MAX];
	size_t n_rules;
	struct seen seen[COMMANDS_MAX];
	size_t n_seen;
	char path[108];
};

/* ---- what the test says ---- */

void fake_agent_on(struct fake_agent *agent, const char *command, enum misbehaviour how, unsigned milliseconds,
		   unsigned times)
{
	pthread_mutex_lock(&agent->lock);
	struct rule *rule = NULL;
	for (size_t i = 0; i < agent->n_rules; i++)
		if (strcmp(agent->rules[i].command, command) == 0)
			rule = &agent->rules[i];
	if (!rule && agent->n_rules < RULES_MAX)
		rule = &agent->rules[agent->n_rules++];
	if (rule) {
		snprintf(rule->command, sizeof rule->command, "%s", command);
		rule->how = how;
		rule->milliseconds = milliseconds;
		rule->times = times;
		rule->for_ever = times == 0;
	}
	pthread_mutex_unlock(&agent->lock);
}

void fake_agent_say(struct fake_agent *agent, const char *command, const char *json)
{
	fake_agent_on(agent, command, BEHAVE, 0, 0);
	pthread_mutex_lock(&agent->lock);
	for (size_t i = 0; i < agent->n_rules; i++) {
		if (strcmp(agent->rules[i].command, command) != 0)
			continue;
		free(agent->rules[i].answer);
		agent->rules[i].answer = strdup(json);
	}
	pthread_mutex_unlock(&agent->lock);
}

void fake_agent_release(struct fake_agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	agent->release = true;
	pthread_cond_broadcast(&agent->released);
	pthread_mutex_unlock(&agent->lock);
}

bool fake_agent_stalls(struct fake_agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	bool stalls = agent->stalls;
	pthread_mutex_unlock(&agent->lock);
	return stalls;
}

bool fake_agent_is_frozen(struct fake_agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	bool frozen = agent->frozen > 0;
	pthread_mutex_unlock(&agent->lock);
	return frozen;
}

static void set_frozen(struct fake_agent *agent, int filesystems)
{
	pthread_mutex_lock(&agent->lock);
	agent->frozen = filesystems;
	pthread_mutex_unlock(&agent->lock);
}

void fake_agent_set_frozen(struct fake_agent *agent, bool frozen)
{
	set_frozen(agent, frozen ? FILESYSTEMS : 0);
}

void fake_agent_thaw_one(struct fake_agent *agent)
{
	set_frozen(agent, FILESYSTEMS - 1);
}

static struct seen *find_seen(struct fake_agent *agent, const char *command)
{
	for (size_t i = 0; i < agent->n_seen; i++)
		if (strcmp(agent->seen[i].command, command) == 0)
			return &agent->seen[i];
	if (agent->n_seen == COMMANDS_MAX)
		return NULL;
	struct seen *seen = &agent->seen[agent->n_seen++];
	snprintf(seen->command, sizeof seen->command, "%s", command);
	return seen;
}

unsigned fake_agent_count(struct fake_agent *agent, const char *command)
{
	pthread_mutex_lock(&agent->lock);
	struct seen *seen = find_seen(agent, command);
	unsigned count = seen ? seen->count : 0;
	pthread_mutex_unlock(&agent->lock);
	return count;
}

const char *fake_agent_arguments(struct fake_agent *agent, const char *command)
{
	pthread_mutex_lock(&agent->lock);
	struct seen *seen = find_seen(agent, command);
	const char *text = seen && seen->arguments ? seen->arguments : "";
	pthread_mutex_unlock(&agent->lock);
	return text;
}

/* ---- sending ---- */

static void put(struct fake_agent *agent, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(agent->client, bytes, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		bytes += sent;
		n -= (size_t)sent;
	}
}

static void put_text(struct fake_agent *agent, const char *text)
{
	put(agent, text, strlen(text));
}

static void put_huge(struct fake_agent *agent)
{
	static const char block[1024] = { [0 ... 1023] = 'x' };

	for (int i = 0; i < 2048; i++)
		put(agent, block, sizeof block);
}

static void put_flood(struct fake_agent *agent)
{
	while (!agent->stopping && send(agent->client, "{\"noise\": 1}\n", 13, MSG_NOSIGNAL) > 0)
		;
}

/* ---- executing ---- */

static json_t *execute(struct fake_agent *agent, const char *command, json_t *arguments)
{
	int before = agent->frozen;

	if (strcmp(command, "guest-sync-delimited") == 0)
		return json_incref(json_object_get(arguments, "id"));
	if (strcmp(command, "guest-fsfreeze-status") == 0)
		return json_string(agent->frozen > 0 ? "frozen" : "thawed");
	if (strcmp(command, "guest-fsfreeze-freeze") == 0 || strcmp(command, "guest-fsfreeze-freeze-list") == 0) {
		agent->frozen = FILESYSTEMS;
		return json_integer(FILESYSTEMS);
	}
	if (strcmp(command, "guest-fsfreeze-thaw") == 0) {
		agent->frozen = 0;
		return json_integer(before);
	}
	if (strcmp(command, "guest-info") == 0)
		return json_pack("{ss s[{ss sb} {ss sb} {ss sb}]}", "version", "7.2.0", "supported_commands", "name",
				 "guest-fsfreeze-freeze", "enabled", 1, "name", "guest-fsfreeze-freeze-list", "enabled", 1,
				 "name", "guest-exec", "enabled", 0);
	if (strcmp(command, "guest-get-fsinfo") == 0)
		return json_pack("[{ss ss sI sI} {ss ss sI sI}]", "mountpoint", "/", "type", "ext4", "used-bytes",
				 (json_int_t)500 << 20, "total-bytes", (json_int_t)1000 << 20, "mountpoint", "/boot/efi",
				 "type", "vfat", "used-bytes", (json_int_t)1, "total-bytes", (json_int_t)100 << 20);
	return NULL;
}

/* value: what a well-behaved one would answer. The caller's own. */
static json_t *twist(const struct rule *rule, json_t *value)
{
	if (rule->how == WRONG_ID)
		return json_integer(json_integer_value(value) + 1);
	if (rule->how == NONSENSE)
		return json_pack("{s[]}", "x");
	if (rule->answer && rule->how == BEHAVE)
		return json_loads(rule->answer, JSON_DECODE_ANY, NULL);
	return json_incref(value);
}

static void answer(struct fake_agent *agent, const struct rule *rule, const char *command, json_t *usual)
{
	bool sync = strcmp(command, "guest-sync-delimited") == 0;
	autojson json_t *whole = NULL, *value = twist(rule, usual);

	if (rule->how == NOT_KNOWN || !value)
		whole = json_pack("{s{ss ss}}", "error", "class", "CommandNotFound", "desc",
				  "The command has been disabled for this instance");
	else if (rule->how == FAIL)
		whole = json_pack("{s{ss ss}}", "error", "class", "GenericError", "desc", "failed to freeze /srv");
	else
		whole = json_pack("{sO}", "return", value);
	autofree char *text = json_dumps(whole, 0);
	size_t n = strlen(text);
	if (sync)
		put(agent, "\xFF", 1);
	put(agent, text, rule->how == HALF ? n / 2 : n);
	if (rule->how != HALF)
		put_text(agent, "\n");
}

static void stall(struct fake_agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	agent->stalls = true;
	agent->release = false;
	while (!agent->release && !agent->stopping)
		pthread_cond_wait(&agent->released, &agent->lock);
	agent->stalls = false;
	pthread_mutex_unlock(&agent->lock);
}

static struct rule rule_for(struct fake_agent *agent, const char *command)
{
	struct rule found = { .how = BEHAVE };

	pthread_mutex_lock(&agent->lock);
	for (size_t i = 0; i < agent->n_rules; i++) {
		struct rule *rule = &agent->rules[i];
		if (strcmp(rule->command, command) != 0 || (!rule->for_ever && rule->times == 0))
			continue;
		found = *rule;
		rule->times -= !rule->for_ever;
	}
	pthread_mutex_unlock(&agent->lock);
	return found;
}

static void note(struct fake_agent *agent, const char *command, json_t *arguments)
{
	struct seen *seen = find_seen(agent, command);

	if (!seen)
		return;
	seen->count++;
	free(seen->arguments);
	seen->arguments = arguments ? json_dumps(arguments, JSON_COMPACT) : NULL;
}

/* False: it hangs up. */
static bool carry_out(struct fake_agent *agent, json_t *request)
{
	const char *command = json_string_value(json_object_get(request, "execute")) ?: "";
	json_t *arguments = json_object_get(request, "arguments");
	const struct rule rule = rule_for(agent, command);

	if (rule.how == STALL)
		stall(agent);
	if (rule.how == BE_SLOW)
		usleep(rule.milliseconds * 1000);
	bool executes = rule.how != FAIL && rule.how != NOT_KNOWN && !agent->stopping;
	pthread_mutex_lock(&agent->lock);
	note(agent, command, arguments);
	autojson json_t *value = executes ? execute(agent, command, arguments) : json_null();
	pthread_mutex_unlock(&agent->lock);
	switch (rule.how) {
	case STAY_QUIET:
		return true;
	case GARBAGE:
		put_text(agent, "this is no JSON\n");
		return true;
	case HUGE_LINE:
		put_huge(agent);
		return true;
	case FLOOD:
		put_flood(agent);
		return true;
	case HANG_UP:
		return false;
	case BEHAVE:
	case BE_SLOW:
	case STALL:
	case FAIL:
	case NOT_KNOWN:
	case HALF:
	case WRONG_ID:
	case NONSENSE:
		break;
	}
	answer(agent, &rule, command, value);
	return true;
}

/* ---- serving ---- */

static bool readable(struct fake_agent *agent, int fd)
{
	struct pollfd polled[] = { { fd, POLLIN, 0 }, { agent->end, POLLIN, 0 } };

	return poll(polled, 2, -1) > 0 && !polled[1].revents;
}

static bool take_lines(struct fake_agent *agent, char *buffer, size_t *used)
{
	char *end;

	while ((end = memchr(buffer, '\n', *used))) {
		size_t n = (size_t)(end - buffer) + 1;
		const char *from = memrchr(buffer, 0xFF, n);
		size_t skip = from ? (size_t)(from - buffer) + 1 : 0;
		autojson json_t *request = json_loadb(buffer + skip, n - skip, 0, NULL);
		memmove(buffer, buffer + n, *used - n);
		*used -= n;
		json_t *arguments = json_object_get(request, "arguments");
		if (!request || (arguments && !json_is_object(arguments)))
			put_text(agent, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON syntax\"}}\n");
		else if (!carry_out(agent, request))
			return false;
	}
	return true;
}

static void serve(struct fake_agent *agent)
{
	char buffer[65536];
	size_t used = 0;

	while (readable(agent, agent->client)) {
		ssize_t n = recv(agent->client, buffer + used, sizeof buffer - used, 0);
		if (n <= 0)
			return;
		used += (size_t)n;
		if (!take_lines(agent, buffer, &used) || used == sizeof buffer)
			return;
	}
}

static void *run(void *data)
{
	struct fake_agent *agent = data;

	while (readable(agent, agent->listener)) {
		agent->client = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC);
		if (agent->client < 0)
			continue;
		serve(agent);
		close(agent->client);
	}
	return NULL;
}

struct fake_agent *fake_agent_start(const char *socket_path)
{
	struct fake_agent *agent = calloc(1, sizeof *agent);
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	*agent = (struct fake_agent){ .lock = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER };
	snprintf(agent->path, sizeof agent->path, "%s", socket_path);
	snprintf(name.sun_path, sizeof name.sun_path, "%s", socket_path);
	agent->end = eventfd(0, EFD_CLOEXEC);
	agent->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(socket_path);
	if (bind(agent->listener, (struct sockaddr *)&name, sizeof name) < 0 || listen(agent->listener, 1) < 0 ||
	    pthread_create(&agent->thread, NULL, run, agent) != 0)
		abort();
	return agent;
}

struct fake_agent *fake_agent_stop(struct fake_agent *agent)
{
	if (!agent)
		return NULL;
	pthread_mutex_lock(&agent->lock);
	agent->stopping = true;
	pthread_cond_broadcast(&agent->released);
	pthread_mutex_unlock(&agent->lock);
	(void)!write(agent->end, &(uint64_t){ 1 }, sizeof(uint64_t));
	shutdown(agent->listener, SHUT_RDWR);
	pthread_join(agent->thread, NULL);
	unlink(agent->path);
	close(agent->listener);
	close(agent->end);
	for (size_t i = 0; i < agent->n_seen; i++)
		free(agent->seen[i].arguments);
	for (size_t i = 0; i < agent->n_rules; i++)
		free(agent->rules[i].answer);
	free(agent);
	return NULL;
}
