/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server's configuration file, as far as it says where its files are and how it is reached. */
#pragma once

#include <jansson.h>

/* {keyword: first value}; the last one counts, as for the server. NULL if it cannot be read or configures no server. */
json_t *settings_of_file(const char *path);
