/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer without libvsswriter that lacks the methods whose action is `unknown`: no library would leave them out. */
#pragma once

#include "options.h"

int bare_writer_run(const struct options *options); /* the process' exit status */
