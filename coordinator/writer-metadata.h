/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a writer says of itself, checked: everything in it comes from a stranger. */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "coordinator/registry.h"

/* -1: err names the member and the rule. Unknown members are refused. */
int writer_metadata_check(json_t *metadata, struct err *err);
/* Fills the writer from metadata that has been checked. Level of a manifest wins. */
int writer_metadata_apply(struct writer *writer, json_t *metadata, struct err *err);
