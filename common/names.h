/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every bus name, object path, interface, environment variable and fixed file name, once. */
#pragma once

#define VSS_BUS_NAME "org.vssd"
#define VSS_ROOT_PATH "/org/vssd"
#define VSS_SESSION_PATH "/org/vssd/session" /* children: the session id, 32 hex digits */
#define VSS_SHADOW_PATH "/org/vssd/shadow"   /* children: the shadow copy id, 32 hex digits */
#define VSS_STORAGE_PATH "/org/vssd/storage" /* children: 32 hex digits, made of the volume's id */
#define VSS_WRITER_PATH "/org/vssd/writer"   /* children: the writer instance id, 32 hex digits */

#define VSS_IFACE_COORDINATOR "org.vssd.Coordinator1"
#define VSS_IFACE_SESSION "org.vssd.Session1"
#define VSS_IFACE_SHADOW "org.vssd.Shadow1"
#define VSS_IFACE_STORAGE "org.vssd.ShadowStorage1"
#define VSS_IFACE_WRITER_RECORD "org.vssd.WriterRecord1"
#define VSS_IFACE_WRITER "org.vssd.Writer1" /* implemented by writers */
#define VSS_ERROR_PREFIX "org.vssd.Error."

/* Where a writer's object lies unless it says otherwise when it registers. */
#define VSS_WRITER_DEFAULT_PATH "/org/vssd/Writer"

#define VSS_ACTION_LIST "org.vssd.list"
#define VSS_ACTION_CREATE "org.vssd.create"
#define VSS_ACTION_DELETE "org.vssd.delete"
#define VSS_ACTION_EXPOSE "org.vssd.expose"
#define VSS_ACTION_REVERT "org.vssd.revert"
#define VSS_ACTION_MANAGE_STORAGE "org.vssd.manage-storage"
#define VSS_ACTION_REGISTER "org.vssd.register"

/* Where vss-watch says what it sees. */
#define VSS_WATCH_DIR "/run/vss-watch"
#define VSS_WATCH_STATE VSS_WATCH_DIR "/state/watch"

/* Environment of vssd: set, every change of a session's state is logged. */
#define VSS_ENV_DEBUG "VSSD_DEBUG"

/* vss-guard: its socket (guard.sock) and its lists lie here. Environment of vssctl: another directory, another program. */
#define VSS_GUARD_DIRECTORY "/run/vss-guard"
#define VSS_GUARD_LIST_PREFIX "held-" /* a list is there while anything may be held */
#define VSS_ENV_GUARD_DIRECTORY "VSS_GUARD_DIRECTORY"
#define VSS_ENV_GUARD_PROGRAM "VSS_GUARD_PROGRAM"

/* Environment of a child that a writer or a requestor starts. */
#define VSS_ENV_ROOT "VSS_ROOT"  /* backup: root of the mounted copies */
#define VSS_ENV_COPY "VSS_COPY_" /* n from 1: a copy */
#define VSS_ENV_LIVE "VSS_LIVE_" /* n from 1: its live path */

/* Storage layout of a btrfs filesystem's copies, below its top-level subvolume. */
#define VSS_STORE_DIR ".vss"
#define VSS_STORE_COPY "copy"          /* .vss/ID/copy: the subvolume */
#define VSS_STORE_RECORD "record.json" /* .vss/ID/record.json: present once sealed */
#define VSS_STORE_ASSOCIATIONS "storage.json" /* .vss/storage.json: shadow storage that was set up */

#define VSS_PROVIDER_BTRFS_ID "4aa5a7a5-39d4-4a0b-a3f6-5fd0c1a6a0e9"
#define VSS_PROVIDER_LVM_ID "0f963b1c-ff87-4fa5-96be-00e6e2247834"

#define VSS_SYSTEM_MANIFEST_SUFFIX ".writer"
