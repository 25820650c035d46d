/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/window-plan.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "common/clock.h"
#include "common/text.h"
#include "coordinator/guard/guard.h"

/* ---- fields ---- */

static int wrong(struct err *err, const char *list, size_t index, const char *what)
{
	return err_set(err, VSS_E_INVALID_ARGUMENT, "The window's plan is not valid: %s[%zu]: %s", list, index, what);
}

/* Copies a string that fits and is not empty; slashes only where allowed. */
static bool take_name(json_t *object, const char *key, char *buffer, size_t size, bool slashes)
{
	json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	if (!text || !*text || json_string_length(value) != strlen(text) || strlen(text) >= size ||
	    (!slashes && strchr(text, '/')))
		return false;
	strcpy(buffer, text);
	return true;
}

static bool take_number(json_t *object, const char *key, int64_t max, bool optional, uint32_t *ret)
{
	json_t *value = json_object_get(object, key);
	json_int_t number = json_integer_value(value);

	if (!value && optional)
		return true;
	if (!json_is_integer(value) || number < 0 || number > max)
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool take_fd(json_t *object, const char *key, size_t n_fds, int32_t *ret)
{
	uint32_t number = 0;

	if (n_fds == 0 || !take_number(object, key, (int64_t)n_fds - 1, false, &number))
		return false;
	*ret = (int32_t)number;
	return true;
}

static bool take_device(json_t *object, uint32_t *major, uint32_t *minor)
{
	const char *text = json_string_value(json_object_get(object, "Device"));
	int end = 0;

	return text && isdigit((unsigned char)*text) &&
	       sscanf(text, "%4" SCNu32 ":%7" SCNu32 "%n", major, minor, &end) == 2 && text[end] == '\0' &&
	       *major < 1u << 12 && *minor < 1u << 20;
}

/* An array with at most max entries; absent is empty. */
static bool take_list(json_t *plan, const char *key, size_t max, json_t **ret)
{
	*ret = json_object_get(plan, key);
	return !*ret || (json_is_array(*ret) && json_array_size(*ret) <= max);
}

/* ---- the parts of a plan ---- */

static int parse_filesystem(json_t *entry, size_t index, size_t n_fds, struct object *object, struct err *err)
{
	const char *path = json_string_value(json_object_get(entry, "Path"));

	if (!path || !*path)
		return wrong(err, "Filesystems", index, "has no Path");
	text_format(object->name, sizeof object->name, "%s", path);
	if (!take_fd(entry, "Fd", n_fds, &object->fd))
		return wrong(err, "Filesystems", index, "Fd is not the index of a descriptor that came along");
	if (!take_device(entry, &object->major, &object->minor))
		return wrong(err, "Filesystems", index, "Device is not MAJOR:MINOR");
	if (!take_number(entry, "Depth", BOARD_DEPTH_MAX, true, &object->depth))
		return wrong(err, "Filesystems", index, "Depth is not a number from 0 to 8");
	return 0;
}

static int parse_device(json_t *entry, size_t index, struct object *object, struct err *err)
{
	object->is_device = true;
	object->fd = -1;
	if (!take_name(entry, "Name", object->name, DEVICE_NAME_SIZE, false))
		return wrong(err, "Devices", index, "Name is not the name of a device-mapper device");
	if (!take_device(entry, &object->major, &object->minor))
		return wrong(err, "Devices", index, "Device is not MAJOR:MINOR");
	if (!take_number(entry, "Flags", UINT16_MAX, true, &object->flags))
		return wrong(err, "Devices", index, "Flags are not a number of 16 bits");
	if (!take_number(entry, "Depth", BOARD_DEPTH_MAX, true, &object->depth))
		return wrong(err, "Devices", index, "Depth is not a number from 0 to 8");
	return 0;
}

/* The one message that cuts; a pool understands others, which have no place in a window. */
static bool is_cutting_message(const char *text)
{
	unsigned copy, origin;
	int end = 0;

	return sscanf(text, "create_snap %8u %8u%n", &copy, &origin, &end) == 2 && text[end] == '\0';
}

static int parse_cut_of_device(json_t *entry, size_t index, struct cut *cut, struct err *err)
{
	if (!take_device(entry, &cut->major, &cut->minor))
		return wrong(err, "Cuts", index, "Device is not MAJOR:MINOR");
	if (!take_name(entry, "Name", cut->name, DEVICE_NAME_SIZE, false))
		return wrong(err, "Cuts", index, "Name is not the name of a device-mapper device");
	if (!take_number(entry, "Flags", UINT16_MAX, true, &cut->flags))
		return wrong(err, "Cuts", index, "Flags are not a number of 16 bits");
	if (cut->kind == CUT_MESSAGE && (!take_name(entry, "Message", cut->message, sizeof cut->message, false) ||
					 !is_cutting_message(cut->message)))
		return wrong(err, "Cuts", index, "Message is not \"create_snap ID ID\"");
	return 0;
}

static int parse_cut_of_btrfs(json_t *entry, size_t index, size_t n_fds, struct cut *cut, struct err *err)
{
	if (!take_fd(entry, "Source", n_fds, &cut->source) || !take_fd(entry, "Store", n_fds, &cut->store))
		return wrong(err, "Cuts", index, "Source or Store is not the index of a descriptor that came along");
	if (!take_name(entry, "Name", cut->name, sizeof cut->name, false) || strcmp(cut->name, ".") == 0 ||
	    strcmp(cut->name, "..") == 0)
		return wrong(err, "Cuts", index, "Name is not the name of a subvolume");
	cut->read_only = json_is_true(json_object_get(entry, "ReadOnly"));
	return 0;
}

static int parse_cut(json_t *entry, size_t index, size_t n_fds, struct cut *cut, struct err *err)
{
	const char *kind = json_string_value(json_object_get(entry, "Kind"));

	if (kind && strcmp(kind, "resume") == 0)
		cut->kind = CUT_RESUME;
	else if (kind && strcmp(kind, "message") == 0)
		cut->kind = CUT_MESSAGE;
	else if (kind && strcmp(kind, "btrfs-snapshot") == 0)
		cut->kind = CUT_SNAPSHOT;
	else
		return wrong(err, "Cuts", index, "Kind is not resume, message or btrfs-snapshot");
	return cut->kind == CUT_SNAPSHOT ? parse_cut_of_btrfs(entry, index, n_fds, cut, err)
					 : parse_cut_of_device(entry, index, cut, err);
}

static int parse_lists(json_t *plan, size_t n_fds, struct board *board, struct err *err)
{
	json_t *filesystems, *devices, *cuts, *entry;
	size_t index;

	if (!take_list(plan, "Filesystems", BOARD_FILESYSTEMS_MAX, &filesystems) ||
	    !take_list(plan, "Devices", BOARD_DEVICES_MAX, &devices) || !take_list(plan, "Cuts", BOARD_CUTS_MAX, &cuts))
		return err_set(
		    err, VSS_E_LIMITS_EXCEEDED,
		    "The window's plan is not valid: a window holds at most %d filesystems and %d devices and makes "
		    "%d cuts",
		    BOARD_FILESYSTEMS_MAX, BOARD_DEVICES_MAX, BOARD_CUTS_MAX);
	board->n_filesystems = (uint32_t)json_array_size(filesystems);
	board->n_devices = (uint32_t)json_array_size(devices);
	board->n_cuts = (uint32_t)json_array_size(cuts);
	if (board_objects(board) + board->n_cuts == 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The window's plan is not valid: it is empty");
	json_array_foreach (filesystems, index, entry)
		if (parse_filesystem(entry, index, n_fds, &board->objects[index], err) < 0)
			return -1;
	json_array_foreach (devices, index, entry)
		if (parse_device(entry, index, &board->objects[board->n_filesystems + index], err) < 0)
			return -1;
	json_array_foreach (cuts, index, entry)
		if (parse_cut(entry, index, n_fds, &board->cuts[index], err) < 0)
			return -1;
	return 0;
}

/* The set's id becomes a file's name. */
static bool is_id(const char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-')
			return false;
	return *text != '\0';
}

static int parse_deadline(json_t *plan, struct board *board, struct err *err)
{
	uint64_t now = clock_now();
	json_t *value = json_object_get(plan, "Deadline");

	board->deadline = now + GUARD_DEADLINE_DEFAULT;
	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The window's plan is not valid: Deadline is not a time");
	board->deadline = (uint64_t)json_integer_value(value);
	if (board->deadline > now + GUARD_DEADLINE_MAX)
		board->deadline = now + GUARD_DEADLINE_MAX;
	if (board->deadline <= now)
		return err_set(err, VSS_E_HOLD_WRITES_TIMEOUT,
			       "The window's deadline had passed before it began; nothing was held. Try again");
	return 0;
}

int plan_parse(json_t *plan, size_t n_fds, struct board *board, struct err *err)
{
	*board = (struct board){ .rcu_before = -1 };
	if (!take_name(plan, "Set", board->set, sizeof board->set, false) || !is_id(board->set))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The window's plan is not valid: Set is not an id");
	const char *owner = json_string_value(json_object_get(plan, "Owner"));
	text_format(board->owner, sizeof board->owner, "%s", owner && *owner ? owner : "unknown");
	board->hold = json_is_true(json_object_get(plan, "Hold"));
	board->since = clock_usec(CLOCK_REALTIME);
	return parse_deadline(plan, board, err) < 0 ? -1 : parse_lists(plan, n_fds, board, err);
}

/* ---- against the kernel ---- */

static int check_device(const struct object *object, int control, struct err *err)
{
	struct device_status status;
	int r = guard_kernel->status(control, object->major, object->minor, &status);

	if (r < 0)
		return err_errno(err, -r, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "The device %s (%u:%u) cannot be asked for its status", object->name, object->major,
				 object->minor);
	if (strcmp(status.name, object->name) != 0)
		return err_set(
		    err, VSS_E_OBJECT_NOT_FOUND,
		    "The device %u:%u was %s and is now %s: it was replaced or renamed by somebody else. Try again",
		    object->major, object->minor, object->name, status.name);
	if (status.suspended)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "The device %s is suspended by somebody else: dmsetup resume %s, and try again",
			       object->name, object->name);
	if (!status.live)
		return err_set(err, VSS_E_VOLUME_IN_USE, "The device %s has no table: activate the volume",
			       object->name);
	return 0;
}

static int read_btrfs_id(int fd, struct object *object)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -1;
	if ((unsigned long)fs.f_type != BTRFS_SUPER_MAGIC)
		return 0;
	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return -1;
	memcpy(object->fsid, info.fsid, sizeof object->fsid);
	object->is_btrfs = true;
	object->is_read_only = guard_kernel->is_read_only(fd);
	return 0;
}

static int check_filesystem(struct object *object, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || read_btrfs_id(fd, object) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s cannot be examined", object->name);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s is not a directory: it cannot be frozen", object->name);
	if (!object->is_btrfs && (major(st.st_dev) != object->major || minor(st.st_dev) != object->minor))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "%s is on the device %u:%u, not on %u:%u: it was unmounted or replaced. Try again",
			       object->name, major(st.st_dev), minor(st.st_dev), object->major, object->minor);
	return 0;
}

static bool is_same(const struct object *a, const struct object *b)
{
	if (a->is_device != b->is_device || a->is_btrfs != b->is_btrfs)
		return false;
	if (a->is_btrfs)
		return memcmp(a->fsid, b->fsid, sizeof a->fsid) == 0;
	return a->major == b->major && a->minor == b->minor;
}

/* The board is written while things are held. */
static int check_run_directory(const struct object *object, const struct stat *run, struct err *err)
{
	if (object->major != major(run->st_dev) || object->minor != minor(run->st_dev))
		return 0;
	return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
		       "%s holds the directory in which vss-guard keeps its list of what is held: it has to be a "
		       "tmpfs, as /run is",
		       object->name);
}

int plan_check(struct board *board, int control, const int *fds, int run_directory, struct err *err)
{
	struct stat run = { 0 };

	if (fstat(run_directory, &run) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "vss-guard cannot examine its own directory");
	for (size_t i = 0; i < board_objects(board); i++) {
		struct object *object = &board->objects[i];
		int r = object->is_device ? check_device(object, control, err)
					  : check_filesystem(object, fds[object->fd], err);
		if (r < 0 || check_run_directory(object, &run, err) < 0)
			return -1;
		for (size_t k = 0; k < i; k++)
			if (is_same(object, &board->objects[k]))
				return err_set(
				    err, VSS_E_INVALID_ARGUMENT,
				    "The window's plan is not valid: %s and %s are the same; each is held once",
				    board->objects[k].name, object->name);
	}
	return 0;
}
