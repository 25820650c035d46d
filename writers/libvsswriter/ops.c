/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The application's table: checked, copied as far as it reaches, completed. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "writers/libvsswriter/writer.h"

static int invalid(char *error, size_t error_size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int invalid(char *error, size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error && error_size > 0)
		vsnprintf(error, error_size, format, args);
	va_end(args);
	return -EINVAL;
}

static bool text_is_shown(const char *text, size_t max)
{
	size_t n = strlen(text);
	json_t *utf8 = json_string(text);

	json_decref(utf8);
	if (!utf8 || n == 0 || n > max)
		return false;
	for (size_t i = 0; i < n; i++)
		if (iscntrl((unsigned char)text[i]))
			return false;
	return true;
}

static int check_texts(const struct vss_writer_ops *ops, char *error, size_t size)
{
	if (!ops->id || !id_is_valid(ops->id))
		return invalid(error, size, "id must be a UUID in lower case, not \"%s\"", ops->id ? ops->id : "");
	if (!ops->name || !text_is_shown(ops->name, 80))
		return invalid(error, size, "name must be 1 to 80 printable UTF-8 characters");
	if (ops->instance && !id_is_valid(ops->instance))
		return invalid(error, size, "instance must be a UUID in lower case, not \"%s\"", ops->instance);
	if (ops->instance_name && !text_is_shown(ops->instance_name, 255))
		return invalid(error, size, "instance_name must be printable UTF-8");
	if (ops->app_version && !text_is_shown(ops->app_version, 255))
		return invalid(error, size, "app_version must be printable UTF-8");
	return 0;
}

static int check(const struct vss_writer_ops *ops, char *error, size_t size)
{
	if (ops->version < 1 || ops->version > VSS_WRITER_API_VERSION)
		return invalid(error, size, "version is %u; this library knows 1 to %u", ops->version,
			       VSS_WRITER_API_VERSION);
	if (check_texts(ops, error, size) < 0)
		return -EINVAL;
	if (ops->level != VSS_LEVEL_FRONT_END && ops->level != VSS_LEVEL_BACK_END && ops->level != VSS_LEVEL_SYSTEM)
		return invalid(error, size, "level %d is not known", (int)ops->level);
	if (ops->freeze_limit_msec > FREEZE_LIMIT_MAX_MSEC)
		return invalid(error, size, "freeze_limit_msec is %u; the most is %u", ops->freeze_limit_msec,
			       FREEZE_LIMIT_MAX_MSEC);
	if (!ops->freeze)
		return invalid(error, size, "the callback freeze is missing");
	if (!ops->thaw)
		return invalid(error, size, "the callback thaw is missing");
	return 0;
}

/* All of them even if memory runs out, so that ops_free never meets a string of the caller's. */
static int copy_texts(struct vss_writer_ops *ops)
{
	const char **texts[] = { &ops->id, &ops->name, &ops->instance, &ops->instance_name, &ops->app_version };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!*texts[i])
			continue;
		*texts[i] = strdup(*texts[i]);
		r = *texts[i] ? r : -ENOMEM;
	}
	return r;
}

int ops_copy(struct vss_writer_ops *to, const struct vss_writer_ops *from, char *error, size_t error_size)
{
	const size_t least = offsetof(struct vss_writer_ops, thaw) + sizeof from->thaw;
	struct vss_writer_ops ops = { 0 };

	if (from->size < least)
		return invalid(error, error_size, "size is %zu, less than %zu that hold the required fields", from->size,
			       least);
	/* A program built against an older header has fewer fields, against a newer one more than are known here. */
	memcpy(&ops, from, from->size < sizeof ops ? from->size : sizeof ops);
	int r = check(&ops, error, error_size);
	if (r < 0)
		return r;
	if (ops.freeze_limit_msec == 0)
		ops.freeze_limit_msec = FREEZE_LIMIT_MAX_MSEC;
	r = copy_texts(&ops);
	*to = ops;
	return r;
}

void ops_free(struct vss_writer_ops *ops)
{
	free((char *)ops->id);
	free((char *)ops->name);
	free((char *)ops->instance);
	free((char *)ops->instance_name);
	free((char *)ops->app_version);
}

vss_event_fn ops_callback(const struct vss_writer_ops *ops, enum vss_event event)
{
	switch (event) {
	case VSS_EVENT_IDENTIFY:
		return ops->identify;
	case VSS_EVENT_PREPARE_BACKUP:
		return ops->prepare_backup;
	case VSS_EVENT_PREPARE_SNAPSHOT:
		return ops->prepare_snapshot;
	case VSS_EVENT_FREEZE:
		return ops->freeze;
	case VSS_EVENT_THAW:
		return ops->thaw;
	case VSS_EVENT_POST_SNAPSHOT:
		return ops->post_snapshot;
	case VSS_EVENT_BACKUP_COMPLETE:
		return ops->backup_complete;
	case VSS_EVENT_BACKUP_SHUTDOWN:
		return ops->backup_shutdown;
	case VSS_EVENT_ABORT:
		return ops->abort ? ops->abort : ops->thaw;
	case VSS_EVENT_PRE_RESTORE:
		return ops->pre_restore;
	case VSS_EVENT_POST_RESTORE:
		return ops->post_restore;
	}
	return NULL;
}

/* FNV-1a of 128 bits: names one instance among a few thousand, guards nothing. */
static void mix(unsigned __int128 *hash, const char *text)
{
	const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13B;

	/* With its NUL, so that "ab","c" and "a","bc" differ. */
	for (size_t i = 0, n = text ? strlen(text) + 1 : 1; i < n; i++) {
		*hash ^= text ? (unsigned char)text[i] : 0;
		*hash *= prime;
	}
}

void ops_instance_id(const struct vss_writer_ops *ops, const char *machine_id, char id[ID_SIZE])
{
	unsigned __int128 hash = ((unsigned __int128)0x6C62272E07BB0142 << 64) | 0x62B821756295C58D;

	if (ops->instance) {
		memcpy(id, ops->instance, ID_SIZE);
		return;
	}
	mix(&hash, ops->id);
	mix(&hash, ops->name);
	mix(&hash, ops->instance_name);
	mix(&hash, machine_id);
	/* RFC 9562: version 8 is for ids made by a rule of one's own. */
	snprintf(id, ID_SIZE, "%08x-%04x-8%03x-%04x-%012llx", (unsigned)(hash >> 96), (unsigned)(hash >> 80) & 0xFFFF,
		 (unsigned)(hash >> 64) & 0xFFF, ((unsigned)(hash >> 48) & 0x3FFF) | 0x8000,
		 (unsigned long long)hash & 0xFFFFFFFFFFFFull);
}
