/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The LVM provider's ops; what each reads and answers is in provider.h. */
#pragma once

#include "coordinator/providers/provider.h"

int lvm_prepare(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int lvm_flush(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_arm(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_open(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_seal(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_abort(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_record(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_remove(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_mount(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_expose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_unexpose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err);
int lvm_usage(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_storage_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		     struct err *err);
int lvm_storage_set(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		    struct err *err);
int lvm_extend(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_check_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		     struct err *err);
int lvm_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int lvm_reverts(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int lvm_end_reverts(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		    struct err *err);
