/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoclose int fd = input_as_file(data, size);
	struct config config, before;
	struct err err = { 0 };
	char path[64];

	memset(&config, 0, sizeof config);
	config_defaults(&config);
	memcpy(&before, &config, sizeof config);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (config_read(&config, path, &err) < 0) {
		must(err.code && *err.text);
		must(memcmp(&config, &before, sizeof config) == 0);
	}
	must(config.max_sessions > 0 && config.max_volumes > 0 && config.max_copies > 0);
	must(config.freeze > 0 && config.freeze <= 60000000 && config.idle_timeout > 0);
	return 0;
}
