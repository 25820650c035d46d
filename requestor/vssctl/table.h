/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A table by libsmartcols: columns from a list, cells as text. */
#pragma once

#include <libsmartcols.h>
#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 10

struct table {
	struct libscols_table *scols;
	struct libscols_line *line;
	size_t column, n_columns;
};

/* names: separated by spaces; one that begins with ">" is aligned to the right. */
int table_begin(struct table *table, FILE *out, const char *names);
void table_row(struct table *table);
void table_cell(struct table *table, const char *text);
void table_print(struct table *table); /* and frees it */
