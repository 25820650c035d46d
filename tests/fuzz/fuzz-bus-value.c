/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raw D-Bus messages (even first byte), or bodies for a header of ours: signature, NUL, body (odd). What can be read as
 * JSON and written again must be read the same. */
#include <string.h>

#include "common/bus-value.h"
#include "common/cleanup.h"
#include "fuzz.h"

#define SIGNATURE_MAX 64

static size_t pad(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t put_field(uint8_t *at, size_t n, uint8_t code, char type, const char *text)
{
	size_t length = strlen(text);

	n = pad(n, 8);
	memcpy(at + n, (uint8_t[]){ code, 1, (uint8_t)type, 0 }, 4);
	n += 4;
	if (type == 'g') {
		at[n++] = (uint8_t)length;
	} else {
		memcpy(at + n, &(uint32_t){ (uint32_t)length }, 4);
		n += 4;
	}
	memcpy(at + n, text, length + 1);
	return n + length + 1;
}

/* A signal with the signature and body given, little endian as this machine is. */
static DBusMessage *wrap(const uint8_t *data, size_t size)
{
	uint8_t bytes[512 + 65536] = { 'l', DBUS_MESSAGE_TYPE_SIGNAL, 0, 1 };
	const uint8_t *end = memchr(data, 0, size < SIGNATURE_MAX ? size : SIGNATURE_MAX);
	size_t n = 16;
	uint32_t body;

	if (!end || size > 65536)
		return NULL;
	body = (uint32_t)(size - (size_t)(end + 1 - data));
	n = put_field(bytes, n, DBUS_HEADER_FIELD_PATH, 'o', "/");
	n = put_field(bytes, n, DBUS_HEADER_FIELD_INTERFACE, 's', "org.vssd.Fuzz1");
	n = put_field(bytes, n, DBUS_HEADER_FIELD_MEMBER, 's', "Fuzz");
	n = put_field(bytes, n, DBUS_HEADER_FIELD_SIGNATURE, 'g', (const char *)data);
	memcpy(bytes + 4, (uint32_t[]){ body, 1, (uint32_t)n - 16 }, 12);
	n = pad(n, 8);
	memcpy(bytes + n, end + 1, body);
	return dbus_message_demarshal((const char *)bytes, (int)(n + body), NULL);
}

static json_t *read_args(DBusMessage *message)
{
	int fds[BUS_VALUE_FDS_MAX];
	size_t n_fds = 0;
	json_t *args = NULL;
	struct err err = { 0 };

	if (bus_value_read(message, &args, fds, &n_fds, &err) < 0) {
		must(err.code && *err.text);
		return NULL;
	}
	must(json_is_array(args) && n_fds == 0);
	return args;
}

static void check(DBusMessage *message)
{
	autojson json_t *args = read_args(message), *again = NULL;
	DBusMessage *copy = dbus_message_new_signal("/", "org.vssd.Fuzz1", "Fuzz");
	struct err err = { 0 };

	if (args && bus_value_append(copy, dbus_message_get_signature(message), args, NULL, 0, &err) == 0) {
		must(strcmp(dbus_message_get_signature(copy), dbus_message_get_signature(message)) == 0);
		again = read_args(copy);
		must(json_equal(args, again));
	} else {
		must(!args || (err.code && *err.text));
	}
	dbus_message_unref(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DBusMessage *message;

	if (size < 2)
		return 0;
	message = data[0] % 2 ? wrap(data + 1, size - 1) :
				dbus_message_demarshal((const char *)data + 1, (int)size - 1, NULL);
	if (message) {
		check(message);
		dbus_message_unref(message);
	}
	return 0;
}
