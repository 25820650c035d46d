/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"

#define BUSY_PATIENCE (2 * USEC_PER_SEC)
#define BUSY_INTERVAL (10 * 1000)
#define LEVEL_ERROR 3

static void task_done(struct dm_task **task)
{
	if (*task)
		dm_task_destroy(*task);
}

#define autotask cleanup(task_done)

static void (*listener)(const char *message);

__attribute__((format(printf, 5, 6))) static void hear(int level, const char *file, int line, int error,
						       const char *format, ...)
{
	char message[512];
	va_list args;

	if ((level & 7) > LEVEL_ERROR || !listener)
		return;
	va_start(args, format);
	text_vformat(message, sizeof message, format, args);
	va_end(args);
	listener(message);
}

void dm_listen(void (*fn)(const char *message))
{
	listener = fn;
	dm_log_with_errno_init(hear);
}

/* Otherwise each failure, a retry's too, would be written to the worker's standard error. */
static struct dm_task *new_task(int type)
{
	dm_log_with_errno_init(hear);
	return dm_task_create(type);
}

bool dm_name_of(const char *vg, const char *lv, char name[DM_DEVICE_NAME_SIZE])
{
	const char *const parts[] = { vg, lv };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		for (const char *p = parts[i]; *p; p++) {
			if (n + 3 >= DM_DEVICE_NAME_SIZE)
				return false;
			name[n++] = *p;
			if (*p == '-')
				name[n++] = '-';
		}
		if (i == 0)
			name[n++] = '-';
	}
	name[n] = '\0';
	return true;
}

/* ---- asking ---- */

static bool ask(struct dm_task *task, struct dm_state *ret)
{
	struct dm_info info;
	const char *text;

	*ret = (struct dm_state){ 0 };
	dm_task_no_flush(task);
	if (!dm_task_run(task))
		return dm_task_get_errno(task) == ENXIO;
	if (!dm_task_get_info(task, &info))
		return false;
	if (!info.exists)
		return true;
	*ret = (struct dm_state){ .exists = true,
				  .live = info.live_table,
				  .loaded = info.inactive_table,
				  .suspended = info.suspended,
				  .read_only = info.read_only,
				  .open_count = info.open_count,
				  .number = makedev(info.major, info.minor) };
	text = dm_task_get_name(task);
	text_format(ret->name, sizeof ret->name, "%s", text ? text : "");
	text = dm_task_get_uuid(task);
	text_format(ret->uuid, sizeof ret->uuid, "%s", text ? text : "");
	return true;
}

bool dm_by_name(const char *name, struct dm_state *ret)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_INFO);

	return task && dm_task_set_name(task, name) && ask(task, ret);
}

bool dm_by_uuid(const char *uuid, struct dm_state *ret)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_INFO);

	return task && dm_task_set_uuid(task, uuid) && ask(task, ret);
}

bool dm_by_number(dev_t number, struct dm_state *ret)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_INFO);

	return task && dm_task_set_major(task, (int)major(number)) && dm_task_set_minor(task, (int)minor(number)) &&
	       ask(task, ret);
}

static bool read_lines(struct dm_task *task, const char *name, bool loaded, struct dm_line *ret)
{
	uint64_t start, length;
	char *type, *params;
	void *next = NULL;

	*ret = (struct dm_line){ 0 };
	if (!task || !dm_task_set_name(task, name) || (loaded && !dm_task_query_inactive_table(task)))
		return false;
	dm_task_no_flush(task);
	dm_task_no_open_count(task);
	if (!dm_task_run(task))
		return false;
	do {
		next = dm_get_next_target(task, next, &start, &length, &type, &params);
		if (!type)
			continue;
		if (ret->n_targets++ > 0)
			continue;
		ret->length = length;
		text_format(ret->type, sizeof ret->type, "%s", type);
		text_format(ret->params, sizeof ret->params, "%s", params ? params : "");
	} while (next);
	return ret->n_targets > 0;
}

bool dm_read_table(const char *name, bool loaded, struct dm_line *ret)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_TABLE);

	return read_lines(task, name, loaded, ret);
}

bool dm_read_status(const char *name, struct dm_line *ret)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_STATUS);

	return read_lines(task, name, false, ret);
}

/* ---- changing ---- */

static int failed(struct dm_task *task, const char *name, const char *what, struct err *err)
{
	return err_errno(err, task ? dm_task_get_errno(task) : ENOMEM, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			 "The device %s cannot be %s", name, what);
}

/* Runs a task that udev hears of; the cookie, which several may share, is waited for by the caller. */
static bool run_with_cookie(struct dm_task *task, uint32_t *cookie, uint16_t flags)
{
	return dm_task_set_cookie(task, cookie, flags) && dm_task_run(task);
}

static bool remove_once(const char *name, uint32_t *cookie, int *ret_errno)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_REMOVE);
	/* Where udev does not run, nobody but the library takes the node away. */
	uint16_t flags = dm_udev_get_sync_support() ? DM_UDEV_DISABLE_LIBRARY_FALLBACK : 0;
	bool ok = task && dm_task_set_name(task, name) && run_with_cookie(task, cookie, flags);

	*ret_errno = ok ? 0 : task ? dm_task_get_errno(task) : ENOMEM;
	return ok;
}

static int remove_one(const char *name, uint32_t *cookie, struct err *err)
{
	uint64_t end = clock_now() + BUSY_PATIENCE;
	struct dm_state state;
	int why;

	if (dm_by_name(name, &state) && !state.exists)
		return 0;
	while (!remove_once(name, cookie, &why)) {
		if (why == ENXIO)
			return 0;
		if (why != EBUSY)
			return err_errno(err, why, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The device %s cannot be removed",
					 name);
		if (clock_now() >= end)
			return err_set(err, VSS_E_VOLUME_IN_USE,
				       "The device %s cannot be removed: somebody has kept it open for %llu s (lsof "
				       "/dev/mapper/%s tells who)",
				       name, (unsigned long long)(BUSY_PATIENCE / USEC_PER_SEC), name);
		usleep(BUSY_INTERVAL);
	}
	return 0;
}

int dm_remove(const char *const *names, size_t n, struct err *err)
{
	uint32_t cookie = 0;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = remove_one(names[i], &cookie, err);
	dm_udev_wait(cookie);
	dm_task_update_nodes();
	return r;
}

/* No cookie: the kernel tells udev of the new device, but with nothing that would give a cookie back. */
static int create(const char *name, const char *uuid, struct err *err)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_CREATE);

	if (task && dm_task_set_name(task, name) && dm_task_set_uuid(task, uuid) && dm_task_run(task))
		return 0;
	return failed(task, name, "made", err);
}

static int load(const char *name, const struct dm_line *table, struct err *err)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_RELOAD);

	if (task && dm_task_set_name(task, name) &&
	    dm_task_add_target(task, 0, table->length, table->type, table->params) && dm_task_run(task))
		return 0;
	return failed(task, name, "given its table", err);
}

int dm_load_new(const char *name, const char *uuid, const struct dm_line *table, struct err *err)
{
	int unused;

	if (create(name, uuid, err) < 0)
		return -1;
	if (load(name, table, err) == 0)
		return 0;
	remove_once(name, &(uint32_t){ 0 }, &unused);
	return -1;
}

int dm_resume(const char *name, uint16_t flags, struct err *err)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_RESUME);
	uint32_t cookie = 0;
	int r = 0;

	if (!task || !dm_task_set_name(task, name) || !run_with_cookie(task, &cookie, flags))
		r = failed(task, name, "resumed", err);
	dm_udev_wait(cookie);
	return r;
}

int dm_activate_new(const char *name, const char *uuid, const struct dm_line *table, uint16_t flags, struct err *err)
{
	if (dm_load_new(name, uuid, table, err) < 0)
		return -1;
	if (dm_resume(name, flags, err) == 0)
		return 0;
	dm_remove(&name, 1, NULL);
	return -1;
}

int dm_clear(const char *name, struct err *err)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_CLEAR);

	if (task && dm_task_set_name(task, name) && dm_task_run(task))
		return 0;
	return failed(task, name, "cleared", err);
}

int dm_message(const char *name, const char *text, struct err *err)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_TARGET_MSG);

	if (task && dm_task_set_name(task, name) && dm_task_set_sector(task, 0) && dm_task_set_message(task, text) &&
	    dm_task_run(task))
		return 0;
	return err_errno(err, task ? dm_task_get_errno(task) : ENOMEM, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			 "The pool %s does not take the message \"%s\"", name, text);
}

/* ---- nodes ---- */

void dm_make_nodes(const char *name)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_MKNODES);

	if (task && dm_task_set_name(task, name))
		dm_task_run(task);
	dm_lib_release();
}

void dm_node(dev_t number, char node[32])
{
	snprintf(node, 32, "/dev/dm-%u", minor(number));
}

int dm_open(dev_t number, int flags)
{
	char node[32];
	struct stat info;

	dm_node(number, node);
	autoclose int fd = open(node, flags | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &info) < 0)
		return -1;
	if (!S_ISBLK(info.st_mode) || info.st_rdev != number) {
		errno = ENXIO;
		return -1;
	}
	return steal_fd(fd);
}

void dm_for_each(void (*visit)(const char *name, void *data), void *data)
{
	autotask struct dm_task *task = new_task(DM_DEVICE_LIST);
	struct dm_names *names;

	if (!task || !dm_task_run(task) || !(names = dm_task_get_names(task)) || !names->dev)
		return;
	for (unsigned next = 1; next; names = (struct dm_names *)((char *)names + next)) {
		visit(names->name, data);
		next = names->next;
		if (!next)
			break;
	}
}
