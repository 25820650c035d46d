/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as VSS's tools write them: bytes, "320MB", "1.5 GB", "10G", "15%", "UNBOUNDED"; units of 1024, in any case. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum size_kind { SIZE_BYTES, SIZE_PERCENT, SIZE_UNBOUNDED };

struct size {
	enum size_kind kind;
	uint64_t bytes;
	unsigned percent;
};

#define SIZE_TEXT 32u

/* -1: not a size. */
int size_parse(const char *text, struct size *ret);

/* "15.7 GB", three digits of it; "512 bytes"; "0 bytes". */
void size_format(uint64_t bytes, char text[SIZE_TEXT]);
