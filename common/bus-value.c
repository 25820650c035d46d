/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/bus-value.h"

#include <inttypes.h>
#include <string.h>

#include "common/cleanup.h"

/* ---- D-Bus to JSON: libdbus lets no text through that is not UTF-8, so it is not looked at again ---- */

struct reader {
	int *fds;
	size_t n_fds;
	unsigned nodes;
	struct err *err;
};

static json_t *read_value(struct reader *r, DBusMessageIter *it, int depth);

static json_t *refuse(struct reader *r, const char *why)
{
	err_set(r->err, VSS_E_LIMITS_EXCEEDED, "The message was refused: %s", why);
	return NULL;
}

static bool is_key_type(int type)
{
	return type == DBUS_TYPE_STRING || type == DBUS_TYPE_OBJECT_PATH;
}

static json_t *read_object(struct reader *r, DBusMessageIter *array, int depth)
{
	json_t *object = json_object();

	for (; dbus_message_iter_get_arg_type(array) == DBUS_TYPE_DICT_ENTRY; dbus_message_iter_next(array)) {
		DBusMessageIter entry;
		const char *key;

		dbus_message_iter_recurse(array, &entry);
		if (!is_key_type(dbus_message_iter_get_arg_type(&entry))) {
			json_decref(object);
			return refuse(r, "a dictionary's keys are not strings");
		}
		dbus_message_iter_get_basic(&entry, &key);
		dbus_message_iter_next(&entry);
		json_t *value = read_value(r, &entry, depth + 1);
		if (!value) {
			json_decref(object);
			return NULL;
		}
		json_object_set_new_nocheck(object, key, value);
	}
	return object;
}

static json_t *read_array(struct reader *r, DBusMessageIter *it, int depth)
{
	json_t *array = json_array();

	for (; dbus_message_iter_get_arg_type(it) != DBUS_TYPE_INVALID; dbus_message_iter_next(it)) {
		json_t *value = read_value(r, it, depth + 1);
		if (!value) {
			json_decref(array);
			return NULL;
		}
		json_array_append_new(array, value);
	}
	return array;
}

static json_t *read_fd(struct reader *r, DBusMessageIter *it)
{
	int fd = -1;

	dbus_message_iter_get_basic(it, &fd);
	if (fd < 0)
		return refuse(r, "it carries a descriptor that cannot be received");
	if (r->n_fds == BUS_VALUE_FDS_MAX) {
		close(fd);
		return refuse(r, "it carries more than 16 descriptors");
	}
	r->fds[r->n_fds] = fd;
	return json_integer((json_int_t)r->n_fds++);
}

static json_t *read_integer(struct reader *r, DBusMessageIter *it, int type)
{
	DBusBasicValue v = { 0 };

	dbus_message_iter_get_basic(it, &v);
	switch (type) {
	case DBUS_TYPE_BYTE:
		return json_integer(v.byt);
	case DBUS_TYPE_INT16:
		return json_integer(v.i16);
	case DBUS_TYPE_UINT16:
		return json_integer(v.u16);
	case DBUS_TYPE_INT32:
		return json_integer(v.i32);
	case DBUS_TYPE_UINT32:
		return json_integer(v.u32);
	case DBUS_TYPE_INT64:
		return json_integer(v.i64);
	default:
		if (v.u64 > INT64_MAX)
			return refuse(r, "it holds an integer above 2^63-1");
		return json_integer((json_int_t)v.u64);
	}
}

static json_t *read_container(struct reader *r, DBusMessageIter *it, int type, int depth)
{
	DBusMessageIter sub;

	dbus_message_iter_recurse(it, &sub);
	if (type == DBUS_TYPE_VARIANT)
		return read_value(r, &sub, depth + 1);
	if (type == DBUS_TYPE_ARRAY && dbus_message_iter_get_element_type(it) == DBUS_TYPE_DICT_ENTRY)
		return read_object(r, &sub, depth);
	return read_array(r, &sub, depth);
}

static json_t *read_value(struct reader *r, DBusMessageIter *it, int depth)
{
	int type = dbus_message_iter_get_arg_type(it);
	const char *text;
	dbus_bool_t boolean;
	double real;

	if (++r->nodes > BUS_VALUE_NODES_MAX)
		return refuse(r, "it holds more than 200000 values");
	if (depth > BUS_VALUE_DEPTH_MAX)
		return refuse(r, "its values are nested deeper than 24 levels");
	switch (type) {
	case DBUS_TYPE_STRING:
	case DBUS_TYPE_OBJECT_PATH:
	case DBUS_TYPE_SIGNATURE:
		dbus_message_iter_get_basic(it, &text);
		return json_string_nocheck(text);
	case DBUS_TYPE_BOOLEAN:
		dbus_message_iter_get_basic(it, &boolean);
		return json_boolean(boolean);
	case DBUS_TYPE_DOUBLE:
		dbus_message_iter_get_basic(it, &real);
		return json_real(real) ?: refuse(r, "it holds a number that is not finite");
	case DBUS_TYPE_UNIX_FD:
		return read_fd(r, it);
	case DBUS_TYPE_ARRAY:
	case DBUS_TYPE_STRUCT:
	case DBUS_TYPE_VARIANT:
		return read_container(r, it, type, depth);
	default:
		return read_integer(r, it, type);
	}
}

int bus_value_read(DBusMessage *message, json_t **ret_args, int fds[BUS_VALUE_FDS_MAX], size_t *ret_n_fds,
		   struct err *err)
{
	struct reader r = { .fds = fds, .err = err };
	DBusMessageIter it;
	json_t *args;

	dbus_message_iter_init(message, &it);
	args = read_array(&r, &it, 0);
	if (!args) {
		if (err && !err->code)
			err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
		for (size_t i = 0; i < r.n_fds; i++)
			close(fds[i]);
		return -1;
	}
	*ret_args = args;
	*ret_n_fds = r.n_fds;
	return 0;
}

/* ---- JSON to D-Bus ---- */

struct appender {
	const int *fds;
	size_t n_fds;
	unsigned depth;
	size_t size; /* of the message, rather too much than too little */
	struct err *err;
};

static int append_value(struct appender *a, DBusMessageIter *it, DBusSignatureIter *sig, json_t *value);

static int mismatch(struct appender *a, const char *wanted)
{
	return err_set(a->err, VSS_E_INVALID_ARGUMENT, "A value has the wrong type: %s is wanted", wanted);
}

/* The signature that a JSON value gets inside a variant. */
static const char *variant_signature(json_t *value)
{
	size_t i;
	json_t *member;
	bool strings = true, objects = true;

	switch (json_typeof(value)) {
	case JSON_STRING:
		return "s";
	case JSON_INTEGER:
		return "x";
	case JSON_REAL:
		return "d";
	case JSON_TRUE:
	case JSON_FALSE:
		return "b";
	case JSON_OBJECT:
		return json_object_get(value, "$fd") ? "h" : "a{sv}";
	case JSON_ARRAY:
		json_array_foreach(value, i, member) {
			strings = strings && json_is_string(member);
			objects = objects && json_is_object(member) && !json_object_get(member, "$fd");
		}
		return strings ? "as" : objects ? "aa{sv}" : "av";
	case JSON_NULL:
		break;
	}
	return "s";
}

static int append_variant(struct appender *a, DBusMessageIter *it, json_t *value)
{
	const char *signature = variant_signature(value);
	DBusSignatureIter sig;
	DBusMessageIter sub;

	dbus_signature_iter_init(&sig, signature);
	if (!dbus_message_iter_open_container(it, DBUS_TYPE_VARIANT, signature, &sub))
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	if (append_value(a, &sub, &sig, value) < 0) {
		dbus_message_iter_abandon_container(it, &sub);
		return -1;
	}
	dbus_message_iter_close_container(it, &sub);
	return 0;
}

static int append_entry(struct appender *a, DBusMessageIter *array, DBusSignatureIter *entry_sig, const char *key,
			json_t *value)
{
	DBusSignatureIter sig;
	DBusMessageIter entry;
	int key_type;

	dbus_signature_iter_recurse(entry_sig, &sig);
	key_type = dbus_signature_iter_get_current_type(&sig);
	if (!is_key_type(key_type))
		return mismatch(a, "a dictionary with string keys");
	dbus_signature_iter_next(&sig);
	if (!dbus_validate_utf8(key, NULL) || (key_type == DBUS_TYPE_OBJECT_PATH && !dbus_validate_path(key, NULL)))
		return mismatch(a, "a key in UTF-8, or an object path");
	if (!dbus_message_iter_open_container(array, DBUS_TYPE_DICT_ENTRY, NULL, &entry))
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	dbus_message_iter_append_basic(&entry, key_type, &key);
	a->size += 16 + strlen(key);
	if (append_value(a, &entry, &sig, value) < 0) {
		dbus_message_iter_abandon_container(array, &entry);
		return -1;
	}
	dbus_message_iter_close_container(array, &entry);
	return 0;
}

static int append_members(struct appender *a, DBusMessageIter *sub, DBusSignatureIter *element, json_t *value)
{
	const char *key;
	json_t *member;
	size_t i;

	if (dbus_signature_iter_get_current_type(element) == DBUS_TYPE_DICT_ENTRY) {
		if (!json_is_object(value))
			return mismatch(a, "a dictionary");
		json_object_foreach(value, key, member)
			if (!json_is_null(member) && append_entry(a, sub, element, key, member) < 0)
				return -1;
		return 0;
	}
	if (!json_is_array(value))
		return mismatch(a, "an array");
	json_array_foreach(value, i, member) {
		DBusSignatureIter sig = *element;
		if (append_value(a, sub, &sig, member) < 0)
			return -1;
	}
	return 0;
}

static int append_array(struct appender *a, DBusMessageIter *it, DBusSignatureIter *sig, json_t *value)
{
	DBusSignatureIter element;
	DBusMessageIter sub;
	char *element_signature;
	int r;

	dbus_signature_iter_recurse(sig, &element);
	element_signature = dbus_signature_iter_get_signature(&element);
	r = dbus_message_iter_open_container(it, DBUS_TYPE_ARRAY, element_signature, &sub);
	dbus_free(element_signature);
	if (!r)
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	if (append_members(a, &sub, &element, value) < 0) {
		dbus_message_iter_abandon_container(it, &sub);
		return -1;
	}
	dbus_message_iter_close_container(it, &sub);
	return 0;
}

static bool is_in_range(int type, json_int_t n)
{
	switch (type) {
	case DBUS_TYPE_BYTE:
		return n >= 0 && n <= UINT8_MAX;
	case DBUS_TYPE_INT16:
		return n >= INT16_MIN && n <= INT16_MAX;
	case DBUS_TYPE_UINT16:
		return n >= 0 && n <= UINT16_MAX;
	case DBUS_TYPE_INT32:
		return n >= INT32_MIN && n <= INT32_MAX;
	case DBUS_TYPE_UINT32:
		return n >= 0 && n <= UINT32_MAX;
	case DBUS_TYPE_UINT64:
		return n >= 0;
	default:
		return true;
	}
}

static int append_integer(struct appender *a, DBusMessageIter *it, int type, json_t *value)
{
	json_int_t n = json_integer_value(value);
	DBusBasicValue v = { 0 };

	if (!json_is_integer(value))
		return mismatch(a, "an integer");
	if (!is_in_range(type, n))
		return mismatch(a, "an integer that fits the type");
	switch (type) {
	case DBUS_TYPE_BYTE:
		v.byt = (unsigned char)n;
		break;
	case DBUS_TYPE_INT16:
		v.i16 = (dbus_int16_t)n;
		break;
	case DBUS_TYPE_UINT16:
		v.u16 = (dbus_uint16_t)n;
		break;
	case DBUS_TYPE_INT32:
		v.i32 = (dbus_int32_t)n;
		break;
	case DBUS_TYPE_UINT32:
		v.u32 = (dbus_uint32_t)n;
		break;
	default:
		v.i64 = n;
		break;
	}
	if (!dbus_message_iter_append_basic(it, type, &v))
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	return 0;
}

static int append_text(struct appender *a, DBusMessageIter *it, int type, json_t *value)
{
	const char *text = json_string_value(value);

	if (!text)
		return mismatch(a, "a string");
	/* libdbus treats these as programming errors and ends the process: they are checked here, once. */
	if (strlen(text) != json_string_length(value) || !dbus_validate_utf8(text, NULL))
		return mismatch(a, "a string without NUL, in UTF-8");
	if (type == DBUS_TYPE_OBJECT_PATH && !dbus_validate_path(text, NULL))
		return mismatch(a, "an object path");
	if (type == DBUS_TYPE_SIGNATURE && !dbus_signature_validate(text, NULL))
		return mismatch(a, "a signature");
	if (!dbus_message_iter_append_basic(it, type, &text))
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	return 0;
}

static int append_fd(struct appender *a, DBusMessageIter *it, json_t *value)
{
	json_t *index = json_is_object(value) ? json_object_get(value, "$fd") : value;
	json_int_t n = json_integer_value(index);

	if (!json_is_integer(index) || n < 0 || (size_t)n >= a->n_fds)
		return mismatch(a, "the index of a descriptor");
	if (!dbus_message_iter_append_basic(it, DBUS_TYPE_UNIX_FD, &a->fds[n]))
		return err_set(a->err, VSS_E_LIMITS_EXCEEDED, "A descriptor cannot be sent");
	return 0;
}

static int append_struct(struct appender *a, DBusMessageIter *it, DBusSignatureIter *sig, json_t *value)
{
	DBusSignatureIter field;
	DBusMessageIter sub;
	size_t i = 0;

	if (!json_is_array(value))
		return mismatch(a, "a struct");
	dbus_signature_iter_recurse(sig, &field);
	if (!dbus_message_iter_open_container(it, DBUS_TYPE_STRUCT, NULL, &sub))
		return err_set(a->err, VSS_E_OUT_OF_MEMORY, "Out of memory for a message");
	do {
		json_t *member = json_array_get(value, i++);
		if (!member || append_value(a, &sub, &field, member) < 0) {
			dbus_message_iter_abandon_container(it, &sub);
			return member ? -1 : mismatch(a, "a struct with as many members as its signature");
		}
	} while (dbus_signature_iter_next(&field));
	dbus_message_iter_close_container(it, &sub);
	return 0;
}

static int append_one(struct appender *a, DBusMessageIter *it, DBusSignatureIter *sig, json_t *value)
{
	int type = dbus_signature_iter_get_current_type(sig);
	dbus_bool_t boolean = json_is_true(value);
	double real = json_number_value(value);

	switch (type) {
	case DBUS_TYPE_STRING:
	case DBUS_TYPE_OBJECT_PATH:
	case DBUS_TYPE_SIGNATURE:
		return append_text(a, it, type, value);
	case DBUS_TYPE_BOOLEAN:
		if (!json_is_boolean(value))
			return mismatch(a, "a boolean");
		dbus_message_iter_append_basic(it, type, &boolean);
		return 0;
	case DBUS_TYPE_DOUBLE:
		if (!json_is_number(value))
			return mismatch(a, "a number");
		dbus_message_iter_append_basic(it, type, &real);
		return 0;
	case DBUS_TYPE_UNIX_FD:
		return append_fd(a, it, value);
	case DBUS_TYPE_ARRAY:
		return append_array(a, it, sig, value);
	case DBUS_TYPE_VARIANT:
		return append_variant(a, it, value);
	case DBUS_TYPE_STRUCT:
		return append_struct(a, it, sig, value);
	default:
		return append_integer(a, it, type, value);
	}
}

/* Bounded as what is read is: libdbus would not send much deeper ones, nor our peers take them. */
static int append_value(struct appender *a, DBusMessageIter *it, DBusSignatureIter *sig, json_t *value)
{
	int r;

	if (a->depth == BUS_VALUE_DEPTH_MAX)
		return err_set(a->err, VSS_E_LIMITS_EXCEEDED, "A value is nested deeper than %d levels",
			       BUS_VALUE_DEPTH_MAX);
	a->size += 16 + json_string_length(value);
	if (a->size > BUS_VALUE_SIZE_MAX)
		return err_set(a->err, VSS_E_LIMITS_EXCEEDED, "A message is larger than %u bytes", BUS_VALUE_SIZE_MAX);
	a->depth++;
	r = append_one(a, it, sig, value);
	a->depth--;
	return r;
}

int bus_value_append(DBusMessage *message, const char *signature, json_t *args, const int *fds, size_t n_fds,
		     struct err *err)
{
	struct appender a = { .fds = fds, .n_fds = n_fds, .err = err };
	DBusSignatureIter sig;
	DBusMessageIter it;
	size_t i = 0;

	if (!*signature)
		return 0;
	dbus_message_iter_init_append(message, &it);
	dbus_signature_iter_init(&sig, signature);
	do {
		json_t *value = json_array_get(args, i++);
		if (!value)
			return mismatch(&a, signature);
		if (append_value(&a, &it, &sig, value) < 0)
			return -1;
	} while (dbus_signature_iter_next(&sig));
	return 0;
}

int bus_value_append_to(DBusMessageIter *it, const char *signature, json_t *value, struct err *err)
{
	struct appender a = { .err = err };
	DBusSignatureIter sig;

	dbus_signature_iter_init(&sig, signature);
	return append_value(&a, it, &sig, value);
}
