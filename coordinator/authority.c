/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/authority.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_LIMIT (25 * USEC_PER_SEC)

struct authority {
	struct bus *bus;
};

struct check {
	struct authority *authority;
	struct bus_call *call;
	const char *action; /* of names.h */
	char *volume;
	uid_t uid;
	authority_fn fn;
	void *data;
};

struct authority *authority_new(struct bus *bus)
{
	struct authority *authority = malloc(sizeof *authority);

	if (authority)
		authority->bus = bus;
	return authority;
}

struct authority *authority_free(struct authority *authority)
{
	free(authority);
	return NULL;
}

static void check_end(struct check *check, const struct err *err)
{
	check->fn(check->call, check->uid, err, check->data);
	free(check->volume);
	free(check);
}

static void check_refuse(struct check *check, const char *why)
{
	struct err err = { 0 };

	err_set(&err, VSS_E_ACCESS_DENIED, "User %u may not do this (action %s): %s", (unsigned)check->uid, check->action,
		why);
	check_end(check, &err);
}

static void polkit_answered(const struct bus_reply *reply, void *data)
{
	struct check *check = data;
	json_t *result = json_array_get(reply->args, 0);
	struct err none = { 0 };

	if (reply->error == VSS_E_TIMED_OUT)
		check_refuse(check, "polkit did not answer");
	else if (reply->error == VSS_E_WRITER_NOT_RESPONDING)
		check_refuse(check, "there is no polkit here, so that only root may");
	else if (reply->error)
		check_refuse(check, reply->message);
	else if (json_is_true(json_array_get(result, 0)))
		check_end(check, &none);
	else if (json_is_true(json_array_get(result, 1)))
		check_refuse(check, "polkit wants a password, which cannot be asked for here: use pkexec, sudo or a polkit rule");
	else
		check_refuse(check, "polkit refused");
}

static void ask_polkit(struct check *check)
{
	json_t *details = check->volume ? json_pack("{ss}", "vss.volume", check->volume) : json_object();
	json_t *args = json_pack("[[s{ss}]soIs]", "system-bus-name", "name", bus_call_sender(check->call), check->action,
				 details, (json_int_t)0, "");
	struct err err = { 0 };

	if (bus_call(check->authority->bus, POLKIT_NAME, "/org/freedesktop/PolicyKit1/Authority",
		     POLKIT_NAME ".Authority", "CheckAuthorization", "(sa{sv})sa{ss}us", args, NULL, 0,
		     clock_now() + POLKIT_LIMIT, polkit_answered, check, NULL, &err) < 0)
		check_refuse(check, err.text);
}

static void uid_known(uid_t uid, void *data)
{
	struct check *check = data;
	struct err none = { 0 };

	check->uid = uid;
	if (uid == 0)
		check_end(check, &none);
	else if (uid == (uid_t)-1)
		check_refuse(check, "the bus does not know the caller any more");
	else
		ask_polkit(check);
}

void authority_check(struct authority *authority, struct bus_call *call, const char *action, const char *volume,
		     authority_fn fn, void *data)
{
	struct check *check = calloc(1, sizeof *check);
	struct err err = { 0 };

	if (!check) {
		err_set(&err, VSS_E_OUT_OF_MEMORY, "Out of memory for a call");
		fn(call, (uid_t)-1, &err, data);
		return;
	}
	*check = (struct check){ .authority = authority, .call = call, .action = action, .fn = fn, .data = data };
	check->volume = volume ? strdup(volume) : NULL;
	bus_peer_uid(authority->bus, bus_call_sender(call), uid_known, check);
}
