/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/dm-table.h"

#include <libdevmapper.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

static void add_type(struct dm_table *table, const char *type)
{
	for (size_t i = 0; i < table->n_types; i++)
		if (strcmp(table->types[i], type) == 0)
			return;
	if (table->n_types < DM_TYPES_MAX)
		snprintf(table->types[table->n_types++], DM_TYPE_SIZE, "%s", type);
}

static void read_targets(struct dm_task *task, struct dm_table *ret)
{
	uint64_t start, length;
	char *type, *params;
	void *next = NULL;

	do {
		next = dm_get_next_target(task, next, &start, &length, &type, &params);
		if (!type)
			continue;
		if (ret->n_types == 0)
			snprintf(ret->params, sizeof ret->params, "%s", params ? params : "");
		add_type(ret, type);
	} while (next);
}

__attribute__((format(printf, 5, 6))) static void say_nothing(int level, const char *file, int line, int error,
							      const char *format, ...)
{
}

bool dm_table_read(dev_t number, struct dm_table *ret)
{
	struct dm_task *task;
	struct dm_info info;
	bool ok;

	*ret = (struct dm_table){ 0 };
	dm_log_with_errno_init(say_nothing); /* it would write to the worker's standard error */
	task = dm_task_create(DM_DEVICE_TABLE);
	if (!task)
		return false;
	ok = dm_task_set_major(task, (int)major(number)) && dm_task_set_minor(task, (int)minor(number)) &&
	     dm_task_run(task) && dm_task_get_info(task, &info) && info.exists;
	if (ok) {
		ret->open_count = info.open_count;
		read_targets(task, ret);
	}
	dm_task_destroy(task);
	return ok;
}
