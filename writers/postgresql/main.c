/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-postgresql-writer: PostgreSQL's clusters as components. */
#include "writers/postgresql/clusters.h"
#include "writers/postgresql/events.h"
#include "writers/postgresql/hold.h"

static const struct bundled_key keys[] = {
	{ "ConfigRoots", BUNDLED_PATHS, "/etc/postgresql", false },
	{ "DataRoots", BUNDLED_PATHS, "/var/lib/postgresql;/var/lib/pgsql", false },
	{ "DataDirectory", BUNDLED_PATHS, NULL, false },
	{ "ConnInfo", BUNDLED_TEXT, NULL, true },
	{ "ConnectLimit", BUNDLED_SPAN, "5s", true },
	{ 0 },
};

static const struct bundled_kind postgresql = {
	.program = "vss-postgresql-writer",
	.id = "0e1e412d-b14c-4fd6-9bd3-695c2535fa46",
	.name = "PostgreSQL",
	.level = VSS_LEVEL_BACK_END,
	.freeze_limit_msec = 60000,
	.config_file = "/etc/vssd/postgresql-writer.conf",
	.section = "PostgreSQL",
	.instance_section = "Cluster",
	.keys = keys,
	.events = 1u << VSS_EVENT_PREPARE_BACKUP | 1u << VSS_EVENT_PREPARE_SNAPSHOT | 1u << VSS_EVENT_POST_SNAPSHOT,
	.discover = clusters_discover,
	.serve = cluster_serve,
	.forget = hold_free,
};

int main(int argc, char **argv)
{
	return bundled_main(&postgresql, argc, argv);
}
