/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A coordinator that plays canned answers, so that requestors can be tested against everything that a real one does
 * rarely: hang, die, lose a signal, fail with any error. It keeps its session in a file as vssd does, and writes every
 * call into a log.
 *
 *     fake-coordinator DIRECTORY [hang=METHOD] [die=METHOD] [die-after=METHOD] [lose=METHOD] [slow=METHOD]
 *                      [error=METHOD:NAME] [result=METHOD:NAME]
 *
 * hang: stops itself when METHOD is called. die: exits when it is called, before it answers; die-after: when it has
 * finished. lose: sends no Finished. slow: the operation takes until the session is aborted. error: METHOD is refused
 * with NAME. result: the operation ends with NAME. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/names.h"

#define OPERATION_USEC (20 * USEC_PER_MSEC)
#define WRITER_ID "d61d61c8-d73a-4eee-8cdd-f6f9786b7124"
#define WRITER_INSTANCE "1bddd48e-5052-49db-9b07-b96f96727e6b"

struct fake {
	struct bus *bus;
	const char *directory;
	char **behaviours;
	json_t *session; /* what is kept over a restart; NULL without one */
	char session_path[96];
	uint64_t due; /* end of the operation under way */
	bool quit;
};

/* ---- behaviours ---- */

/* What is said of method in a behaviour of that kind: the text after "KIND=METHOD", or NULL. */
static const char *behaves(const struct fake *f, const char *kind, const char *method)
{
	size_t k = strlen(kind), m = strlen(method);

	for (char **b = f->behaviours; *b; b++)
		if (strncmp(*b, kind, k) == 0 && (*b)[k] == '=' && strncmp(*b + k + 1, method, m) == 0 &&
		    ((*b)[k + 1 + m] == '\0' || (*b)[k + 1 + m] == ':'))
			return *b + k + 1 + m;
	return NULL;
}

static FILE *open_file(const struct fake *f, const char *name, const char *mode)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/%s", f->directory, name) < 0)
		abort();
	return fopen(path, mode);
}

static void note(const struct fake *f, const char *method, json_t *args)
{
	FILE *log = open_file(f, "calls", "ae");
	autofree char *text = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);

	fprintf(log, "%s %s\n", method, text);
	fclose(log);
}

static void keep(const struct fake *f)
{
	FILE *file = open_file(f, "session", "we");

	if (f->session)
		json_dumpf(f->session, file, 0);
	fclose(file);
}

/* Logged, and done what the test asked for; true if the call is answered already. */
static bool intercept(struct fake *f, struct bus_call *call, const char *method)
{
	const char *name;

	note(f, method, bus_call_args(call));
	if (behaves(f, "hang", method))
		raise(SIGSTOP);
	if (behaves(f, "die", method))
		_exit(0);
	name = behaves(f, "error", method);
	if (name) {
		struct err err = { 0 };
		err_set(&err, error_from_name(name + 1), "%s failed as it was told to", method);
		bus_call_error(call, &err);
		return true;
	}
	return false;
}

/* ---- canned rows ---- */

static json_t *writer_row(void)
{
	return json_pack("{ss ss ss ss si ss si ss ss sb sb}", "Name", "Task Scheduler Writer", "WriterId", WRITER_ID,
			 "InstanceId", WRITER_INSTANCE, "Level", "front-end", "State", 1, "StateText", "Stable", "Code",
			 0, "LastError", "No error", "Message", "", "Present", 1, "Expected", 0);
}

static json_t *shadow_row(const char *set, const char *path)
{
	char id[ID_SIZE];

	id_new(id);
	return json_pack("{ss ss si si ss ss ss ss ss ss ss ss ss}", "Shadow", id, "Set", set, "SetCount", 1, "Created",
			 1700000000, "Volume", path, "VolumeId", "btrfs:1:256", "Device", "/dev/loop0", "HostName",
			 "host", "Provider", "fake", "Context", "backup", "Consistency", "application", "Instant",
			 "set", "State", "created");
}

static json_t *set_result(struct fake *f)
{
	json_t *shadows = json_array(), *path;
	size_t index;
	char set[ID_SIZE];

	id_new(set);
	json_array_foreach(json_object_get(f->session, "Paths"), index, path)
		json_array_append_new(shadows, shadow_row(set, json_string_value(path)));
	return json_pack("{sb ss so ss ss ss ss s[s] s[s]}", "Success", 1, "Set", set, "Shadows", shadows,
			 "Consistency", "filesystem", "ConsistencyReason", "no writer has data here", "Instant", "set",
			 "InstantReason", "", "Warnings", "a warning", "NotIncluded", "/data/below");
}

/* ---- the session ---- */

static void forget_session(struct fake *f)
{
	bus_unexport(f->bus, f->session_path);
	json_decref(f->session);
	f->session = NULL;
	f->due = 0;
	keep(f);
}

static json_t *operation_result(struct fake *f, const char *operation)
{
	const char *name = behaves(f, "result", operation);

	if (name) {
		enum vss_error error = error_from_name(name + 1);
		return json_pack("{sb ss sI ss sb}", "Success", 0, "Error", error_dbus_name(error), "Code",
				 (json_int_t)error_code(error), "Message", "It failed as it was told to", "Retryable",
				 (int)error_is_retryable(error));
	}
	return strcmp(operation, "DoSnapshotSet") == 0 ? set_result(f) : json_pack("{sb}", "Success", 1);
}

static void operation_ends(struct fake *f)
{
	autofree char *operation = strdup(json_string_value(json_object_get(f->session, "Operation")));
	json_t *result = operation_result(f, operation);

	f->due = 0;
	json_object_set_new(f->session, "Operation", json_string(""));
	json_object_set_new(f->session, "LastOperation", json_string(operation));
	json_object_set_new(f->session, "LastResult", result);
	keep(f);
	if (behaves(f, "die-after", operation))
		_exit(0);
	if (!behaves(f, "lose", operation))
		bus_emit(f->bus, f->session_path, VSS_IFACE_SESSION, "Finished", "sa{sv}",
			 json_pack("[sO]", operation, result));
}

static void operation_begins(struct fake *f, struct bus_call *call, const char *method)
{
	if (intercept(f, call, method))
		return;
	json_object_set_new(f->session, "Operation", json_string(method));
	keep(f);
	bus_call_reply(call, json_array());
	bus_emit(f->bus, f->session_path, VSS_IFACE_SESSION, "Progress", "sua{sv}",
		 json_pack("[si{}]", "FreezingFrontEnd", 50));
	f->due = behaves(f, "slow", method) ? 0 : clock_now() + OPERATION_USEC;
}

static void on_gather(struct bus_call *call, void *object)
{
	operation_begins(object, call, "GatherWriterMetadata");
}

static void on_prepare(struct bus_call *call, void *object)
{
	operation_begins(object, call, "PrepareForBackup");
}

static void on_snapshot(struct bus_call *call, void *object)
{
	operation_begins(object, call, "DoSnapshotSet");
}

static void on_complete(struct bus_call *call, void *object)
{
	operation_begins(object, call, "BackupComplete");
}

static void on_add(struct bus_call *call, void *object)
{
	struct fake *f = object;
	json_t *path = json_array_get(bus_call_args(call), 0);

	if (intercept(f, call, "AddToSnapshotSet"))
		return;
	if (!json_is_string(path))
		path = json_string("/by-descriptor"); /* a leak of a test program, once */
	json_array_append(json_object_get(f->session, "Paths"), path);
	keep(f);
	bus_call_reply(call, json_pack("[{sOssss}]", "Path", path, "Type", "btrfs", "Provider", "fake"));
}

static void on_succeeded(struct bus_call *call, void *object)
{
	if (!intercept(object, call, "SetBackupSucceeded"))
		bus_call_reply(call, json_array());
}

static void on_status(struct bus_call *call, void *object)
{
	if (!intercept(object, call, "GatherWriterStatus"))
		bus_call_reply(call, json_pack("[[{ss si ss si ss ss}]]", "Name", "Bad\033[31mWriter", "State", 9,
					       "StateText", "Failed", "Code", 1, "LastError", "Timed out", "Message",
					       "no time"));
}

static void on_abort(struct bus_call *call, void *object)
{
	if (intercept(object, call, "Abort"))
		return;
	bus_call_reply(call, json_array());
	forget_session(object);
}

static void on_close(struct bus_call *call, void *object)
{
	if (intercept(object, call, "Close"))
		return;
	bus_call_reply(call, json_array());
	forget_session(object);
}

static json_t *get_from(void *object, const char *key)
{
	struct fake *f = object;

	return json_incref(json_object_get(f->session, key));
}

static json_t *get_operation(void *object)
{
	return get_from(object, "Operation");
}

static json_t *get_last_operation(void *object)
{
	return get_from(object, "LastOperation");
}

static json_t *get_last_result(void *object)
{
	return get_from(object, "LastResult");
}

static json_t *get_members(void *object)
{
	return json_pack("[{ss ss ss ss s[{ssss}]}]", "Path", "/data", "Type", "btrfs", "Device", "/dev/loop0",
			 "Provider", "fake", "Below", "Path", "/data/below", "Kind", "subvolume");
}

static json_t *get_participants(void *object)
{
	json_t *row = writer_row();

	json_object_set_new(row, "Took", json_true());
	json_object_set_new(row, "Why", json_string("its data lies on /data"));
	return json_pack("[o]", row);
}

static json_t *get_timeline(void *object)
{
	return json_pack("[{ss ss si si ss}]", "Phase", "PrepareBackup", "Writer", "Task Scheduler Writer", "BeginUsec",
			 1000, "EndUsec", 13400, "Outcome", "");
}

static const struct bus_method session_methods[] = {
	{ "GatherWriterMetadata", "a{sv}", "", "options", "", on_gather },
	{ "AddToSnapshotSet", "va{sv}", "a{sv}", "volume options", "member", on_add },
	{ "PrepareForBackup", "a{sv}", "", "options", "", on_prepare },
	{ "DoSnapshotSet", "a{sv}", "", "options", "", on_snapshot },
	{ "GatherWriterStatus", "a{sv}", "aa{sv}", "options", "rows", on_status },
	{ "SetBackupSucceeded", "ba{sv}", "", "succeeded options", "", on_succeeded },
	{ "BackupComplete", "a{sv}", "", "options", "", on_complete },
	{ "Abort", "a{sv}", "", "options", "", on_abort },
	{ "Close", "a{sv}", "", "options", "", on_close },
	{ 0 },
};
static const struct bus_property session_properties[] = {
	{ "Operation", "s", get_operation, true },
	{ "LastOperation", "s", get_last_operation, true },
	{ "LastResult", "a{sv}", get_last_result, true },
	{ "Members", "aa{sv}", get_members, true },
	{ "Participants", "aa{sv}", get_participants, true },
	{ "Timeline", "aa{sv}", get_timeline, true },
	{ 0 },
};
static const struct bus_signal session_signals[] = {
	{ "Finished", "sa{sv}", "operation result" },
	{ "Progress", "sua{sv}", "phase percent details" },
	{ 0 },
};
static const struct bus_interface session_interface = { VSS_IFACE_SESSION, session_methods, session_properties,
							session_signals };
static const struct bus_interface *const session_interfaces[] = { &session_interface, NULL };

static void export_session(struct fake *f)
{
	char hex[ID_HEX_SIZE];

	id_to_hex(json_string_value(json_object_get(f->session, "Id")), hex);
	snprintf(f->session_path, sizeof f->session_path, "%s/%s", VSS_SESSION_PATH, hex);
	if (bus_export(f->bus, f->session_path, session_interfaces, f, NULL) < 0)
		abort();
}

/* ---- the coordinator ---- */

static void on_create(struct bus_call *call, void *object)
{
	struct fake *f = object;
	char id[ID_SIZE];

	if (intercept(f, call, "CreateSession"))
		return;
	if (f->session)
		forget_session(f);
	id_new(id);
	f->session =
	    json_pack("{ss ss ss s{} s[]}", "Id", id, "Operation", "", "LastOperation", "", "LastResult", "Paths");
	keep(f);
	export_session(f);
	bus_call_reply(call, json_pack("[s]", f->session_path));
}

static void reply_rows(struct fake *f, struct bus_call *call, const char *method, json_t *rows)
{
	if (!intercept(f, call, method))
		bus_call_reply(call, json_pack("[O]", rows));
	json_decref(rows);
}

static void on_list_writers(struct bus_call *call, void *object)
{
	reply_rows(object, call, "ListWriters", json_pack("[oo]", writer_row(), writer_row()));
}

static void on_list_shadows(struct bus_call *call, void *object)
{
	bool filtered = json_object_get(json_array_get(bus_call_args(call), 0), "Shadow") != NULL;

	reply_rows(object, call, "ListShadows",
		   filtered ? json_array() : json_pack("[o]", shadow_row(WRITER_ID, "/data")));
}

static void on_list_shadows_json(struct bus_call *call, void *object)
{
	bool filtered = json_object_get(json_array_get(bus_call_args(call), 0), "Shadow") != NULL;
	json_t *rows = filtered ? json_array() : json_pack("[o]", shadow_row(WRITER_ID, "/data"));
	int fd = memfd_create("rows", MFD_CLOEXEC);

	json_dumpfd(rows, fd, 0);
	if (!intercept(object, call, "ListShadows"))
		bus_call_reply_fds(call, json_pack("[i]", 0), &fd, 1);
	close(fd);
	json_decref(rows);
}

static void on_list_sessions(struct bus_call *call, void *object)
{
	struct fake *f = object;
	json_t *rows = json_array();

	if (f->session)
		json_array_append_new(rows,
				      json_pack("{sO ss si si si ss}", "Id", json_object_get(f->session, "Id"), "State",
						"Created", "Uid", 0, "Pid", 1, "Created", 1700000000, "Command", "x"));
	reply_rows(f, call, "ListSessions", rows);
}

static void on_list_nothing(struct bus_call *call, void *object)
{
	reply_rows(object, call, "ListProviders", json_array());
}

static void on_delete(struct bus_call *call, void *object)
{
	json_t *rows =
	    json_pack("[{ss sb} {ss sb ss ss}]", "Shadow", WRITER_ID, "Deleted", 1, "Shadow", WRITER_INSTANCE,
		      "Deleted", 0, "Error", "org.vssd.Error.VolumeInUse", "Message", "It is exposed");

	reply_rows(object, call, "DeleteShadows", rows);
}

/* A filesystem of its own with one file in it, mounted nowhere; needs root. */
static int detached_mount(void)
{
	autoclose int context = fsopen("tmpfs", FSOPEN_CLOEXEC), file = -1;
	int mounted;

	if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mounted = fsmount(context, FSMOUNT_CLOEXEC, 0);
	if (mounted < 0)
		return -1;
	mkdirat(mounted, "below", 0755);
	file = openat(mounted, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	(void)!write(file, "copied\n", 7);
	return mounted;
}

static void on_mount(struct bus_call *call, void *object)
{
	struct err err = { 0 };

	if (intercept(object, call, "Mount"))
		return;
	autoclose int fd = detached_mount();
	if (fd < 0) {
		err_set(&err, VSS_E_ACCESS_DENIED, "The fake coordinator may not mount");
		bus_call_error(call, &err);
		return;
	}
	bus_call_reply_fds(call, json_pack("[i]", 0), &fd, 1);
}

static void on_expose(struct bus_call *call, void *object)
{
	if (!intercept(object, call, "Expose"))
		bus_call_reply(call, json_pack("[O]", json_array_get(bus_call_args(call), 1)));
}

static void on_reset(struct bus_call *call, void *object)
{
	if (!intercept(object, call, "ResetWriter"))
		bus_call_reply(call, json_array());
}

static const struct bus_method coordinator_methods[] = {
	{ "CreateSession", "a{sv}", "o", "options", "session", on_create },
	{ "ListWriters", "a{sv}", "aa{sv}", "options", "rows", on_list_writers },
	{ "ListShadows", "a{sv}", "aa{sv}", "options", "rows", on_list_shadows },
	{ "ListShadowsJson", "a{sv}", "h", "options", "rows", on_list_shadows_json },
	{ "ListProviders", "a{sv}", "aa{sv}", "options", "rows", on_list_nothing },
	{ "ListSessions", "a{sv}", "aa{sv}", "options", "rows", on_list_sessions },
	{ "DeleteShadows", "a{sv}", "aa{sv}", "options", "rows", on_delete },
	{ "Mount", "sa{sv}", "h", "shadow options", "mount", on_mount },
	{ "Expose", "ssa{sv}", "s", "shadow path options", "path", on_expose },
	{ "ResetWriter", "sa{sv}", "", "writer options", "", on_reset },
	{ 0 },
};
static const struct bus_interface coordinator_interface = { VSS_IFACE_COORDINATOR, coordinator_methods, NULL, NULL };
static const struct bus_interface *const coordinator_interfaces[] = { &coordinator_interface, NULL };

/* ---- running ---- */

static void load_session(struct fake *f)
{
	FILE *file = open_file(f, "session", "re");

	if (!file)
		return;
	f->session = json_loadf(file, 0, NULL);
	fclose(file);
	if (f->session)
		export_session(f);
}

static void loop(struct fake *f)
{
	for (;;) {
		int timeout = -1;

		if (bus_dispatch(f->bus) < 0)
			return;
		if (f->due && clock_now() >= f->due)
			operation_ends(f);
		if (f->due)
			timeout = (int)((f->due - clock_now()) / USEC_PER_MSEC) + 1;
		bus_flush(f->bus);
		poll(&(struct pollfd){ .fd = bus_fd(f->bus), .events = POLLIN }, 1, timeout < 0 ? -1 : timeout);
	}
}

static void named(const struct bus_reply *reply, void *data)
{
	struct fake *f = data;

	note(f, "started", json_null());
}

int main(int argc, char **argv)
{
	struct fake f = { .directory = argc > 1 ? argv[1] : ".", .behaviours = argv + (argc > 1 ? 2 : 1) };
	struct err err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (bus_open(&f.bus, NULL, &err) < 0 ||
	    bus_export(f.bus, VSS_ROOT_PATH, coordinator_interfaces, &f, &err) < 0) {
		fprintf(stderr, "fake-coordinator: %s\n", err.text);
		return 1;
	}
	load_session(&f);
	bus_request_name(f.bus, VSS_BUS_NAME, named, &f, &err);
	loop(&f);
	return 0;
}
