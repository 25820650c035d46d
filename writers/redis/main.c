/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-redis-writer: the servers of Redis and Valkey as components. */
#include "writers/redis/events.h"
#include "writers/redis/servers.h"

static const struct bundled_key keys[] = {
	{ "Socket", BUNDLED_PATHS, "/run/redis/redis-server.sock;/run/redis/redis.sock;/run/valkey/valkey.sock", false },
	{ "Config", BUNDLED_PATHS, "/etc/redis/*.conf;/etc/valkey/*.conf", false },
	{ "Processes", BUNDLED_BOOL, "yes", false },
	{ "User", BUNDLED_TEXT, NULL, true },
	{ "PasswordFile", BUNDLED_PATHS, NULL, true },
	{ "Save", BUNDLED_CHOICE, "auto", true, "auto|never" },
	{ "PauseLimit", BUNDLED_SPAN, "60s", true },
	{ "CommandLimit", BUNDLED_SPAN, "5s", true },
	{ 0 },
};

static const struct bundled_kind redis = {
	.program = "vss-redis-writer",
	.id = "8da8a2a0-33fd-42dc-a63b-076a8cc104cc",
	.name = "Redis",
	.level = VSS_LEVEL_BACK_END,
	.freeze_limit_msec = 60000,
	.config_file = "/etc/vssd/redis-writer.conf",
	.section = "Redis",
	.instance_section = "Server",
	.keys = keys,
	.events = 1u << VSS_EVENT_PREPARE_BACKUP | 1u << VSS_EVENT_PREPARE_SNAPSHOT,
	.discover = servers_discover,
	.serve = server_serve,
	.forget = hold_free,
};

int main(int argc, char **argv)
{
	return bundled_main(&redis, argc, argv);
}
