/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/bundled/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/ini.h"
#include "writers/script/strv.h"
#include "writers/script/trust.h"

#define SPAN_MAX (3600 * USEC_PER_SEC)

static const struct bundled_key common_keys[] = {
	{ "PrepareLimit", BUNDLED_SPAN, "10min", true },
	{ 0 },
};

struct reading {
	const struct bundled_kind *kind;
	json_t *settings;
};

/* ---- values ---- */

static json_t *parse_paths(const char *value, struct err *err)
{
	autojson json_t *paths = json_array();
	char **parts = NULL;
	bool bad = strv_split(&parts, value, ";") < 0;

	for (size_t i = 0; parts && parts[i]; i++) {
		const char *path = parts[i] + strspn(parts[i], " \t");
		bad |= *path != '/';
		json_array_append_new(paths, json_string(path));
	}
	strv_free(parts);
	if (!bad)
		return steal_pointer(paths);
	err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not a list of absolute paths", value);
	return NULL;
}

static json_t *parse_span(const char *value, struct err *err)
{
	static const struct {
		const char *unit;
		uint64_t usec;
	} units[] = {
		{ "", USEC_PER_SEC }, { "s", USEC_PER_SEC }, { "ms", USEC_PER_MSEC }, { "min", 60 * USEC_PER_SEC }
	};
	size_t digits = strspn(value, "0123456789");

	for (size_t i = 0; digits > 0 && digits < 9 && i < ARRAY_SIZE(units); i++) {
		uint64_t usec = strtoull(value, NULL, 10) * units[i].usec;
		if (strcmp(value + digits, units[i].unit) == 0 && usec > 0 && usec <= SPAN_MAX)
			return json_integer((json_int_t)usec);
	}
	err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not a time such as 500ms, 20s or 2min (1h at most)", value);
	return NULL;
}

static json_t *parse_number(const char *value, struct err *err)
{
	char *end;

	errno = 0;
	long long number = strtoll(value, &end, 10);
	if (!errno && end != value && !*end)
		return json_integer(number);
	err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not a number", value);
	return NULL;
}

static json_t *parse_choice(const char *value, const char *choices, struct err *err)
{
	char **words = NULL;
	json_t *found = NULL;

	if (strv_split(&words, choices, "|") == 0)
		for (size_t i = 0; words && words[i] && !found; i++)
			if (strcmp(words[i], value) == 0)
				found = json_string(value);
	strv_free(words);
	if (!found)
		err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is none of %s", value, choices);
	return found;
}

static json_t *parse_bool(const char *value, struct err *err)
{
	if (strcmp(value, "yes") == 0)
		return json_true();
	if (strcmp(value, "no") == 0)
		return json_false();
	err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is neither yes nor no", value);
	return NULL;
}

static json_t *parse_value(const struct bundled_key *key, const char *value, struct err *err)
{
	switch (key->type) {
	case BUNDLED_PATHS:
		return parse_paths(value, err);
	case BUNDLED_BOOL:
		return parse_bool(value, err);
	case BUNDLED_SPAN:
		return parse_span(value, err);
	case BUNDLED_NUMBER:
		return parse_number(value, err);
	case BUNDLED_CHOICE:
		return parse_choice(value, key->choices, err);
	case BUNDLED_TEXT:
		break;
	}
	json_t *text = json_string(value);
	if (!text)
		err_set(err, VSS_E_INVALID_ARGUMENT, "the value is not UTF-8");
	return text;
}

/* ---- the file ---- */

static const struct bundled_key *find_key(const struct bundled_key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

/* "" for the general section, NAME for [Cluster NAME], NULL for others. */
static const char *instance_of_section(const struct bundled_kind *kind, const char *section)
{
	size_t n = kind->instance_section ? strlen(kind->instance_section) : 0;

	if (strcmp(section, kind->section) == 0)
		return "";
	if (n > 0 && strncmp(section, kind->instance_section, n) == 0 && section[n] == ' ' && section[n + 1])
		return section + n + 1;
	return NULL;
}

static int store(json_t *values, const struct bundled_key *key, json_t *value)
{
	json_t *list = json_object_get(values, key->name);

	if (key->type != BUNDLED_PATHS || !list)
		return json_object_set_new(values, key->name, value);
	json_array_extend(list, value);
	json_decref(value);
	return 0;
}

static int on_entry(const char *section, const char *name, const char *value, void *data, struct err *err)
{
	struct reading *reading = data;
	const struct bundled_kind *kind = reading->kind;
	const char *instance = instance_of_section(kind, section);
	const struct bundled_key *key = find_key(kind->keys, name) ?: find_key(common_keys, name);
	struct err why = { 0 };

	if (!instance)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "there is no section [%s] here, only [%s]%s%s%s", section,
			       kind->section, kind->instance_section ? " and [" : "", kind->instance_section ?: "",
			       kind->instance_section ? " NAME]" : "");
	if (!key)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s: no such key (see %s(8))", name, kind->program);
	if (*instance && !key->per_instance)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s: only for all, in [%s]", name, kind->section);
	json_t *parsed = parse_value(key, value, &why);
	if (!parsed)
		return err_set(err, why.code, "%s: %s", name, why.text);
	json_t *values = json_object_get(reading->settings, instance);
	if (!values && json_object_set_new(reading->settings, instance, json_object()) == 0)
		values = json_object_get(reading->settings, instance);
	return store(values, key, parsed) < 0 ? err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory") : 0;
}

static int read_file(struct reading *reading, const char *path, struct err *err)
{
	char link[64];
	autoclose int opened = trust_open(path, S_IFREG, NULL, err);

	if (opened < 0)
		return -1;
	/* Through the descriptor that was judged, not through the path again. */
	snprintf(link, sizeof link, "/proc/self/fd/%d", opened);
	autoclose int fd = open(link, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", path);
	return ini_read(fd, path, on_entry, reading, err);
}

static void set_fallbacks(json_t *general, const struct bundled_key *keys)
{
	for (; keys->name; keys++)
		if (keys->fallback && !json_object_get(general, keys->name))
			json_object_set_new(general, keys->name, parse_value(keys, keys->fallback, NULL));
}

json_t *settings_read(const struct bundled_kind *kind, const char *path, struct err *err)
{
	struct reading reading = { .kind = kind, .settings = json_pack("{s{}}", "") };
	char absolute[PATH_MAX];

	if (!path && access(kind->config_file, F_OK) == 0)
		path = kind->config_file;
	if (path && *path != '/' && realpath(path, absolute))
		path = absolute;
	if (path && read_file(&reading, path, err) < 0) {
		json_decref(reading.settings);
		return NULL;
	}
	set_fallbacks(json_object_get(reading.settings, ""), kind->keys);
	set_fallbacks(json_object_get(reading.settings, ""), common_keys);
	return reading.settings;
}

/* ---- reading it ---- */

json_t *bundled_setting(const json_t *settings, const char *instance, const char *key)
{
	json_t *own = instance ? json_object_get(json_object_get(settings, instance), key) : NULL;

	return own ? own : json_object_get(json_object_get(settings, ""), key);
}

const char *bundled_setting_text(const json_t *settings, const char *instance, const char *key)
{
	return json_string_value(bundled_setting(settings, instance, key)) ?: "";
}

uint64_t bundled_setting_span(const json_t *settings, const char *instance, const char *key)
{
	return (uint64_t)json_integer_value(bundled_setting(settings, instance, key));
}

json_t *bundled_setting_instances(const json_t *settings)
{
	return (json_t *)settings;
}
