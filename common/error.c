/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "common/names.h"
#include "common/text.h"

struct error_row {
	const char *dbus_name;
	uint32_t code;
	const char *text;
	bool retryable;
};

static const struct error_row error_rows[VSS_E_COUNT] = {
	[VSS_OK] = { "", 0, "No error", false },
#define ERROR(name, dbus, number, words, again) [VSS_E_##name] = { VSS_ERROR_PREFIX dbus, number, words, again },
#include "common/errors.def"
#undef ERROR
};

int err_set(struct err *err, enum vss_error code, const char *format, ...)
{
	va_list args;

	if (!err)
		return -1;
	err->code = code;
	va_start(args, format);
	text_vformat(err->text, sizeof err->text, format, args);
	va_end(args);
	return -1;
}

static enum vss_error code_for_errno(int errno_value, enum vss_error fallback)
{
	switch (errno_value) {
	case ENOSPC:
	case EDQUOT:
		return VSS_E_INSUFFICIENT_STORAGE;
	case EACCES:
	case EPERM:
		return VSS_E_ACCESS_DENIED;
	case ENOENT:
		return VSS_E_OBJECT_NOT_FOUND;
	case ENOMEM:
		return VSS_E_OUT_OF_MEMORY;
	case EBUSY:
		return VSS_E_VOLUME_IN_USE;
	default:
		return fallback;
	}
}

int err_errno(struct err *err, int errno_value, enum vss_error fallback, const char *format, ...)
{
	char what[sizeof err->text];
	va_list args;

	va_start(args, format);
	text_vformat(what, sizeof what, format, args);
	va_end(args);
	return err_set(err, code_for_errno(errno_value, fallback), "%s: %s", what, strerror(errno_value));
}

static const struct error_row *row(enum vss_error error)
{
	return &error_rows[error < VSS_E_COUNT ? error : VSS_E_UNEXPECTED];
}

uint32_t error_code(enum vss_error error)
{
	return row(error)->code;
}

const char *error_dbus_name(enum vss_error error)
{
	return row(error)->dbus_name;
}

const char *error_name(enum vss_error error)
{
	const char *name = row(error)->dbus_name;

	return *name ? name + strlen(VSS_ERROR_PREFIX) : name;
}

const char *error_text(enum vss_error error)
{
	return row(error)->text;
}

bool error_is_retryable(enum vss_error error)
{
	return row(error)->retryable;
}

enum vss_error error_from_name(const char *name)
{
	size_t prefix = strlen(VSS_ERROR_PREFIX);

	if (strncmp(name, VSS_ERROR_PREFIX, prefix) == 0)
		name += prefix;
	for (enum vss_error error = VSS_OK + 1; error < VSS_E_COUNT; error++)
		if (strcmp(error_name(error), name) == 0)
			return error;
	return VSS_E_UNEXPECTED;
}

enum vss_error error_from_code(uint32_t code)
{
	for (enum vss_error error = VSS_OK; error < VSS_E_COUNT; error++)
		if (error_code(error) == code)
			return error;
	return VSS_E_UNEXPECTED;
}
