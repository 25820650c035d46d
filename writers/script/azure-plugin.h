/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VMSnapshotScriptPluginConfig.json, the configuration of Azure Backup's pre- and post-script. */
#pragma once

#include "writers/script/commands.h"

/* The pre-script for freeze, the post-script for thaw (and so, without one of its own, for abort). Read anew each time. */
int azure_plugin_find(struct commands *commands, const char *file, enum vss_event event, struct err *err);
