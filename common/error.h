/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The error table and the error value that every fallible function of vssd fills. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum vss_error {
	VSS_OK = 0,
#define ERROR(name, dbus, code, text, retryable) VSS_E_##name,
#include "common/errors.def"
#undef ERROR
	VSS_E_COUNT
};

/* One failure: what failed, on which object, which rule, what to do. A zeroed one means no error. */
struct err {
	enum vss_error code;
	char text[1024]; /* for people; UTF-8, cut on a character if too long */
};

/* Fills err (which may be NULL) and returns -1, so that a caller can `return err_set(...)`. */
int err_set(struct err *err, enum vss_error code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": strerror(errno_value)" and picks the code that fits the errno
 * (ENOSPC, EDQUOT: insufficient storage; EACCES, EPERM: access denied; ENOENT: not found; ENOMEM; EBUSY: volume in
 * use; otherwise fallback). */
int err_errno(struct err *err, int errno_value, enum vss_error fallback, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

uint32_t error_code(enum vss_error error);           /* VSS's number, e.g. 0x80042316; 0 for VSS_OK */
const char *error_name(enum vss_error error);        /* "SnapshotSetInProgress"; "" for VSS_OK */
const char *error_dbus_name(enum vss_error error);   /* "org.vssd.Error.SnapshotSetInProgress" */
const char *error_text(enum vss_error error);        /* the table's short text; "No error" for VSS_OK */
bool error_is_retryable(enum vss_error error);       /* trying the same again may help */
enum vss_error error_from_name(const char *name);    /* with or without the D-Bus prefix; VSS_E_UNEXPECTED if unknown */
enum vss_error error_from_code(uint32_t code);       /* VSS_E_UNEXPECTED if unknown */
