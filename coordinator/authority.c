/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/authority.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define POLKIT_PATIENCE (25 * USEC_PER_SEC)

#define DETAIL_VOLUME "vss.volume"

struct authority {
	struct bus *bus;
	struct check *checks;
};

struct check {
	struct authority *authority; /* NULL: orphaned, fn has run, only the answer about the user is awaited */
	struct check *prev, *next;
	struct bus_call *call;
	struct bus_pending *pending; /* polkit's answer, while awaited */
	char *action, *volume;
	uid_t uid;
	authority_fn fn;
	void *data;
};

struct authority *authority_new(struct bus *bus)
{
	struct authority *authority = calloc(1, sizeof *authority);

	if (authority)
		authority->bus = bus;
	return authority;
}

static void check_free(struct check *check)
{
	free(check->action);
	free(check->volume);
	free(check);
}

/* Takes the check off the list first, so that fn may do anything. */
static void check_tell(struct check *check, const struct err *err)
{
	*(check->prev ? &check->prev->next : &check->authority->checks) = check->next;
	if (check->next)
		check->next->prev = check->prev;
	check->authority = NULL;
	check->fn(check->call, check->uid, err, check->data);
}

static void check_finish(struct check *check, const struct err *err)
{
	check_tell(check, err);
	check_free(check);
}

static bool is_missing(const struct bus_reply *reply)
{
	static const char spawn[] = "org.freedesktop.DBus.Error.Spawn.";

	return reply->error == VSS_E_WRITER_NOT_RESPONDING ||
	       (reply->error_name && strncmp(reply->error_name, spawn, strlen(spawn)) == 0);
}

static void explain_failure(const struct check *check, const struct bus_reply *reply, struct err *err)
{
	if (reply->error == VSS_E_CANCELLED)
		err_set(err, VSS_E_ACCESS_DENIED, "%s was not decided: vssd is ending", check->action);
	else if (reply->error == VSS_E_TIMED_OUT)
		err_set(err, VSS_E_ACCESS_DENIED, "%s was not granted to user %u: polkit did not answer within 25 s; root needs "
			"no answer of it", check->action, check->uid);
	else if (is_missing(reply))
		err_set(err, VSS_E_ACCESS_DENIED, "%s was not granted to user %u: polkit does not run here, and without it only "
			"root may do this", check->action, check->uid);
	else
		err_set(err, VSS_E_ACCESS_DENIED, "%s was not granted to user %u: polkit failed: %s", check->action, check->uid,
			*reply->message ? reply->message : error_text(reply->error));
}

static void polkit_answered(const struct bus_reply *reply, void *data)
{
	struct check *check = data;
	json_t *result = json_array_get(reply->args, 0);
	struct err err = { 0 };

	check->pending = NULL;
	if (reply->error)
		explain_failure(check, reply, &err);
	else if (json_is_true(json_array_get(result, 0)))
		err.code = VSS_OK;
	else if (json_is_true(json_array_get(result, 1)))
		err_set(&err, VSS_E_ACCESS_DENIED, "%s is granted to administrators only: run it as root, or let polkit's rules "
			"allow it to user %u", check->action, check->uid);
	else
		err_set(&err, VSS_E_ACCESS_DENIED, "%s is not granted to user %u: polkit's rules forbid it", check->action,
			check->uid);
	check_finish(check, &err);
}

static void ask_polkit(struct check *check)
{
	json_t *args = json_pack("[[s{ss}]so is]", "system-bus-name", "name", bus_call_sender(check->call), check->action,
				 check->volume ? json_pack("{ss}", DETAIL_VOLUME, check->volume) : json_object(), 0, "");
	struct err err = { 0 };

	if (!args)
		err_set(&err, VSS_E_ACCESS_DENIED, "%s was not decided: out of memory", check->action);
	else if (bus_call(check->authority->bus, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization",
			  "(sa{sv})sa{ss}us", args, NULL, 0, clock_now() + POLKIT_PATIENCE, polkit_answered, check,
			  &check->pending, &err) == 0)
		return;
	err.code = VSS_E_ACCESS_DENIED;
	check_finish(check, &err);
}

static void uid_known(uid_t uid, void *data)
{
	struct check *check = data;
	struct err err = { 0 };

	check->uid = uid;
	if (!check->authority) {
		check_free(check);
		return;
	}
	if (uid != 0 && uid != (uid_t)-1) {
		ask_polkit(check);
		return;
	}
	if (uid != 0)
		err_set(&err, VSS_E_ACCESS_DENIED, "%s was not granted: the caller is gone, its user cannot be told",
			check->action);
	check_finish(check, &err);
}

static struct check *check_new(struct authority *authority, const char *action, const char *volume)
{
	struct check *check = calloc(1, sizeof *check);

	if (!check)
		return NULL;
	check->action = strdup(action);
	check->volume = volume ? strdup(volume) : NULL;
	if (!check->action || (volume && !check->volume)) {
		check_free(check);
		return NULL;
	}
	check->authority = authority;
	check->uid = (uid_t)-1;
	check->next = authority->checks;
	if (check->next)
		check->next->prev = check;
	authority->checks = check;
	return check;
}

void authority_check(struct authority *authority, struct bus_call *call, const char *action, const char *volume,
		     authority_fn fn, void *data)
{
	struct check *check = check_new(authority, action, volume);
	struct err err = { 0 };

	if (!check) {
		err_set(&err, VSS_E_ACCESS_DENIED, "%s was not decided: out of memory", action);
		fn(call, (uid_t)-1, &err, data);
		return;
	}
	check->call = call;
	check->fn = fn;
	check->data = data;
	bus_peer_uid(authority->bus, bus_call_sender(call), uid_known, check);
}

struct authority *authority_free(struct authority *authority)
{
	struct err err = { 0 };

	if (!authority)
		return NULL;
	err_set(&err, VSS_E_ACCESS_DENIED, "The permission was not decided: vssd is ending");
	while (authority->checks) {
		if (authority->checks->pending)
			bus_pending_cancel(authority->checks->pending);
		else
			check_tell(authority->checks, &err); /* uid_known frees it */
	}
	free(authority);
	return NULL;
}
