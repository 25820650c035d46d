/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/placeholder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/text.h"

#define STORE_HEAD_SIZE 65536u /* more than the header of a store; all of it zero says that it is new */
#define STORE_ALIGN 4096u
#define DESCRIPTION_MAX 4096u

static int strange(const char *name, const char *what, struct err *err)
{
	return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
		       "The snapshot %s that LVM has just made is not as vssd knows it: %s", name, what);
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), n = strlen(end);

	return length >= n && strcmp(text + length - n, end) == 0;
}

/* ---- what LVM has made ---- */

/* "REAL STORE P|PO CHUNK" */
static bool parse_params(const char *params, dev_t *ret_store)
{
	unsigned real[2], store[2], chunk;
	char kind[8];

	if (sscanf(params, "%u:%u %u:%u %7s %u", &real[0], &real[1], &store[0], &store[1], kind, &chunk) != 6 ||
	    (strcmp(kind, "P") != 0 && strcmp(kind, "PO") != 0))
		return false;
	*ret_store = makedev(store[0], store[1]);
	return true;
}

int placeholder_of_snapshot(const char *vg, const char *lv, const char *origin, struct placeholder *ret,
			    struct err *err)
{
	struct dm_state device, store;
	struct dm_line table;
	dev_t number;

	*ret = (struct placeholder){ .thin = false };
	if (!dm_name_of(vg, lv, ret->name) || !dm_by_name(ret->name, &device) || !device.exists ||
	    !dm_read_table(ret->name, false, &table))
		return strange(lv, "it has no device", err);
	if (strcmp(table.type, "snapshot") != 0 || table.n_targets != 1 || !parse_params(table.params, &number))
		return strange(lv, "its table is not that of a snapshot", err);
	if (!dm_by_number(number, &store) || !ends_with(store.uuid, "-cow") ||
	    strncmp(store.uuid, device.uuid, strlen(device.uuid)) != 0)
		return strange(lv, "its store is not its own", err);
	text_format(ret->uuid, sizeof ret->uuid, "%s", device.uuid);
	text_format(ret->origin, sizeof ret->origin, "%s", origin);
	text_format(ret->store, sizeof ret->store, "%s", store.name);
	memcpy(ret->params, table.params, sizeof ret->params);
	ret->length = table.length;
	return 0;
}

int placeholder_of_thin(const char *vg, const char *lv, const char *uuid, const char *origin, unsigned id,
			struct placeholder *ret, struct err *err)
{
	struct dm_state device, pool;
	struct dm_line table;
	unsigned number[2];

	*ret = (struct placeholder){ .thin = true, .id = id };
	if (!dm_name_of(vg, lv, ret->name) || !dm_by_uuid(origin, &device) || !device.exists ||
	    !dm_read_table(device.name, false, &table) || strcmp(table.type, "thin") != 0 ||
	    sscanf(table.params, "%u:%u %u", &number[0], &number[1], &ret->origin_id) != 3 ||
	    !dm_by_number(makedev(number[0], number[1]), &pool) || !pool.exists)
		return strange(lv, "its origin is not a thin volume in a pool that is active", err);
	text_format(ret->uuid, sizeof ret->uuid, "%s", uuid);
	text_format(ret->origin, sizeof ret->origin, "%s", origin);
	text_format(ret->pool, sizeof ret->pool, "%s", pool.name);
	ret->length = table.length;
	return 0;
}

/* ---- making ready ---- */

static int empty_store(const struct placeholder *placeholder, struct err *err)
{
	autofree char *zero = aligned_alloc(STORE_ALIGN, STORE_HEAD_SIZE);
	struct dm_state store;

	if (!zero)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the LVM worker");
	memset(zero, 0, STORE_HEAD_SIZE);
	if (!dm_by_name(placeholder->store, &store) || !store.exists)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The store %s of the copy is gone: somebody has removed it",
			       placeholder->store);
	autoclose int fd = dm_open(store.number, O_RDWR | O_DIRECT | O_SYNC);
	if (fd < 0 || pwrite(fd, zero, STORE_HEAD_SIZE, 0) != (ssize_t)STORE_HEAD_SIZE)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot empty the store %s",
				 placeholder->store);
	return 0;
}

/* Loading writes a new header; nothing else may have taken the name meanwhile. */
static int load_again(const struct placeholder *placeholder, struct err *err)
{
	struct dm_line table = { .length = placeholder->length, .type = "snapshot", .n_targets = 1 };

	memcpy(table.params, placeholder->params, sizeof table.params);
	return dm_load_new(placeholder->name, placeholder->uuid, &table, err);
}

static int delete_thin(const struct placeholder *placeholder, struct err *err)
{
	char message[32];

	snprintf(message, sizeof message, "delete %u", placeholder->id);
	return dm_message(placeholder->pool, message, err);
}

int placeholders_ready(const struct placeholder *const *list, size_t n, struct err *err)
{
	const char *names[LVM_MEMBERS_MAX] = { NULL };
	size_t n_names = 0;

	for (size_t i = 0; i < n && n_names < ARRAY_SIZE(names); i++)
		if (!list[i]->thin)
			names[n_names++] = list[i]->name;
	if (dm_remove(names, n_names, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (list[i]->thin ? delete_thin(list[i], err) < 0
				  : empty_store(list[i], err) < 0 || load_again(list[i], err) < 0)
			return -1;
	return 0;
}

enum placeholder_state placeholder_look(const struct placeholder *placeholder)
{
	struct dm_state device, other;
	struct dm_line table;

	if (!dm_by_name(placeholder->thin ? placeholder->pool : placeholder->store, &other) || !other.exists ||
	    !dm_by_name(placeholder->name, &device))
		return PLACEHOLDER_LOST;
	if (placeholder->thin)
		return device.exists ? PLACEHOLDER_LIVE : PLACEHOLDER_READY;
	if (device.exists && strcmp(device.uuid, placeholder->uuid) != 0)
		return PLACEHOLDER_LOST;
	if (!device.exists || device.live || !device.loaded || !dm_read_table(placeholder->name, true, &table) ||
	    strcmp(table.params, placeholder->params) != 0)
		return PLACEHOLDER_LIVE;
	return PLACEHOLDER_READY;
}

/* ---- a thin copy's device ---- */

int placeholder_activate(const struct placeholder *placeholder, struct err *err)
{
	struct dm_line table = { .length = placeholder->length, .type = "thin", .n_targets = 1 };
	struct dm_state device, pool;

	if (!placeholder->thin)
		return 0;
	if (dm_by_name(placeholder->name, &device) && device.exists)
		return 0;
	if (!dm_by_name(placeholder->pool, &pool) || !pool.exists)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The pool %s is not active any more", placeholder->pool);
	snprintf(table.params, sizeof table.params, "%u:%u %u", major(pool.number), minor(pool.number),
		 placeholder->id);
	return dm_activate_new(placeholder->name, placeholder->uuid, &table, DM_FLAGS_SNAPSHOT, err);
}

int placeholder_deactivate(const struct placeholder *placeholder, struct err *err)
{
	const char *name = placeholder->name;

	return placeholder->thin ? dm_remove(&name, 1, err) : 0;
}

/* ---- from one op to the next ---- */

int placeholder_save(const struct placeholder *p, struct err *err)
{
	autojson json_t *description =
	    json_pack("{sb ss ss ss sI ss ss ss si si ss}", "Thin", p->thin, "Name", p->name, "Uuid", p->uuid, "Origin",
		      p->origin, "Length", (json_int_t)p->length, "Params", p->params, "Store", p->store, "Pool",
		      p->pool, "Id", (int)p->id, "OriginId", (int)p->origin_id, "Locks", p->locks);
	autofree char *text = description ? json_dumps(description, JSON_COMPACT) : NULL;
	autoclose int fd = memfd_create("vss-placeholder", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (!text || fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the LVM worker");
	return steal_fd(fd);
}

static void take(char *text, size_t size, const json_t *description, const char *key)
{
	const char *value = json_string_value(json_object_get(description, key));

	text_format(text, size, "%s", value ? value : "");
}

int placeholder_load(int fd, struct placeholder *ret, struct err *err)
{
	char text[DESCRIPTION_MAX];
	ssize_t n = pread(fd, text, sizeof text, 0);
	autojson json_t *description = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;

	*ret = (struct placeholder){ .thin = json_is_true(json_object_get(description, "Thin")) };
	take(ret->name, sizeof ret->name, description, "Name");
	take(ret->uuid, sizeof ret->uuid, description, "Uuid");
	take(ret->origin, sizeof ret->origin, description, "Origin");
	take(ret->params, sizeof ret->params, description, "Params");
	take(ret->store, sizeof ret->store, description, "Store");
	take(ret->pool, sizeof ret->pool, description, "Pool");
	take(ret->locks, sizeof ret->locks, description, "Locks");
	ret->length = (uint64_t)json_integer_value(json_object_get(description, "Length"));
	ret->id = (unsigned)json_integer_value(json_object_get(description, "Id"));
	ret->origin_id = (unsigned)json_integer_value(json_object_get(description, "OriginId"));
	if (!*ret->name || !*ret->uuid || !*ret->origin || *ret->locks != '/')
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"Store\" of the request is not one that prepare gave");
	return 0;
}
