/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line, by a table: "--name VALUE", "--name=VALUE", "-x", and vssadmin's "/Name=VALUE", whose names may be
 * in any case. A word that begins with a slash is an option only where the verb has one of that name; every other is
 * a path. */
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "requestor/vssctl/vssctl.h"

enum option_kind { KIND_FLAG, KIND_TEXT, KIND_LIST, KIND_NUMBER, KIND_MINUTES };

struct option_spec {
	const char *name;
	char letter;
	enum option_kind kind;
	size_t offset, given;		/* given: a bool that remembers that it was; 0 for none */
	const char *argument, *choices; /* choices: "a|b", or NULL for anything */
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct option_spec specs[OPTION_COUNT] = {
	[OPTION_ADD_MISSING] = { "add-missing", 0, KIND_FLAG, AT(add_missing), 0, NULL, NULL,
				 "add the volumes that participating writers need too" },
	[OPTION_ALL] = { "all", 0, KIND_FLAG, AT(all), 0, NULL, NULL, "all of them" },
	[OPTION_AUTORETRY] = { "autoretry", 0, KIND_MINUTES, AT(wait_seconds), AT(wait_given), "MINUTES", NULL,
			       "vssadmin's spelling of --wait, in minutes" },
	[OPTION_EXCLUDE_WRITER] = { "exclude-writer", 0, KIND_LIST, AT(exclude_writers), 0, "WRITER", NULL,
				    "leave this writer out (name, id or instance id)" },
	[OPTION_FOR] = { "for", 0, KIND_LIST, AT(for_paths), 0, "PATH", NULL,
			 "the volume that holds PATH; repeatable" },
	[OPTION_FORCE] = { "force", 0, KIND_FLAG, AT(force), 0, NULL, NULL,
			   "revert though a writer does not let go of its files" },
	[OPTION_GUARANTEED] = { "guaranteed", 0, KIND_FLAG, AT(guaranteed), 0, NULL, NULL,
				"each copy's store as large as the volume, so that it cannot overflow" },
	[OPTION_HELP] = { "help", 'h', KIND_FLAG, AT(help), 0, NULL, NULL, "this text" },
	[OPTION_INCLUDE_WRITER] = { "include-writer", 0, KIND_LIST, AT(include_writers), 0, "WRITER", NULL,
				    "let this writer take part though none of its data is concerned" },
	[OPTION_JSON] = { "json", 0, KIND_FLAG, AT(json), 0, NULL, NULL, "print JSON (vssctl.schema.json)" },
	[OPTION_MAXSIZE] = { "maxsize", 0, KIND_TEXT, AT(max_size), 0, "SIZE", NULL,
			     "10GB, 15%, UNBOUNDED, or bytes" },
	[OPTION_LIMIT] = { "limit", 0, KIND_NUMBER, AT(limit_seconds), AT(limit_given), "SECONDS", NULL,
			   "let go by itself after so long (at most, and by default, what the writers bear)" },
	[OPTION_NAME] = { "name", 0, KIND_TEXT, AT(name), 0, "NAME", NULL,
			  "who holds: freeze and thaw of one name belong together (default: hook)" },
	[OPTION_OLDEST] = { "oldest", 0, KIND_FLAG, AT(oldest), 0, NULL, NULL, "only the oldest one" },
	[OPTION_ON] = { "on", 0, KIND_TEXT, AT(on), 0, "STORAGE", NULL,
			"where copies are kept: a volume group, physical volume, pool or volume" },
	[OPTION_ON_WRITER_FAILURE] = { "on-writer-failure", 0, KIND_TEXT, AT(on_writer_failure), 0, "fail|degrade",
				       "fail|degrade", "what a failing writer does to the set (default: fail)" },
	[OPTION_PERSISTENT] = { "persistent", 0, KIND_FLAG, AT(persistent), 0, NULL, NULL,
				"keep the copies until they are deleted (always so here)" },
	[OPTION_PROBE] = { "probe", 0, KIND_FLAG, AT(probe), 0, NULL, NULL,
			   "ask every writer first, 2 seconds at most" },
	[OPTION_QUIET] = { "quiet", 'y', KIND_FLAG, AT(quiet), 0, NULL, NULL, "do not ask" },
	[OPTION_RECURSIVE] = { "recursive", 'r', KIND_FLAG, AT(recursive), 0, NULL, NULL,
			       "volumes below the named ones are members too" },
	[OPTION_REQUIRE_WRITER] = { "require-writer", 0, KIND_LIST, AT(require_writers), 0, "WRITER", NULL,
				    "fail unless this writer takes part" },
	[OPTION_RETRIES] = { "retries", 0, KIND_NUMBER, AT(retries), AT(retries_given), "N", NULL,
			     "repeat a set whose failures are all retryable (default: 0)" },
	[OPTION_ROOT] = { "root", 0, KIND_TEXT, AT(root), 0, "DIRECTORY", NULL,
			  "an existing directory on which COMMAND sees the copies" },
	[OPTION_RUNTIME_DIR] = { "runtime-dir", 0, KIND_TEXT, AT(runtime_directory), 0, "DIRECTORY", NULL,
				 "where what is held is noted (default: /run/vss-hook)" },
	[OPTION_SESSION] = { "session", 0, KIND_TEXT, AT(session), 0, "ID", NULL, "the session" },
	[OPTION_SET] = { "set", 0, KIND_TEXT, AT(set), 0, "ID", NULL, "the copies of this set" },
	[OPTION_SHADOW] = { "shadow", 0, KIND_TEXT, AT(shadow), 0, "ID", NULL, "this shadow copy" },
	[OPTION_TIMEOUT] = { "timeout", 0, KIND_NUMBER, AT(timeout_seconds), AT(timeout_given), "SECONDS", NULL,
			     "fail when this is not done after so long (default: 60)" },
	[OPTION_TYPE] = { "type", 0, KIND_TEXT, AT(type), 0, "TYPE", "copy|full|incremental|differential|log|other",
			  "backup type told to the writers (default: copy)" },
	[OPTION_VERBOSE] = { "verbose", 'v', KIND_FLAG, AT(verbose), 0, NULL, NULL, "tell more" },
	[OPTION_WAIT] = { "wait", 0, KIND_NUMBER, AT(wait_seconds), AT(wait_given), "SECONDS", NULL,
			  "how long to queue behind other sets (default: 60; 0: not at all)" },
};

static int refuse(char why[256], const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(char why[256], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, 256, format, args);
	va_end(args);
	return -1;
}

static int words_add(struct words *words, const char *word)
{
	const char **grown = reallocarray(words->items, words->n + 1, sizeof *grown);

	if (!grown)
		return -1;
	words->items = grown;
	words->items[words->n++] = word;
	return 0;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t n = strlen(value);

	for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
		if (strncasecmp(c, value, n) == 0 && (c[n] == '|' || c[n] == '\0'))
			return n > 0;
	return false;
}

static int parse_number(const struct option_spec *spec, const char *value, unsigned *ret, char why[256])
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);
	unsigned factor = spec->kind == KIND_MINUTES ? 60 : 1;

	if (*value < '0' || *value > '9' || *end || number > 1000000)
		return refuse(why, "--%s takes a number, not \"%.100s\"", spec->name, value);
	*ret = (unsigned)number * factor;
	return 0;
}

static int store(struct options *options, const struct option_spec *spec, const char *value, char why[256])
{
	void *field = (char *)options + spec->offset;

	if (spec->choices && !is_choice(spec->choices, value))
		return refuse(why, "--%s takes %s, not \"%.100s\"", spec->name, spec->choices, value);
	if (spec->given)
		*(bool *)((char *)options + spec->given) = true;
	switch (spec->kind) {
	case KIND_FLAG:
		*(bool *)field = true;
		return 0;
	case KIND_TEXT:
		if (*(const char **)field)
			return refuse(why, "--%s is given twice", spec->name);
		*(const char **)field = value;
		return 0;
	case KIND_LIST:
		return *value ? words_add(field, value) : refuse(why, "--%s is empty", spec->name);
	case KIND_NUMBER:
	case KIND_MINUTES:
		return parse_number(spec, value, field, why);
	}
	return -1;
}

static const struct option_spec *find_name(uint64_t ids, const char *name, size_t n, bool any_case)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		const char *candidate = specs[i].name;
		if ((ids & UINT64_C(1) << i) == 0 || strlen(candidate) != n)
			continue;
		if (any_case ? strncasecmp(candidate, name, n) == 0 : strncmp(candidate, name, n) == 0)
			return &specs[i];
	}
	return NULL;
}

static const struct option_spec *find_letter(uint64_t ids, char letter)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if ((ids & UINT64_C(1) << i) != 0 && specs[i].letter == letter)
			return &specs[i];
	return NULL;
}

/* One option with its value; *ret_used is 2 if the value is the next word. */
static int take(struct options *options, const struct option_spec *spec, const char *value, const char *next,
		int *ret_used, char why[256])
{
	*ret_used = 1;
	if (spec->kind == KIND_FLAG)
		return value ? refuse(why, "--%s takes no value", spec->name) : store(options, spec, NULL, why);
	if (!value && next) {
		*ret_used = 2;
		value = next;
	}
	if (!value)
		return refuse(why, "--%s needs a value: %s", spec->name, spec->argument);
	return store(options, spec, value, why);
}

static int take_letters(struct options *options, uint64_t ids, const char *letters, char why[256])
{
	for (; *letters; letters++) {
		const struct option_spec *spec = find_letter(ids, *letters);
		if (!spec || store(options, spec, NULL, why) < 0)
			return refuse(why, "there is no option -%c here", *letters);
	}
	return 0;
}

static const char *value_in(const char *word)
{
	const char *equals = strchr(word, '=');

	return equals ? equals + 1 : NULL;
}

static int parse_word(struct options *options, uint64_t ids, const char *word, const char *next, int *ret_used,
		      char why[256])
{
	bool is_long = strncmp(word, "--", 2) == 0;
	const char *name = word + (is_long ? 2 : 1);
	size_t n = strcspn(name, "=");
	const struct option_spec *spec = NULL;

	*ret_used = 1;
	if (is_long) {
		spec = find_name(ids, name, n, false);
		return spec ? take(options, spec, value_in(word), next, ret_used, why)
			    : refuse(why, "there is no option --%.*s here", (int)n, name);
	}
	if (*word == '-' && word[1])
		return take_letters(options, ids, name, why);
	if (*word == '/') {
		spec = strcmp(name, "?") == 0 ? &specs[OPTION_HELP] : find_name(ids, name, n, true);
		/* "/for" without "=" is a path like any other; flags have no value to tell them by. */
		if (spec && (spec->kind == KIND_FLAG) == (name[n] == '\0'))
			return take(options, spec, value_in(word), NULL, ret_used, why);
	}
	return words_add(&options->words, word);
}

int options_parse(struct options *options, const struct command *command, int argc, const char *const *argv,
		  char why[256])
{
	uint64_t ids = command->options | OPTION(HELP);

	for (int i = 0, used; i < argc; i += used) {
		if (strcmp(argv[i], "--") == 0 && command->takes_command) {
			options->command = argv + i + 1;
			break;
		}
		if (parse_word(options, ids, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used, why) < 0)
			return -1;
	}
	if (options->help)
		return 0;
	if (options->words.n < command->words_min)
		return refuse(why, "something is missing");
	if (options->words.n > command->words_max)
		return refuse(why, "\"%.100s\" is too much", options->words.items[command->words_max]);
	if (command->takes_command && (!options->command || !*options->command))
		return refuse(why, "-- and a command are missing");
	return 0;
}

void options_free(struct options *options)
{
	struct words *all[] = { &options->for_paths, &options->require_writers, &options->exclude_writers,
				&options->include_writers, &options->words };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]->items);
}

void options_print(FILE *out, uint64_t ids)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		char left[64], letter[8] = "";

		if ((ids & UINT64_C(1) << i) == 0)
			continue;
		if (specs[i].letter)
			snprintf(letter, sizeof letter, "-%c, ", specs[i].letter);
		snprintf(left, sizeof left, "%s--%s%s%s", letter, specs[i].name, specs[i].argument ? "=" : "",
			 specs[i].argument ? specs[i].argument : "");
		fprintf(out, "  %-34s %s\n", left, specs[i].help);
	}
}
