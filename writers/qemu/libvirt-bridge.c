/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-qemu-libvirt: what the writer of guests asks of libvirt, in a process that can be killed: libvirt's calls block. It lists the
 * domains, or passes a guest agent's commands on, line by line, for libvirt alone has the connections to its guests' agents. */
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "writers/qemu/channel.h"

#define COMMAND_LIMIT_SEC 10
#define DOMAINS_MAX 4096

static const char *words(void)
{
	return virGetLastErrorMessage() ?: "libvirt does not say why";
}

/* Errors come as values; on stderr they would be told twice. */
static void be_quiet(void *data, virErrorPtr error)
{
}

/* ---- list ---- */

static const virTypedParameter *find(virDomainStatsRecordPtr record, const char *field)
{
	for (int i = 0; i < record->nparams; i++)
		if (strcmp(record->params[i].field, field) == 0)
			return &record->params[i];
	return NULL;
}

static const char *text_of(virDomainStatsRecordPtr record, unsigned block, const char *member)
{
	char field[64];

	snprintf(field, sizeof field, "block.%u.%s", block, member);
	const virTypedParameter *parameter = find(record, field);
	return parameter && parameter->type == VIR_TYPED_PARAM_STRING ? parameter->value.s : NULL;
}

static unsigned number_of(virDomainStatsRecordPtr record, const char *field)
{
	const virTypedParameter *parameter = find(record, field);

	if (parameter && parameter->type == VIR_TYPED_PARAM_INT)
		return (unsigned)parameter->value.i;
	return parameter && parameter->type == VIR_TYPED_PARAM_UINT ? parameter->value.ui : 0;
}

/* Is the target a drive for media? Libvirt writes its XML itself, always in the same way. */
static bool is_medium(const char *xml, const char *target)
{
	char wanted[80];

	snprintf(wanted, sizeof wanted, "<target dev='%.60s'", target);
	for (const char *disk = xml ? strstr(xml, "<disk ") : NULL; disk; disk = strstr(disk + 1, "<disk ")) {
		const char *end = strstr(disk, "</disk>"), *head = strchr(disk, '>'), *found = strstr(disk, wanted);
		if (!end || !head || !found || found > end)
			continue;
		const char *cdrom = strstr(disk, "device='cdrom'"), *floppy = strstr(disk, "device='floppy'");
		return (cdrom && cdrom < head) || (floppy && floppy < head);
	}
	return false;
}

static json_t *files_of(virDomainStatsRecordPtr record, const char *xml)
{
	json_t *files = json_array();
	unsigned n = number_of(record, "block.count");

	for (unsigned i = 0; i < n && i < 1024; i++) {
		const char *path = text_of(record, i, "path"), *name = text_of(record, i, "name");
		if (path && !(name && is_medium(xml, name)))
			json_array_append_new(files, json_string(path));
	}
	return files;
}

static json_t *domain_row(virDomainStatsRecordPtr record)
{
	autofree char *xml = virDomainGetXMLDesc(record->dom, 0);
	unsigned state = number_of(record, "state.state");
	bool off = state == VIR_DOMAIN_SHUTOFF || state == VIR_DOMAIN_CRASHED || state == VIR_DOMAIN_NOSTATE;

	return json_pack("{ss sb so}", "Name", virDomainGetName(record->dom), "Running", !off, "Files", files_of(record, xml));
}

static int list(virConnectPtr connection)
{
	virDomainStatsRecordPtr *records = NULL;
	autojson json_t *rows = json_array();
	int n = virConnectGetAllDomainStats(connection, VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_BLOCK, &records,
					    VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);

	if (n < 0) {
		fprintf(stderr, "%s\n", words());
		return EXIT_FAILURE;
	}
	for (int i = 0; i < n && i < DOMAINS_MAX; i++)
		json_array_append_new(rows, domain_row(records[i]));
	virDomainStatsRecordListFree(records);
	json_dumpf(rows, stdout, JSON_COMPACT);
	return EXIT_SUCCESS;
}

/* ---- agent ---- */

static void say(json_t *answer)
{
	json_dumpf(answer, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(answer);
}

static void say_error(void)
{
	const virError *error = virGetLastError();
	bool silent = error && (error->code == VIR_ERR_AGENT_UNRESPONSIVE || error->code == VIR_ERR_OPERATION_TIMEOUT ||
				error->code == VIR_ERR_AGENT_UNSYNCED);

	say(json_pack("{s{ss ss}}", "error", "class", silent ? "AgentUnresponsive" : "GenericError", "desc", words()));
}

/* Libvirt synchronises with the agent by itself, before each command; so one that is answered proves it. */
static void synchronise(virDomainPtr domain, json_t *id)
{
	autofree char *answer = virDomainQemuAgentCommand(domain, "{\"execute\":\"guest-ping\"}", COMMAND_LIMIT_SEC, 0);

	putchar(CHANNEL_SENTINEL);
	if (!answer)
		say_error();
	else
		say(json_pack("{sO}", "return", id));
}

static void pass_on(virDomainPtr domain, const char *line)
{
	autojson json_t *request = json_loads(line, 0, NULL);
	const char *command = json_string_value(json_object_get(request, "execute"));
	json_t *id = json_object_get(json_object_get(request, "arguments"), "id");

	if (command && id && strcmp(command, "guest-sync-delimited") == 0) {
		synchronise(domain, id);
		return;
	}
	autofree char *answer = virDomainQemuAgentCommand(domain, line, COMMAND_LIMIT_SEC, 0);
	autojson json_t *parsed = answer ? json_loads(answer, 0, NULL) : NULL;
	if (parsed)
		say(json_incref(parsed));
	else
		say_error();
}

static int agent(virConnectPtr connection, const char *name)
{
	virDomainPtr domain = virDomainLookupByName(connection, name);
	autofree char *line = NULL;
	size_t size = 0;
	int active = domain ? virDomainIsActive(domain) : -1;

	if (active != 1) {
		printf("%s\n", active == 0 ? "off" : words());
		return EXIT_FAILURE;
	}
	puts("running");
	fflush(stdout);
	while (getline(&line, &size, stdin) > 0)
		pass_on(domain, (unsigned char)*line == CHANNEL_SENTINEL ? line + 1 : line);
	virDomainFree(domain);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	bool lists = argc == 3 && strcmp(argv[1], "list") == 0;

	if (!lists && !(argc == 4 && strcmp(argv[1], "agent") == 0)) {
		fputs("Usage: vss-qemu-libvirt list URI | agent URI DOMAIN (see vss-qemu-writer(8))\n", stderr);
		return 2;
	}
	virSetErrorFunc(NULL, be_quiet);
	virConnectPtr connection = virConnectOpenAuth(argv[2], virConnectAuthPtrDefault, 0);
	if (!connection) {
		fprintf(lists ? stderr : stdout, "%s\n", words());
		return EXIT_FAILURE;
	}
	int code = lists ? list(connection) : agent(connection, argv[3]);
	virConnectClose(connection);
	return code;
}
