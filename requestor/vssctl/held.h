/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What vss-guard holds, asked of the guard itself: without vssd and without the bus. Where the guard has ended or
 * hangs, its program reads the lists that it left on /run. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "requestor/vssrequestor.h"

/* Rows {"Object", "Device", "Set", "Owner", "Since", "Deadline"} (times in usec since the epoch), in *ret_rows. */
int held_list(json_t **ret_rows, struct vss_failure *failure);
/* {"Released": n, "Objects": [names], "Stuck": [names], "By": "guard" or "list"}. */
int held_release(json_t **ret_result, struct vss_failure *failure);

/* For people; rows and result must be printable already. */
void print_held(FILE *out, json_t *rows);
void print_released(FILE *out, json_t *result);
