/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/tags.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"

#define TAG_PREFIX "vss."
#define COPY_PREFIX "vss-"
#define VALUE_MAX                                                                                                      \
	640u /* bytes of a text that is kept; paths that are longer are cut, and the document has them whole */
#define TAG_VALUE_MAX 1000u /* LVM's limit for a tag is 1024 with its name */

void copy_name(const char *copy, char name[COPY_NAME_SIZE])
{
	char hex[ID_HEX_SIZE];

	id_to_hex(copy, hex);
	snprintf(name, COPY_NAME_SIZE, COPY_PREFIX "%.12s", hex);
}

/* ---- one value ---- */

static bool is_kept(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("_.-/:", c));
}

void tag_encode(const char *value, char *text, size_t size)
{
	size_t n = 0;

	for (; *value && n + 4 < size; value++) {
		if (is_kept(*value))
			text[n++] = *value;
		else
			n += (size_t)snprintf(text + n, 4, "+%02x", (unsigned char)*value);
	}
	text[n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Control characters are nobody's business in what vssd prints. */
bool tag_decode(const char *text, size_t length, char *value, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		int c = text[i];
		if (c == '+') {
			int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
			int low = high < 0 ? -1 : hex_digit(text[i + 2]);
			if (low < 0)
				return false;
			c = high << 4 | low;
			i += 2;
		} else if (!is_kept((char)c)) {
			return false;
		}
		if (c < ' ' && c >= 0)
			return false;
		if (n + 1 >= size)
			return false;
		value[n++] = (char)c;
	}
	value[n] = '\0';
	return true;
}

/* ---- reading ---- */

static const char *find_tag(const char *tags, const char *key, size_t *ret_length)
{
	size_t length = strlen(key);

	for (const char *tag = tags; *tag; tag += tag[0] == ',') {
		size_t n = strcspn(tag, ",");
		if (n > sizeof TAG_PREFIX - 1 + length && strncmp(tag, TAG_PREFIX, sizeof TAG_PREFIX - 1) == 0 &&
		    strncmp(tag + sizeof TAG_PREFIX - 1, key, length) == 0 &&
		    tag[sizeof TAG_PREFIX - 1 + length] == '=') {
			*ret_length = n - (sizeof TAG_PREFIX - 1) - length - 1;
			return tag + sizeof TAG_PREFIX + length;
		}
		tag += n;
	}
	return NULL;
}

static bool read_tag(const char *tags, const char *key, char *value, size_t size)
{
	size_t length;
	const char *text = find_tag(tags, key, &length);

	value[0] = '\0';
	return text && tag_decode(text, length, value, size);
}

static bool is_host(const char *host)
{
	for (const char *p = host; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
			return false;
	return *host != '\0';
}

bool copy_tags_read(const char *tags, const char *name, struct copy_tags *ret)
{
	char state[16], expected[COPY_NAME_SIZE];

	*ret = (struct copy_tags){ 0 };
	if (!read_tag(tags, "copy", ret->copy, sizeof ret->copy) || !id_is_valid(ret->copy) ||
	    !read_tag(tags, "set", ret->set, sizeof ret->set) || !id_is_valid(ret->set) ||
	    !read_tag(tags, "host", ret->host, sizeof ret->host) || !is_host(ret->host) ||
	    !read_tag(tags, "state", state, sizeof state))
		return false;
	copy_name(ret->copy, expected);
	if (strcmp(name, expected) != 0)
		return false;
	if (strcmp(state, "committed") == 0)
		ret->state = COPY_COMMITTED;
	else if (strcmp(state, "preparing") == 0)
		ret->state = COPY_PREPARING;
	else
		return false;
	return true;
}

/* ---- the record ---- */

enum kind { TEXT, ID, NUMBER, FLAG };

/* What is kept of the record, and where it lies in it. */
static const struct {
	const char *tag, *key;
	enum kind kind;
	bool of_volume, first; /* first: known when the copy's volume is made */
} fields[] = {
	{ "path", "Path", TEXT, true, true },
	{ "volume", "Id", TEXT, true, true },
	{ "device", "Device", TEXT, true, true },
	{ "fsuuid", "FsUuid", TEXT, true, true },
	{ "type", "Type", TEXT, true, true },
	{ "set", "Set", ID, false, true },
	{ "host", "Host", TEXT, false, true },
	{ "count", "SetCount", NUMBER, false, false },
	{ "created", "Created", NUMBER, false, false },
	{ "hostname", "HostName", TEXT, false, false },
	{ "persistent", "Persistent", FLAG, false, false },
	{ "context", "Context", TEXT, false, false },
	{ "session", "Session", ID, false, false },
	{ "consistency", "Consistency", TEXT, false, false },
	{ "reason", "ConsistencyReason", TEXT, false, false },
	{ "instant", "Instant", TEXT, false, false },
	{ "instant-reason", "InstantReason", TEXT, false, false },
};

static json_t *parse_value(enum kind kind, const char *text)
{
	char *end, clean[VALUE_MAX + 1];
	long long number;

	switch (kind) {
	case TEXT:
		text_format(clean, sizeof clean, "%s", text); /* one that was cut may end inside a character */
		return json_string(clean);
	case ID:
		return id_is_valid(text) ? json_string(text) : NULL;
	case FLAG:
		return json_boolean(strcmp(text, "1") == 0);
	case NUMBER:
		break;
	}
	number = strtoll(text, &end, 10);
	return *text && !*end && number >= 0 ? json_integer(number) : NULL;
}

json_t *copy_tags_record(const char *tags)
{
	json_t *volume = json_object(), *record = json_pack("{so}", "Volume", volume);
	char value[VALUE_MAX + 1];

	for (size_t i = 0; record && i < ARRAY_SIZE(fields); i++) {
		if (!read_tag(tags, fields[i].tag, value, sizeof value))
			continue;
		json_t *parsed = parse_value(fields[i].kind, value);
		if (parsed)
			json_object_set_new(fields[i].of_volume ? volume : record, fields[i].key, parsed);
	}
	return record;
}

/* ---- writing ---- */

static bool add_tag(char line[TAG_LINE_SIZE], const char *key, const char *value)
{
	char kept[VALUE_MAX + 1], text[TAG_VALUE_MAX];
	size_t used = strlen(line);
	int n;

	text_format(kept, sizeof kept, "%s", value);
	tag_encode(kept, text, sizeof text);
	n = snprintf(line + used, TAG_LINE_SIZE - used, " --addtag=" TAG_PREFIX "%s=%s", key, text);
	return n > 0 && (size_t)n < TAG_LINE_SIZE - used;
}

static bool add_value(char line[TAG_LINE_SIZE], const char *tag, const json_t *value)
{
	char number[24];

	if (json_is_boolean(value))
		return add_tag(line, tag, json_is_true(value) ? "1" : "0");
	if (json_is_string(value))
		return !*json_string_value(value) || add_tag(line, tag, json_string_value(value));
	if (!json_is_integer(value))
		return true;
	snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
	return add_tag(line, tag, number);
}

bool copy_tags_first(char line[TAG_LINE_SIZE], const char *copy, const char *set, const char *host,
		     const json_t *volume)
{
	bool fits;

	line[0] = '\0';
	fits = is_host(host) && add_tag(line, "copy", copy) && add_tag(line, "set", set) &&
	       add_tag(line, "host", host) && add_tag(line, "state", "preparing");
	for (size_t i = 0; fits && i < ARRAY_SIZE(fields); i++)
		if (fields[i].of_volume && fields[i].first)
			fits = add_value(line, fields[i].tag, json_object_get(volume, fields[i].key));
	return fits;
}

bool copy_tags_commit(char line[TAG_LINE_SIZE], const json_t *record)
{
	bool fits;

	line[0] = '\0';
	snprintf(line, TAG_LINE_SIZE, " --deltag=" TAG_PREFIX "state=preparing");
	fits = add_tag(line, "state", "committed");
	for (size_t i = 0; fits && i < ARRAY_SIZE(fields); i++)
		if (!fields[i].first)
			fits = add_value(line, fields[i].tag, json_object_get(record, fields[i].key));
	return fits;
}
