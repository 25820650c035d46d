/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The btrfs provider's ops; what each reads and answers is in provider.h. */
#pragma once

#include "coordinator/providers/provider.h"

#define BTRFS_MEMBERS_MAX (PROVIDER_FDS_MAX / 2) /* two descriptors each */

int btrfs_prepare(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		  struct err *err);
int btrfs_flush(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int btrfs_cut(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int btrfs_arm(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int btrfs_open(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int btrfs_seal(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int btrfs_abort(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int btrfs_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err);
int btrfs_record(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err);
int btrfs_remove(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err);
int btrfs_mount(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int btrfs_expose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err);
int btrfs_unexpose(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		   struct err *err);
int btrfs_usage(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		struct err *err);
int btrfs_check_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		       struct err *err);
int btrfs_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err);
int btrfs_storage_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		       struct err *err);
int btrfs_storage_set(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		      struct err *err);

/* storage.c: what somebody laid down for one volume goes for another, which has taken its place. */
void associations_move(int store, const char *from, const char *to);
