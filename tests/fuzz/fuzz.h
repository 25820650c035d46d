/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the fuzz targets share: libFuzzer's entry, and input as a file. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold; the input that breaks it is kept by libFuzzer. */
#define must(condition)          \
	do {                     \
		if (!(condition)) \
			abort(); \
	} while (0)

static inline int input_as_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}
