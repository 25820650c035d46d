/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "common/cleanup.h"
#include "common/ini.h"
#include "fuzz.h"

static int check(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	must(*section && !strchr(key, '=') && !strchr(section, '\n') && !strchr(value, '\n'));
	must(!*key || (key[0] != ' ' && key[strlen(key) - 1] != ' '));
	return strcmp(value, "refuse") == 0 ? err_set(err, VSS_E_INVALID_ARGUMENT, "refused") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoclose int fd = input_as_file(data, size);
	struct err err = { 0 };

	must((ini_read(fd, "input", check, NULL, &err) == 0) == (err.code == VSS_OK));
	must(!err.code || *err.text);
	return 0;
}
