/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration file of a bundled writer, read into a JSON object: {"": general, "NAME": of one instance, ...}. */
#pragma once

#include "writers/bundled/bundled.h"

/* path NULL: the kind's own, which need not be there. NULL: err. */
json_t *settings_read(const struct bundled_kind *kind, const char *path, struct err *err);
