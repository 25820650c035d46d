/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-mariadb-writer: MariaDB's servers as components. */
#include <mysql.h>

#include "writers/mariadb/events.h"
#include "writers/mariadb/servers.h"

static const struct bundled_key keys[] = {
	{ "DataDirectory", BUNDLED_PATHS, "/var/lib/mysql", false },
	{ "Socket", BUNDLED_TEXT, NULL, true },
	{ "OptionFile", BUNDLED_TEXT, NULL, true },
	{ "ConnectLimit", BUNDLED_SPAN, "5s", true },
	{ "LockLimit", BUNDLED_SPAN, "5s", true },
	{ "HoldLimit", BUNDLED_SPAN, "60s", true },
	{ "OnFailure", BUNDLED_CHOICE, "fail", true, "fail|degrade" },
	{ 0 },
};

static const struct bundled_kind mariadb = {
	.program = "vss-mariadb-writer",
	.id = "6b3b4b0e-93c4-4d0b-9d6e-5f0e2c8f1a37",
	.name = "MariaDB",
	.level = VSS_LEVEL_BACK_END,
	.freeze_limit_msec = 60000,
	.degrades = true,
	.config_file = "/etc/vssd/mariadb-writer.conf",
	.section = "MariaDB",
	.instance_section = "Server",
	.keys = keys,
	.events = 1u << VSS_EVENT_PREPARE_BACKUP | 1u << VSS_EVENT_PREPARE_SNAPSHOT,
	.discover = servers_discover,
	.serve = mariadb_serve,
	.forget = mariadb_forget,
};

int main(int argc, char **argv)
{
	if (mysql_library_init(0, NULL, NULL) != 0)
		return 1;
	int code = bundled_main(&mariadb, argc, argv);
	mysql_library_end();
	return code;
}
