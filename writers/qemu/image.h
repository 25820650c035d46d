/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disk images as files on the host: which files one consists of, and whether somebody runs on it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"

#define IMAGE_FILES_MAX 256 /* of one guest */

/* Adds the image's file, and where it is a qcow2 its data file and its backing files to the end of the chain, each once, to
 * files (array of paths, without links where they can be resolved). probe false: the image is raw, whatever its first bytes say; a guest
 * writes them. -1: err; a part of it that is not on this host's filesystems is an error too. */
int image_files(const char *path, bool probe, json_t *files, struct err *err);
/* The file that an image's reference names: "FILE", "file:FILE", "json:{...}"; relative to the directory of `image`. NULL: err. The
 * caller frees. */
char *image_reference(const char *image, const char *reference, struct err *err);
/* QEMU locks bytes of each image that it has open (since 2.10). False also where that cannot be found out. */
bool image_is_open_in_qemu(const char *path);
