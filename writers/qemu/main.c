/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-qemu-writer: guests of QEMU as components, frozen through their agents. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writers/bundled/bundled.h"
#include "writers/qemu/discover.h"
#include "writers/qemu/guest.h"
#include "writers/qemu/note.h"
#include "writers/qemu/warden.h"
#include "writers/script/log.h"

#define ON(event) (1u << VSS_EVENT_##event)

static const struct bundled_key keys[] = {
	{ "Libvirt", BUNDLED_CHOICE, "auto", false, "auto|yes|no" },
	{ "LibvirtUri", BUNDLED_TEXT, "qemu:///system", false },
	{ "Agent", BUNDLED_TEXT, NULL, true },
	{ "Qmp", BUNDLED_TEXT, NULL, true },
	{ "Disks", BUNDLED_PATHS, NULL, true },
	{ "RawDisks", BUNDLED_PATHS, NULL, true },
	{ "Filesystems", BUNDLED_PATHS, NULL, true },
	{ "OnFailure", BUNDLED_CHOICE, "fail", true, "fail|degrade" },
	{ "AgentLimit", BUNDLED_SPAN, "5s", true },
	{ "FreezeLimit", BUNDLED_SPAN, "10s", true },
	{ "ThawFor", BUNDLED_SPAN, "10min", true },
	{ "MinFree", BUNDLED_NUMBER, "5", true },
	{ 0 },
};

static const struct bundled_kind kind = {
	.program = "vss-qemu-writer",
	.id = "5a3e0d0c-9c0b-4d6e-8f57-2b1d3c9a7e41",
	.name = "QEMU Guest Writer",
	.level = VSS_LEVEL_SYSTEM,
	.freeze_limit_msec = 30000,
	.config_file = "/etc/vssd/qemu-writer.conf",
	.section = "QEMU",
	.instance_section = "Guest",
	.keys = keys,
	.events = ON(PREPARE_BACKUP) | ON(PREPARE_SNAPSHOT),
	.discover = discover_guests,
	.serve = guest_serve,
	.forget = guest_forget,
};

/* Whether it will serve, or only look (--check, --version): then nobody needs to be thawed. */
static bool serves(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--check") == 0 || strcmp(argv[i], "--version") == 0)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	struct err err = { 0 };

	if (argc == 2 && strcmp(argv[1], "--warden") == 0)
		return warden_main();
	if (argc == 2 && strcmp(argv[1], "--thaw") == 0)
		return warden_thaw_all();
	if (!serves(argc, argv))
		return bundled_main(&kind, argc, argv);
	guest_notes = notes_open();
	if (guest_notes < 0)
		err_errno(&err, errno, VSS_E_UNEXPECTED, "the directory for notes on /run cannot be used");
	if (guest_notes < 0 || warden_start(&err) < 0) {
		log_line(LOG_ERR, NULL, "%s", err.text);
		return EXIT_FAILURE;
	}
	return bundled_main(&kind, argc, argv);
}
