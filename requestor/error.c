/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From the bus's and the coordinator's errors to the caller's struct vss_failure. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "requestor/connection.h"

static void fill(struct vss_failure *error, enum vss_error code)
{
	error->code = error_code(code);
	error->retryable = error_is_retryable(code);
	snprintf(error->name, sizeof error->name, "%s", error_name(code));
}

int fail(struct vss_failure *error, enum vss_error code, const char *format, ...)
{
	va_list args;

	if (!error)
		return -1;
	fill(error, code);
	va_start(args, format);
	vsnprintf(error->text, sizeof error->text, format, args);
	va_end(args);
	return -1;
}

int fail_from(struct vss_failure *error, const struct err *err)
{
	return fail(error, err->code ? err->code : VSS_E_UNEXPECTED, "%s", err->text);
}

/* What the bus or the clock says about vssd itself is told in vssd's words; the rest is vssd's own text. */
int fail_from_answer(struct vss_failure *error, const struct answer *answer)
{
	if (answer->gone)
		return fail(error, VSS_E_NOT_AVAILABLE,
			    "vssd cannot be reached: %s. Is it installed and able to start (systemctl status vssd)?",
			    answer->text);
	if (answer->late)
		return fail(error, VSS_E_TIMED_OUT, "vssd did not answer %s within %llu seconds", answer->method,
			    (unsigned long long)(answer->limit_usec / USEC_PER_SEC));
	if (answer->unknown)
		return fail(error, VSS_E_OBJECT_NOT_FOUND, "vssd has no such object or method: %s", answer->text);
	return fail(error, answer->error, "%s", answer->text);
}

int fail_from_result(struct vss_failure *error, json_t *result)
{
	const char *name = json_string_value(json_object_get(result, "Error"));
	const char *message = json_string_value(json_object_get(result, "Message"));
	json_t *code = json_object_get(result, "Code"), *retryable = json_object_get(result, "Retryable");
	enum vss_error known = error_from_name(name ? name : "");

	if (json_is_true(json_object_get(result, "Success")))
		return 0;
	if (!error)
		return -1;
	fail(error, known, "%s", message && *message ? message : error_text(known));
	if (json_integer_value(code))
		error->code = (uint32_t)json_integer_value(code);
	if (json_is_boolean(retryable))
		error->retryable = json_is_true(retryable);
	if (name && *name && known == VSS_E_UNEXPECTED) {
		const char *dot = strrchr(name, '.');
		snprintf(error->name, sizeof error->name, "%s", dot ? dot + 1 : name);
	}
	return -1;
}
