/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/table.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

int table_begin(struct table *table, FILE *out, const char *names)
{
	autofree char *copy = strdup(names);
	char *rest = NULL;

	*table = (struct table){ .scols = scols_new_table() };
	if (!copy || !table->scols)
		return -1;
	setlocale(LC_CTYPE, ""); /* for the width of characters; nothing else may depend on the locale */
	scols_table_set_stream(table->scols, out);
	for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
		bool right = *name == '>';
		if (!scols_table_new_column(table->scols, name + right, 0, right ? SCOLS_FL_RIGHT : 0))
			return -1;
		table->n_columns++;
	}
	return 0;
}

void table_row(struct table *table)
{
	table->line = scols_table_new_line(table->scols, NULL);
	table->column = 0;
}

void table_cell(struct table *table, const char *text)
{
	if (table->line && table->column < table->n_columns)
		scols_line_set_data(table->line, table->column++, text);
}

void table_print(struct table *table)
{
	scols_print_table(table->scols);
	scols_unref_table(table->scols);
	table->scols = NULL;
}
