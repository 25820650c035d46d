/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the command line to CreateSession's options. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "requestor/vssctl/vssctl.h"

static void set_words(json_t *options, const char *key, const struct words *words)
{
	json_t *array;

	if (words->n == 0)
		return;
	array = json_array();
	for (size_t i = 0; i < words->n; i++)
		json_array_append_new(array, json_string(words->items[i]));
	json_object_set_new(options, key, array);
}

json_t *session_options(const struct vssctl *ctl, const char *context)
{
	const struct options *o = &ctl->options;
	json_t *result = json_pack("{ss}", "Context", context);

	if (ctl->command_line) /* one that is no UTF-8 is left out: json_string says NULL */
		json_object_set_new(result, "Command", json_string(ctl->command_line));
	if (o->type)
		json_object_set_new(result, "BackupType", json_string(o->type));
	if (o->on_writer_failure)
		json_object_set_new(result, "OnWriterFailure", json_string(o->on_writer_failure));
	if (o->recursive)
		json_object_set_new(result, "Recursive", json_true());
	if (o->add_missing)
		json_object_set_new(result, "AddMissingVolumes", json_true());
	if (o->retries_given)
		json_object_set_new(result, "Retries", json_integer(o->retries));
	if (o->wait_given)
		json_object_set_new(result, "WaitUsec", json_integer((json_int_t)o->wait_seconds * 1000000));
	set_words(result, "RequireWriters", &o->require_writers);
	set_words(result, "ExcludeWriters", &o->exclude_writers);
	set_words(result, "IncludeWriters", &o->include_writers);
	return result;
}

/* Only put together, never looked at: a path on a dead network mount would hang us, and vssd answers for the rest. */
int absolute_paths(struct vssctl *ctl, const struct words *paths, char ***ret_paths)
{
	autofree char *here = getcwd(NULL, 0);
	char **result = calloc(paths->n + 1, sizeof *result);

	for (size_t i = 0; result && i < paths->n; i++) {
		const char *path = paths->items[i];
		int n = *path == '/' ? asprintf(&result[i], "%s", path)
				     : asprintf(&result[i], "%s/%s", here && strcmp(here, "/") ? here : "", path);

		if (n < 0 || (*path != '/' && !here)) {
			paths_free(result, i + 1);
			return vssctl_usage(ctl, "%s cannot be made an absolute path", path);
		}
	}
	*ret_paths = result;
	return result ? 0 : EXIT_FAILED;
}

void paths_free(char **paths, size_t n)
{
	for (size_t i = 0; paths && i < n; i++)
		free(paths[i]);
	free(paths);
}
