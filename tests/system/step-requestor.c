/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup in single steps: reads calls from stdin, one a line, and prints an answer each, one JSON object a line:
 * {"ok": true, ...} or {"ok": false, "error": NAME, "code": N, "retryable": b, "message": s}.
 *
 *	new JSON		vss_backup_new with these options ({} for none)
 *	adopt TOKEN | detach SECONDS
 *	gather | add PATH | prepare | snapshot | succeeded 0|1 | complete | abort | free
 *	properties */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "requestor/vssrequestor.h"

#include "common/cleanup.h"

struct requestor {
	struct vss_connection *connection;
	struct vss_backup *backup;
	struct vss_failure failure;
};

static int new_backup(struct requestor *r, const char *text, json_t **ret)
{
	autojson json_t *options = json_loads(text, 0, NULL);

	return vss_backup_new(&r->backup, r->connection, options, &r->failure);
}

static int detach(struct requestor *r, const char *text, json_t **ret)
{
	char token[64];

	if (vss_backup_detach(r->backup, (unsigned)strtoul(text, NULL, 10), token, &r->failure) < 0)
		return -1;
	*ret = json_string(token);
	return 0;
}

static int adopt(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_adopt(&r->backup, r->connection, text, &r->failure);
}

static int gather(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_gather(r->backup, ret, &r->failure);
}

static int add(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_add(r->backup, text, -1, ret, &r->failure);
}

static int prepare(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_prepare(r->backup, &r->failure);
}

static int snapshot(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_snapshot(r->backup, ret, &r->failure);
}

static int succeeded(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_set_succeeded(r->backup, *text == '1', &r->failure);
}

static int complete(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_complete(r->backup, &r->failure);
}

static int abort_backup(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_abort(r->backup, &r->failure);
}

static int free_backup(struct requestor *r, const char *text, json_t **ret)
{
	r->backup = vss_backup_free(r->backup);
	return 0;
}

static int properties(struct requestor *r, const char *text, json_t **ret)
{
	return vss_backup_properties(r->backup, ret, &r->failure);
}

static const struct {
	const char *name;
	bool needs_backup;
	int (*run)(struct requestor *r, const char *text, json_t **ret);
} steps[] = {
	{ "new", false, new_backup },	{ "adopt", false, adopt },	  { "detach", true, detach },
	{ "gather", true, gather },	{ "add", true, add },		  { "prepare", true, prepare },
	{ "snapshot", true, snapshot }, { "succeeded", true, succeeded }, { "complete", true, complete },
	{ "abort", true, abort_backup }, { "free", true, free_backup },	  { "properties", true, properties },
};

static void answer(struct requestor *r, int result, json_t *value)
{
	const struct vss_failure *f = &r->failure;
	autojson json_t *object = result == 0 ? json_pack("{sb sO*}", "ok", 1, "value", value) :
						json_pack("{sb ss sI sb ss}", "ok", 0, "error", f->name, "code",
							  (json_int_t)f->code, "retryable", f->retryable, "message",
							  f->text);

	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
}

static void run_step(struct requestor *r, char *line)
{
	char *text = strchr(line, ' ');
	autojson json_t *value = NULL;

	if (text)
		*text++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (strcmp(steps[i].name, line) != 0 || (steps[i].needs_backup && !r->backup))
			continue;
		int result = steps[i].run(r, text ? text : "", &value);
		answer(r, result, value);
		return;
	}
	printf("{\"ok\": false, \"message\": \"no such step now\"}\n");
	fflush(stdout);
}

int main(void)
{
	struct requestor r = { 0 };
	char line[8192];

	if (vss_connect(&r.connection, NULL, &r.failure) < 0) {
		fprintf(stderr, "%s\n", r.failure.text);
		return 1;
	}
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = '\0';
		run_step(&r, line);
	}
	r.backup = vss_backup_free(r.backup);
	r.connection = vss_disconnect(r.connection);
	return 0;
}
