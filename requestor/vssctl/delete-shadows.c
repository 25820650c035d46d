/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

#define DELETE_USEC                                                                                                    \
	(UINT64_C(3600) * USEC_PER_SEC) /* storage may take its time; a vssd that hangs is noticed anyway              \
					 */

static int choice(struct vssctl *ctl, json_t **ret_options)
{
	const struct options *o = &ctl->options;
	int named = (o->shadow != NULL) + (o->set != NULL) + (o->for_paths.n > 0);
	char **paths = NULL, id[ID_SIZE];
	int r;

	if (named > 1 || o->for_paths.n > 1 || (named == 0 && !o->all))
		return vssctl_usage(ctl, "delete shadows takes one of --shadow, --set, --for or --all");
	if (o->for_paths.n ? o->oldest == o->all : o->oldest || (named && o->all))
		return vssctl_usage(ctl, "--oldest or --all go with --for; --all may stand alone");
	if (o->shadow || o->set) {
		r = vssctl_id(ctl, o->shadow ? "shadow copy" : "shadow copy set", o->shadow ? o->shadow : o->set, id);
		if (r != EXIT_OK)
			return r;
	}
	r = absolute_paths(ctl, &o->for_paths, &paths);
	if (r != EXIT_OK)
		return r;
	*ret_options =
	    json_pack("{ss*ss*ss*}", "Shadow", o->shadow ? id : NULL, "Set", o->set ? id : NULL, "For", paths[0]);
	paths_free(paths, o->for_paths.n);
	if (o->oldest)
		json_object_set_new(*ret_options, "Oldest", json_true());
	if (o->all)
		json_object_set_new(*ret_options, "All", json_true());
	return EXIT_OK;
}

/* How many it would be: the same filter, listed. */
static int count(struct vssctl *ctl, json_t *options, size_t *ret_n)
{
	autojson json_t *filter = json_copy(options), *rows = NULL;

	json_object_del(filter, "Oldest");
	json_object_del(filter, "All");
	if (vss_query(ctl->connection, "ListShadows", filter, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	*ret_n = ctl->options.oldest && json_array_size(rows) > 1 ? 1 : json_array_size(rows);
	return EXIT_OK;
}

static int confirm(struct vssctl *ctl, json_t *options)
{
	char answer[16] = "";
	size_t n = 0;
	int r;

	if (ctl->options.quiet)
		return EXIT_OK;
	if (!isatty(STDIN_FILENO))
		return vssctl_usage(ctl, "there is no terminal to ask on: add --quiet");
	r = count(ctl, options, &n);
	if (r != EXIT_OK)
		return r;
	if (n == 0)
		return vssctl_nothing(ctl);
	fprintf(ctl->err, "Do you really want to delete %zu shadow copies (Y/N): [N]? ", n);
	fflush(ctl->err);
	if (!fgets(answer, sizeof answer, stdin) || (*answer != 'y' && *answer != 'Y')) {
		fputs("Nothing was deleted.\n", ctl->err);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

/* Each copy that stayed is told with its reason. The exit code is the first failure's if none was deleted. */
static int report(struct vssctl *ctl, json_t *rows)
{
	autojson json_t *printable = rows_printable(rows);
	struct vss_failure first = { 0 };
	size_t index, deleted = 0;
	json_t *row;

	json_array_foreach(printable, index, row) {
		if (row_true(row, "Deleted")) {
			deleted++;
			continue;
		}
		const char *name = row_text(row, "Error"), *dot = strrchr(name, '.');
		fprintf(ctl->err, "vssctl: shadow copy {%s} was not deleted: %s\n", row_text(row, "Shadow"),
			*row_text(row, "Message") ? row_text(row, "Message") : name);
		if (!*first.name)
			snprintf(first.name, sizeof first.name, "%s", dot ? dot + 1 : name);
		first.retryable = strcmp(first.name, "VolumeInUse") == 0;
	}
	if (ctl->options.json)
		print_json(ctl->out, "delete shadows", "deleted", rows);
	else
		fprintf(ctl->out, "Successfully deleted %zu shadow copies.\n", deleted);
	if (deleted == json_array_size(rows))
		return EXIT_OK;
	return deleted ? EXIT_PARTIAL : exit_code_of(&first, 0);
}

int run_delete_shadows(struct vssctl *ctl)
{
	autojson json_t *options = NULL, *rows = NULL;
	int r = choice(ctl, &options);

	if (r == EXIT_OK)
		r = confirm(ctl, options);
	if (r != EXIT_OK)
		return r;
	if (vss_query(ctl->connection, "DeleteShadows", options, DELETE_USEC, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (json_array_size(rows) == 0)
		return vssctl_nothing(ctl);
	return report(ctl, rows);
}
