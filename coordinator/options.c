/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all faces do with a call's arguments. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/id.h"
#include "common/text.h"
#include "coordinator/faces.h"

const struct option_rule no_options[] = { { NULL, JSON_NULL } };

int options_check(json_t *options, const struct option_rule *rules, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(options, key, value) {
		const struct option_rule *rule = rules;
		while (rule->name && strcmp(rule->name, key) != 0)
			rule++;
		if (!rule->name)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "There is no option \"%.64s\" here", key);
		if (rule->type == JSON_TRUE ? !json_is_boolean(value) : json_typeof(value) != rule->type)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "The option \"%s\" has the wrong type", key);
		if (json_is_integer(value) && json_integer_value(value) < 0)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "The option \"%s\" is negative", key);
	}
	return 0;
}

json_t *call_options(struct bus_call *call)
{
	json_t *args = bus_call_args(call);

	return json_array_get(args, json_array_size(args) - 1);
}

bool options_accept(struct bus_call *call, const struct option_rule *rules)
{
	struct err err = { 0 };

	if (options_check(call_options(call), rules, &err) == 0)
		return true;
	bus_call_error(call, &err);
	return false;
}

const char *call_text(struct bus_call *call, size_t i)
{
	return json_string_value(json_array_get(bus_call_args(call), i)) ?: "";
}

void call_fail(struct bus_call *call, enum vss_error error, const char *format, ...)
{
	struct err err = { .code = error };
	va_list args;

	va_start(args, format);
	text_vformat(err.text, sizeof err.text, format, args);
	va_end(args);
	bus_call_error(call, &err);
}

char *face_path(const char *parent, const char *id)
{
	char hex[ID_HEX_SIZE], *path = NULL;

	id_to_hex(id, hex);
	return asprintf(&path, "%s/%s", parent, hex) < 0 ? NULL : path;
}
