/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "victim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"

#define PATIENCE (10 * USEC_PER_SEC)
#define FDS_SPARE 8 /* a worker more, kept warm, or a sender connection */
#define ATTACK_MAX 60

/* ---- random numbers ---- */

uint32_t dice_roll(struct dice *dice, uint32_t sides)
{
	dice->state ^= dice->state >> 12;
	dice->state ^= dice->state << 25;
	dice->state ^= dice->state >> 27;
	return (uint32_t)((dice->state * UINT64_C(0x2545F4914F6CDD1D)) >> 32) % sides;
}

bool dice_one_in(struct dice *dice, uint32_t sides)
{
	return dice_roll(dice, sides) == 0;
}

/* ---- starting ---- */

static int write_file(const char *directory, const char *name, const char *text)
{
	autofree char *path = NULL;
	FILE *out = asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : fopen(path, "we");

	if (!out)
		return -1;
	fputs(text, out);
	return fclose(out);
}

static int fill(const char *directory, void *data)
{
	static const char config[] =
	    "[Coordinator]\nIdleTimeoutSec=0\nMachineId=00000000000000000000000000000bad\n"
	    "[Limits]\nIdentify=200ms\nPrepareBackup=200ms\nPrepareSnapshot=200ms\nFreeze=200ms\n"
	    "Event=200ms\nProbe=200ms\nWait=1\n";
	autofree char *manifests = NULL;

	if (asprintf(&manifests, "%s/manifests", directory) < 0 || mkdir(manifests, 0755) < 0 ||
	    write_file(directory, "vssd.conf", config) < 0 ||
	    write_file(manifests, "nobody.writer",
		       "[Writer]\nId=" NOBODYS_WRITER "\nName=Nobody's writer\nUser=nobody\nPaths=/nowhere\n") < 0 ||
	    write_file(manifests, "absent.writer",
		       "[Writer]\nId=" ABSENT_WRITER "\nName=Absent writer\nPaths=/nowhere\n") < 0)
		return -1;
	return 0;
}

static _Noreturn void run_vssd(const struct victim *v, pid_t parent)
{
	char config[96], run[96], manifests[96];
	const char *directory = bus_harness_directory(v->harness);
	int log = open(v->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || log < 0)
		_exit(125);
	dup2(log, STDERR_FILENO);
	snprintf(config, sizeof config, "%s/vssd.conf", directory);
	snprintf(run, sizeof run, "%s/run", directory);
	snprintf(manifests, sizeof manifests, "%s/manifests", directory);
	execl(getenv("VSSD"), "vssd", "--config", config, "--runtime-dir", run, "--manifests", manifests, "--worker",
	      getenv("HOSTILE_WORKER"), (char *)NULL);
	_exit(126);
}

struct victim *victim_start(void)
{
	struct victim *v = calloc(1, sizeof *v);
	pid_t parent = getpid();
	uint64_t end = clock_now() + 3 * PATIENCE;

	if (!v || !getenv("VSSD") || !getenv("HOSTILE_WORKER") ||
	    !(v->harness = bus_harness_start_with(NULL, fill, NULL)))
		return NULL;
	snprintf(v->log, sizeof v->log, "%s/vssd.log", bus_harness_directory(v->harness));
	v->pid = fork();
	if (v->pid == 0)
		run_vssd(v, parent);
	if (v->pid < 0 || bus_open(&v->bus, NULL, NULL) < 0)
		return NULL;
	while (clock_now() < end) {
		if (victim_answers(v))
			return v;
		usleep(20000);
	}
	fprintf(stderr, "vssd did not start\n");
	victim_print_log(v);
	return NULL;
}

bool victim_stop(struct victim *v)
{
	uint64_t end = clock_now() + 3 * PATIENCE;
	int status = -1;

	v->bus = bus_free(v->bus);
	kill(v->pid, SIGTERM);
	while (waitpid(v->pid, &status, WNOHANG) == 0 && clock_now() < end)
		usleep(10000);
	if (status != 0) {
		fprintf(stderr, "vssd ended with wait status 0x%x\n", (unsigned)status);
		kill(v->pid, SIGKILL);
		victim_print_log(v);
	}
	bus_harness_stop(v->harness);
	free(v);
	return status == 0;
}

/* ---- checking ---- */

void victim_print_log(const struct victim *v)
{
	char text[32768];
	int fd = open(v->log, O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n;

	if (fd < 0)
		return;
	lseek(fd, size > (off_t)sizeof text ? size - (off_t)sizeof text : 0, SEEK_SET);
	while ((n = read(fd, text, sizeof text)) > 0)
		fprintf(stderr, "%.*s", (int)n, text);
	close(fd);
}

json_t *victim_call(struct bus *bus, const char *path, const char *interface, const char *method, const char *signature,
		    json_t *args, struct err *err)
{
	json_t *answer = NULL, *value;

	if (bus_call_sync(bus, VSS_BUS_NAME, path, interface, method, signature, args, NULL, 0, clock_now() + PATIENCE,
			  &answer, NULL, 0, NULL, err) < 0)
		return NULL;
	value = json_array_size(answer) > 0 ? json_incref(json_array_get(answer, 0)) : json_null();
	json_decref(answer);
	return value;
}

static size_t count_fds(pid_t pid)
{
	char path[32];
	size_t n = 0;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static json_t *properties(struct victim *v)
{
	return victim_call(v->bus, VSS_ROOT_PATH, "org.freedesktop.DBus.Properties", "GetAll", "s",
			   json_pack("[s]", VSS_IFACE_COORDINATOR), NULL);
}

/* Within a second; on a busy machine one of a few tries has to be. */
bool victim_answers(struct victim *v)
{
	for (int i = 0; i < 5; i++) {
		uint64_t began = clock_now();
		json_t *all = properties(v);
		bool answered = json_object_get(all, "Version") && clock_now() - began < USEC_PER_SEC;
		json_decref(all);
		if (answered)
			return true;
		if (!all)
			return false;
	}
	return false;
}

bool victim_is_well(struct victim *v, const char *round)
{
	uint64_t end = clock_now() + PATIENCE;
	json_int_t sessions = -1;
	size_t fds = 0;

	if (!victim_answers(v)) {
		fprintf(stderr, "%s: vssd does not answer\n", round);
		victim_print_log(v);
		return false;
	}
	for (;;) {
		autojson json_t *all = properties(v);
		sessions = json_integer_value(json_object_get(all, "Sessions"));
		fds = count_fds(v->pid);
		if (!v->fds)
			v->fds = fds;
		if (all && sessions == 0 && fds <= v->fds + FDS_SPARE)
			return true;
		if (clock_now() > end)
			break;
		usleep(20000);
	}
	fprintf(stderr, "%s: %lld sessions and %zu descriptors stay, there were %zu\n", round, (long long)sessions, fds,
		v->fds);
	victim_print_log(v);
	return false;
}

/* ---- attackers ---- */

bool attack_as(uid_t uid, bool (*fn)(void *data), void *data)
{
	pid_t parent = getpid(), pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		alarm(ATTACK_MAX);
		if (getppid() != parent ||
		    (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)))
			_exit(2);
		_exit(fn(data) ? 0 : 1);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && status == 0)
		return true;
	fprintf(stderr, "the attacker ended with wait status 0x%x\n", pid > 0 ? (unsigned)status : 0);
	return false;
}

DBusConnection *connect_raw(void)
{
	DBusConnection *connection = dbus_connection_open_private(getenv("DBUS_SYSTEM_BUS_ADDRESS"), NULL);

	if (!connection || !dbus_bus_register(connection, NULL)) {
		fprintf(stderr, "cannot connect to the bus\n");
		_exit(3);
	}
	dbus_connection_set_exit_on_disconnect(connection, FALSE);
	return connection;
}

void disconnect_raw(DBusConnection *connection)
{
	dbus_connection_close(connection);
	dbus_connection_unref(connection);
}
