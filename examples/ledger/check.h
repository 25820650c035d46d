/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Do the two books agree, and, unless expected is negative, end at transaction `expected`? Prints what is wrong.
 * 0: all is well. 1: something is wrong. */
int ledger_check(const char *debit_directory, const char *credit_directory, int64_t expected);
