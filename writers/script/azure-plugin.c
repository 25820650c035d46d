/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/azure-plugin.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/script/strv.h"
#include "writers/script/trust.h"

#define SHELL "/bin/sh" /* Azure runs both with it, whatever their first line says */
#define TIMEOUT_DEFAULT 10
#define TIMEOUT_MAX 1800
#define RETRIES_MAX 100
#define FILE_SIZE_MAX 65536

static int wrong(struct err *err, const char *file, const char *key, const char *rule)
{
	return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: %s %s", file, key, rule);
}

static json_t *read_plugin(const char *file, struct err *err)
{
	char link[64], *text;
	json_error_t why;
	json_t *plugin;
	autoclose int opened = trust_open(file, S_IFREG, NULL, err);

	if (opened < 0)
		return NULL;
	/* Through the descriptor that was judged, not through the path again. */
	snprintf(link, sizeof link, "/proc/self/fd/%d", opened);
	autoclose int fd = open(link, O_RDONLY | O_CLOEXEC);
	text = calloc(1, FILE_SIZE_MAX + 1);
	ssize_t n = fd < 0 || !text ? -1 : read(fd, text, FILE_SIZE_MAX + 1);
	if (n < 0 || n > FILE_SIZE_MAX) {
		free(text);
		err_set(err, VSS_E_INVALID_DOCUMENT, "%s cannot be read, or is larger than %d bytes", file,
			FILE_SIZE_MAX);
		return NULL;
	}
	plugin = json_loadb(text, (size_t)n, 0, &why);
	free(text);
	if (!plugin)
		err_set(err, VSS_E_INVALID_DOCUMENT, "%s:%d: %s", file, why.line, why.text);
	else if (!json_is_object(plugin))
		wrong(err, file, "it", "is no object");
	if (json_is_object(plugin))
		return plugin;
	json_decref(plugin);
	return NULL;
}

static int read_number(json_t *plugin, const char *file, const char *key, unsigned max, unsigned *ret, struct err *err)
{
	json_t *value = json_object_get(plugin, key);

	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return wrong(err, file, key, "is no number");
	*ret = json_integer_value(value) > max ? max : (unsigned)json_integer_value(value);
	return 0;
}

static int read_params(json_t *plugin, const char *file, const char *key, char ***argv, struct err *err)
{
	json_t *value = json_object_get(plugin, key), *item;
	size_t index;

	if (value && !json_is_array(value))
		return wrong(err, file, key, "is no array");
	json_array_foreach (value, index, item) {
		if (!json_is_string(item))
			return wrong(err, file, key, "holds something else than strings");
		if (strv_add(argv, json_string_value(item)) < 0)
			return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	}
	return 0;
}

/* Azure's own rule, which goes further than ours: nobody but its owner may even read it. */
static int judge_script(const char *file, const char *key, const char *script, struct err *err)
{
	struct stat st;

	if (!script || !*script)
		return wrong(err, file, key, "names no script");
	autoclose int fd = trust_open(script, S_IFREG, NULL, err);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || (st.st_mode & (S_IRWXG | S_IRWXO)))
		return err_set(err, VSS_E_ACCESS_DENIED,
			       "%s is not used: others than its owner have rights on it (chmod 700)", script);
	return 0;
}

static int read_conduct(struct conduct *conduct, json_t *plugin, const char *file, const char *retries_key,
			struct err *err)
{
	json_t *go_on = json_object_get(plugin, "continueBackupOnFailure");
	unsigned seconds = TIMEOUT_DEFAULT;

	if (read_number(plugin, file, "timeoutInSeconds", TIMEOUT_MAX, &seconds, err) < 0 ||
	    read_number(plugin, file, retries_key, RETRIES_MAX, &conduct->retries, err) < 0)
		return -1;
	if (seconds == 0)
		return wrong(err, file, "timeoutInSeconds", "is 0");
	if (go_on && !json_is_boolean(go_on))
		return wrong(err, file, "continueBackupOnFailure", "is neither true nor false");
	conduct->limit = seconds * USEC_PER_SEC;
	conduct->failure_is_doubt = !go_on || json_is_true(go_on);
	conduct->two_is_warning = conduct->interpreted = true;
	return 0;
}

int azure_plugin_find(struct commands *commands, const char *file, enum vss_event event, struct err *err)
{
	bool pre = event == VSS_EVENT_FREEZE;
	char **argv = NULL;

	if (!pre && event != VSS_EVENT_THAW)
		return 0;
	autojson json_t *plugin = read_plugin(file, err);
	if (!plugin)
		return -1;
	const char *location = pre ? "preScriptLocation" : "postScriptLocation";
	const char *script = json_string_value(json_object_get(plugin, location));
	int done = judge_script(file, location, script, err);
	if (done == 0)
		done = read_conduct(&commands->conduct, plugin, file,
				    pre ? "preScriptNoOfRetries" : "postScriptNoOfRetries", err);
	if (done == 0 && (strv_add(&argv, SHELL) < 0 || strv_add(&argv, script) < 0))
		done = err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	if (done == 0)
		done = read_params(plugin, file, pre ? "preScriptParams" : "postScriptParams", &argv, err);
	if (done == 0)
		done = commands_add(commands, argv, NULL, err);
	strv_free(argv);
	return done;
}
