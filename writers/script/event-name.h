/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events as executables are named after them: "prepare-snapshot". */
#pragma once

#include "writers/vsswriter.h"

#define SCRIPT_EVENTS (VSS_EVENT_POST_RESTORE + 1)

const char *event_hook_name(enum vss_event event); /* NULL for Identify, which no script gets */
int event_from_hook_name(const char *name);	   /* -1: unknown */
int event_from_key(const char *key);		   /* "PrepareSnapshot", as in configuration files; -1: unknown */
