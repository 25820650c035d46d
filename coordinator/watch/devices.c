/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/watch/devices.h"

#include <inttypes.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <string.h>

#define SECTOR 512u
#define COPY_MARK "-vss--" /* of a volume named vss-..., in device-mapper's spelling */
#define POOL_MARK "-tpool"

__attribute__((format(printf, 5, 6))) static void say_nothing(int level, const char *file, int line, int error,
							      const char *format, ...)
{
}

static struct dm_task *run(int type, const char *name)
{
	struct dm_task *task;

	dm_log_with_errno_init(say_nothing);
	task = dm_task_create(type);
	if (task && (!name || dm_task_set_name(task, name)) && dm_task_no_flush(task) && dm_task_run(task))
		return task;
	if (task)
		dm_task_destroy(task);
	return NULL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), n = strlen(end);

	return length > n && strcmp(text + length - n, end) == 0;
}

/* vg-vss--0123456789ab and no more: not its -cow. */
static bool is_copy(const char *name)
{
	const char *mark = strstr(name, COPY_MARK);

	return mark && !strchr(mark + strlen(COPY_MARK), '-');
}

void devices_for_each(void (*visit)(const char *name, bool is_pool, void *data), void *data)
{
	struct dm_task *task = run(DM_DEVICE_LIST, NULL);
	struct dm_names *names = task ? dm_task_get_names(task) : NULL;
	unsigned next = 0;

	if (names && names->dev) {
		do {
			names = (struct dm_names *)((char *)names + next);
			next = names->next;
			if (is_copy(names->name) || ends_with(names->name, POOL_MARK))
				visit(names->name, ends_with(names->name, POOL_MARK), data);
		} while (next);
	}
	if (task)
		dm_task_destroy(task);
}

/* "USED/SIZE METADATA" in sectors, or "Invalid", "Overflow", "Merge failed". The metadata is a part of what is used. */
static void parse_store(const char *params, struct device_status *ret)
{
	ret->kind = DEVICE_STORE;
	ret->invalid = sscanf(params, "%" SCNu64 "/%" SCNu64, &ret->used, &ret->size) != 2;
	ret->used *= SECTOR;
	ret->size *= SECTOR;
}

/* "TRANSACTION META/METAS DATA/DATAS HELD MODE ..." in blocks of their own, or "Fail". The data's are the table's second number. */
static bool parse_pool(const char *name, const char *params, struct device_status *ret)
{
	uint64_t block = 0, start, length;
	struct dm_task *table = run(DM_DEVICE_TABLE, name);
	char *type, *text = NULL, mode[24] = "";

	if (table)
		dm_get_next_target(table, NULL, &start, &length, &type, &text);
	if (text)
		sscanf(text, "%*s %*s %" SCNu64, &block);
	if (table)
		dm_task_destroy(table);
	ret->kind = DEVICE_POOL;
	ret->invalid = sscanf(params, "%" SCNu64 " %" SCNu64 "/%" SCNu64 " %" SCNu64 "/%" SCNu64 " %*s %23s",
			      &ret->transaction, &ret->meta_used, &ret->meta_size, &ret->used, &ret->size, mode) < 5;
	ret->read_only = strcmp(mode, "ro") == 0 || strstr(params, "needs_check");
	ret->meta_used *= 4096;
	ret->meta_size *= 4096;
	ret->used *= block * SECTOR;
	ret->size *= block * SECTOR;
	return block > 0;
}

bool device_status(const char *name, struct device_status *ret)
{
	struct dm_task *task = run(DM_DEVICE_STATUS, name);
	struct dm_info info;
	uint64_t start, length;
	char *type = NULL, *params = NULL;

	*ret = (struct device_status){ .kind = DEVICE_OTHER };
	if (!task)
		return false;
	if (dm_task_get_info(task, &info) && info.exists) {
		ret->open_count = info.open_count;
		dm_get_next_target(task, NULL, &start, &length, &type, &params);
	}
	if (type && params && strcmp(type, "snapshot") == 0)
		parse_store(params, ret);
	else if (type && params && strcmp(type, "thin-pool") == 0 && !parse_pool(name, params, ret))
		ret->kind = DEVICE_OTHER;
	else if (type && strcmp(type, "error") == 0)
		ret->kind = DEVICE_MERGE;
	dm_task_destroy(task);
	return ret->kind != DEVICE_OTHER;
}
