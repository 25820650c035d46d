/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/ini.h"

/* One key: where it goes, what it holds by default, what is allowed. Spans are in usec. */
struct setting {
	const char *section, *key;
	bool is_span;
	bool zero_is_never;
	size_t offset;
	uint64_t standard, min, max;
};

#define SPAN(section, key, member, standard, min, max)                                                       \
	{ section, key, true, false, offsetof(struct config, member), (standard)*USEC_PER_SEC, min, \
	  (max)*USEC_PER_SEC }
#define SHORTEST (100 * USEC_PER_MSEC)
#define NUMBER(section, key, member, standard, min, max) \
	{ section, key, false, false, offsetof(struct config, member), standard, min, max }

#define HOUR UINT64_C(3600)
#define DAY (24 * HOUR)

static const struct setting settings[] = {
	{ "Coordinator", "IdleTimeoutSec", true, true, offsetof(struct config, idle_timeout), 180 * USEC_PER_SEC,
	  USEC_PER_SEC, 365 * DAY *USEC_PER_SEC },
	NUMBER("Coordinator", "MaxSessions", max_sessions, 64, 1, 1024),
	NUMBER("Coordinator", "MaxVolumes", max_volumes, 64, 1, 64),
	NUMBER("Coordinator", "MaxWriters", max_writers, 4096, 1, 65536),
	SPAN("Limits", "Identify", identify, 60, SHORTEST, HOUR),
	SPAN("Limits", "PrepareBackup", prepare_backup, 600, SHORTEST, DAY),
	SPAN("Limits", "PrepareSnapshot", prepare_snapshot, 600, SHORTEST, DAY),
	SPAN("Limits", "Freeze", freeze, 60, SHORTEST, 60),
	SPAN("Limits", "Event", event, 60, SHORTEST, DAY),
	SPAN("Limits", "Probe", probe, 2, 0, 60),
	SPAN("Limits", "Wait", wait, 60, 0, DAY),
	SPAN("Limits", "Resolve", resolve, 10, SHORTEST, HOUR),
	SPAN("Limits", "PrepareCopies", prepare_copies, 120, SHORTEST, DAY),
	SPAN("Limits", "Cut", cut, 10, SHORTEST, 60),
	{ "Limits", "MixedHoldLimit", true, false, offsetof(struct config, mixed_hold), 500 * USEC_PER_MSEC, USEC_PER_MSEC,
	  60 * USEC_PER_SEC },
	SPAN("Limits", "FinishCopies", finish_copies, 60, SHORTEST, DAY),
	SPAN("Limits", "RemoveCopies", remove_copies, 300, SHORTEST, DAY),
	NUMBER("Copies", "MaxCopiesPerVolume", max_copies, 512, 1, 65536),
	NUMBER("Copies", "MaxCowCopiesPerVolume", max_cow_copies, 8, 1, 512),
};

static void store(struct config *config, const struct setting *s, uint64_t value)
{
	char *place = (char *)config + s->offset;

	if (s->is_span)
		memcpy(place, &value, sizeof value);
	else
		memcpy(place, &(unsigned){ (unsigned)value }, sizeof(unsigned));
}

void config_defaults(struct config *config)
{
	*config = (struct config){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		store(config, &settings[i], settings[i].standard);
}

/* Digits alone: strtoull would take a sign and blanks. Returns what follows them; NULL without digits, or too large. */
static const char *parse_digits(const char *text, uint64_t *ret)
{
	const char *end = text;
	uint64_t value = 0;

	for (; *end >= '0' && *end <= '9'; end++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*end - '0'), &value))
			return NULL;
	*ret = value;
	return end == text ? NULL : end;
}

int config_parse_usec(const char *text, uint64_t *ret_usec)
{
	static const struct {
		const char *name;
		uint64_t usec;
	} units[] = {
		{ "", USEC_PER_SEC },           { "s", USEC_PER_SEC },         { "sec", USEC_PER_SEC },
		{ "us", 1 },                    { "ms", USEC_PER_MSEC },       { "min", 60 * USEC_PER_SEC },
		{ "h", HOUR * USEC_PER_SEC },   { "d", DAY * USEC_PER_SEC },
	};
	uint64_t value, usec;
	const char *unit = parse_digits(text, &value);

	if (!unit)
		return -1;
	if (*unit == ' ' && unit[strspn(unit, " ")])
		unit += strspn(unit, " ");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(value, units[i].usec, &usec) || usec == USEC_INFINITY)
			return -1;
		*ret_usec = usec;
		return 0;
	}
	return -1;
}

static const struct setting *find_setting(const char *section, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(settings[i].section, section) == 0 && strcmp(settings[i].key, key) == 0)
			return &settings[i];
	return NULL;
}

static bool is_section(const char *section)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(settings[i].section, section) == 0)
			return true;
	return false;
}

static int set_span(struct config *config, const struct setting *s, const char *value, struct err *err)
{
	uint64_t usec;

	if (config_parse_usec(value, &usec) < 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "%s=%s is not a time: write seconds, or a number with a unit (500ms, 90s, 2min, 1h, 1d)",
			       s->key, value);
	if (usec == 0 && s->zero_is_never) {
		store(config, s, USEC_INFINITY);
		return 0;
	}
	if (usec < s->min || usec > s->max)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s=%s is out of range: %s%llums to %llus are allowed", s->key, value,
			       s->zero_is_never ? "0 (never) or " : "", (unsigned long long)(s->min / USEC_PER_MSEC),
			       (unsigned long long)(s->max / USEC_PER_SEC));
	store(config, s, usec);
	return 0;
}

static int set_number(struct config *config, const struct setting *s, const char *value, struct err *err)
{
	uint64_t number;
	const char *rest = parse_digits(value, &number);

	if (!rest || *rest || number < s->min || number > s->max)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s=%s is not allowed: it is a number from %llu to %llu", s->key,
			       value, (unsigned long long)s->min, (unsigned long long)s->max);
	store(config, s, number);
	return 0;
}

static int set_machine_id(struct config *config, const char *value, struct err *err)
{
	if (strlen(value) != sizeof config->machine_id - 1 || strspn(value, "0123456789abcdef") != strlen(value))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "MachineId=%.64s is not allowed: it has 32 lower-case hex digits",
			       value);
	memcpy(config->machine_id, value, sizeof config->machine_id);
	return 0;
}

static int set_entry(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	const struct setting *s = find_setting(section, key);

	if (strcmp(section, "Coordinator") == 0 && strcmp(key, "MachineId") == 0)
		return set_machine_id(data, value, err);
	if (s)
		return s->is_span ? set_span(data, s, value, err) : set_number(data, s, value, err);
	if (is_section(section))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "[%s] has no key \"%s\" (see vssd.conf(5))", section, key);
	return err_set(err, VSS_E_INVALID_ARGUMENT,
		       "there is no section [%s]; there are [Coordinator], [Limits] and [Copies]", section);
}

int config_read(struct config *config, const char *path, struct err *err)
{
	struct config read = *config;
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "The configuration %s cannot be opened", path);
	if (ini_read(fd, path, set_entry, &read, err) < 0)
		return -1;
	*config = read;
	return 0;
}
