/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

static const char usage[] =
	"Usage: vss-test-writer [OPTION]...\n"
	"A writer that does what it is told. Prints READY once it is registered; ends on SIGTERM.\n\n"
	"  --name NAME            (Test Writer)\n"
	"  --id UUID              of the kind of writer\n"
	"  --instance UUID        of this instance; with --count of the first one\n"
	"  --level LEVEL          front-end, back-end, system\n"
	"  --path PATH            a directory that its component holds; repeatable\n"
	"  --all-volumes          takes part in every set\n"
	"  --require PATH         a path whose volume must be in the set; repeatable\n"
	"  --freeze-limit MS\n"
	"  --count N              N writers on N connections\n"
	"  --log FILE             a line per event: monotonic microseconds, writer, event, session, set, action\n"
	"  --on EVENT[@K]=ACTION  what to do at an event (of writer K alone); repeatable, the last one holds.\n"
	"                         ok, fail:CODE[:TEXT], hang, exit, kill, stop, late:MS, delay:MS, break, unknown,\n"
	"                         write:NAME (PostSnapshot). CODE: inconsistent, out-of-resources, timed-out,\n"
	"                         retryable, non-retryable. once:ACTION does it the first time only\n";

static const struct {
	const char *name;
	enum vss_result result;
} codes[] = {
	{ "inconsistent", VSS_RESULT_INCONSISTENT_SNAPSHOT }, { "out-of-resources", VSS_RESULT_OUT_OF_RESOURCES },
	{ "timed-out", VSS_RESULT_TIMED_OUT },                { "retryable", VSS_RESULT_RETRYABLE },
	{ "non-retryable", VSS_RESULT_NON_RETRYABLE },
};

static const struct {
	const char *name;
	enum action_kind kind;
	bool takes_time, takes_text;
} kinds[] = {
	{ "ok", ACTION_OK, false, false },       { "hang", ACTION_HANG, false, false },
	{ "exit", ACTION_EXIT, false, false },   { "kill", ACTION_KILL, false, false },
	{ "stop", ACTION_STOP, false, false },   { "late", ACTION_LATE, true, false },
	{ "delay", ACTION_DELAY, true, false },  { "break", ACTION_BREAK, false, false },
	{ "write", ACTION_WRITE, false, true },  { "unknown", ACTION_UNKNOWN, false, false },
};

static bool parse_event(const char *text, size_t n, enum vss_event *ret_event)
{
	for (enum vss_event event = 0; event < EVENTS; event++) {
		if (strlen(vss_event_name(event)) == n && strncmp(text, vss_event_name(event), n) == 0) {
			*ret_event = event;
			return true;
		}
	}
	return false;
}

static bool parse_failure(struct action *action, const char *text)
{
	size_t n = strcspn(text, ":");

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		if (strlen(codes[i].name) != n || strncmp(text, codes[i].name, n) != 0)
			continue;
		action->kind = ACTION_FAIL;
		action->result = codes[i].result;
		action->text = text[n] ? text + n + 1 : NULL;
		return true;
	}
	return false;
}

static bool parse_kind(struct action *action, const char *text)
{
	size_t n = strcspn(text, ":");
	const char *rest = text[n] ? text + n + 1 : NULL;

	if (n == 4 && strncmp(text, "fail", n) == 0)
		return rest && parse_failure(action, rest);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strlen(kinds[i].name) != n || strncmp(text, kinds[i].name, n) != 0)
			continue;
		action->kind = kinds[i].kind;
		action->text = rest;
		action->milliseconds = rest && kinds[i].takes_time ? (unsigned)strtoul(rest, NULL, 10) : 0;
		return (rest != NULL) == (kinds[i].takes_time || kinds[i].takes_text);
	}
	return false;
}

static bool parse_action(struct options *options, const char *text)
{
	struct action action = { 0 };
	const char *equals = strchr(text, '='), *at = strchr(text, '@'), *what;

	if (!equals || options->n_actions == ACTIONS_MAX)
		return false;
	if (at && at < equals)
		action.writer = (unsigned)strtoul(at + 1, NULL, 10);
	else
		at = equals;
	what = equals + 1;
	action.once = strncmp(what, "once:", 5) == 0;
	if (!parse_event(text, (size_t)(at - text), &action.event) || !parse_kind(&action, what + (action.once ? 5 : 0)))
		return false;
	options->actions[options->n_actions++] = action;
	return true;
}

static bool parse_level(struct options *options, const char *text)
{
	static const char *const names[] = { "front-end", "back-end", "system" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], text) == 0) {
			options->level = (enum vss_level)i;
			return true;
		}
	}
	return false;
}

static bool add_path(const char **list, size_t *n, const char *path)
{
	if (*n == PATHS_MAX || *path != '/')
		return false;
	list[(*n)++] = path;
	return true;
}

static bool parse_option(struct options *o, int option, const char *value)
{
	switch (option) {
	case 'n':
		o->name = value;
		return true;
	case 'i':
		o->id = value;
		return true;
	case 'I':
		o->instance = value;
		return true;
	case 'l':
		return parse_level(o, value);
	case 'p':
		return add_path(o->paths, &o->n_paths, value);
	case 'r':
		return add_path(o->requires_paths, &o->n_requires, value);
	case 'a':
		o->all_volumes = true;
		return true;
	case 'f':
		o->freeze_limit = (unsigned)strtoul(value, NULL, 10);
		return true;
	case 'c':
		o->count = (unsigned)strtoul(value, NULL, 10);
		return o->count > 0;
	case 'L':
		o->log = value;
		return true;
	case 'o':
		return parse_action(o, value);
	default:
		return false;
	}
}

int options_parse(struct options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{ "name", required_argument, NULL, 'n' },         { "id", required_argument, NULL, 'i' },
		{ "instance", required_argument, NULL, 'I' },     { "level", required_argument, NULL, 'l' },
		{ "path", required_argument, NULL, 'p' },         { "require", required_argument, NULL, 'r' },
		{ "all-volumes", no_argument, NULL, 'a' },        { "count", required_argument, NULL, 'c' },
		{ "freeze-limit", required_argument, NULL, 'f' }, { "log", required_argument, NULL, 'L' },
		{ "on", required_argument, NULL, 'o' },           { "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	*options = (struct options){ .name = "Test Writer", .id = "7f3d1c52-9a10-4f6e-8f58-5f0d8a2f1b60", .count = 1 };
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option == 'h')
			return printf("%s", usage), 1;
		if (option != '?' && parse_option(options, option, optarg))
			continue;
		if (option != '?')
			fprintf(stderr, "vss-test-writer: \"%s\" is not understood; see --help\n", optarg);
		return -1;
	}
	return 0;
}

const struct action *options_action(const struct options *options, enum vss_event event, unsigned writer)
{
	static const struct action ok = { .kind = ACTION_OK };
	const struct action *found = &ok;

	for (size_t i = 0; i < options->n_actions; i++) {
		const struct action *action = &options->actions[i];
		if (action->event == event && (action->writer == 0 || action->writer == writer))
			found = action;
	}
	return found;
}

bool options_want_unknown(const struct options *options)
{
	for (size_t i = 0; i < options->n_actions; i++)
		if (options->actions[i].kind == ACTION_UNKNOWN)
			return true;
	return false;
}
