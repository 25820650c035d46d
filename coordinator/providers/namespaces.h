/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mount namespaces of this machine's processes, other than this one's. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Shows the mountinfo text of one process of each other namespace; false ends the scan. */
typedef bool (*namespace_fn)(pid_t pid, const char *mountinfo, void *data);

/* Bounded in number and time: what is not seen within the bounds is not reported. */
void namespaces_for_each(namespace_fn visit, void *data);
