/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* expose and unexpose. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

static int report(struct vssctl *ctl, const char *shadow, const char *path, const char *format)
{
	autojson json_t *result = json_pack("{ssss*}", "Shadow", shadow, "Exposed", path);
	char name[40];

	if (ctl->options.json)
		return print_json(ctl->out, command_name(ctl->command, name), "result", result);
	fprintf(ctl->out, format, path);
	return EXIT_OK;
}

/* "expose --shadow ID DIRECTORY", or "expose ID DIRECTORY". */
int run_expose(struct vssctl *ctl)
{
	struct words words = ctl->options.words;
	const char *shadow = ctl->options.shadow;
	char **paths = NULL;
	int r;

	if (words.n != (shadow ? 1u : 2u))
		return vssctl_usage(ctl, "expose takes a shadow copy and a directory");
	if (!shadow) {
		shadow = words.items[0];
		words.items++;
		words.n--;
	}
	r = absolute_paths(ctl, &words, &paths);
	if (r)
		return r;
	if (vss_expose(ctl->connection, shadow, paths[0], &ctl->failure) < 0)
		r = vssctl_fail(ctl);
	else
		r = report(ctl, shadow, paths[0], "The shadow copy is exposed at %s\n");
	paths_free(paths, words.n);
	return r;
}

/* The copy that is exposed at path; NULL (and the failure told) if there is none. */
static json_t *find_exposed(struct vssctl *ctl, const struct words *words, int *ret_code)
{
	autojson json_t *rows = NULL;
	char **paths = NULL;
	json_t *row, *found = NULL;
	size_t index;

	*ret_code = absolute_paths(ctl, words, &paths);
	if (*ret_code)
		return NULL;
	if (vss_query(ctl->connection, "ListShadows", NULL, 0, &rows, &ctl->failure) < 0) {
		*ret_code = vssctl_fail(ctl);
		paths_free(paths, words->n);
		return NULL;
	}
	json_array_foreach(rows, index, row)
		if (*paths[0] && strcmp(row_text(row, "Exposed"), paths[0]) == 0)
			found = json_incref(row);
	if (!found) {
		fprintf(ctl->err, "vssctl: no shadow copy is exposed at %s\n", paths[0]);
		*ret_code = EXIT_NOT_FOUND;
	}
	paths_free(paths, words->n);
	return found;
}

int run_unexpose(struct vssctl *ctl)
{
	autojson json_t *row = NULL;
	const char *shadow = ctl->options.shadow;
	char id[ID_SIZE];
	int r;

	if ((shadow != NULL) == (ctl->options.words.n == 1))
		return vssctl_usage(ctl, "unexpose takes a shadow copy or a directory");
	if (!shadow && id_parse(ctl->options.words.items[0], id))
		shadow = ctl->options.words.items[0];
	if (!shadow) {
		row = find_exposed(ctl, &ctl->options.words, &r);
		if (!row)
			return r;
		shadow = row_text(row, "Shadow");
	}
	if (vss_unexpose(ctl->connection, shadow, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	return report(ctl, shadow, NULL, "The shadow copy is no longer exposed.\n");
}
