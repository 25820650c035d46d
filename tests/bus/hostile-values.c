/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random D-Bus values: what libdbus lets pass, with a liking for edges. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "victim.h"

#define DEPTH_MAX 40 /* a message may nest 64 containers; vssd takes 24 */

static const char *const texts[] = {
	"",
	"/",
	"/data",
	"/data/x",
	"/data/../..",
	"relative",
	"//",
	"copy",
	"full",
	"backup",
	"app-rollback",
	"fail",
	"degrade",
	"org.vssd",
	":1.1",
	"%s%n%d",
	"\n\t\x7F",
	"\xC3\xA4",
	"\xEF\xBF\xBF",
	"\xF4\x8F\xBF\xBF",
	"{}",
	"[]",
	NOBODYS_WRITER,
	ABSENT_WRITER,
	"00000000-0000-0000-0000-000000000000",
	"0000000000000000000000000000000",
	"{00000000-0000-0000-0000-000000000000}",
	"Nobody's writer",
	"front-end",
	"all-volumes",
	"$fd",
};
static const char *const keys[] = {
	"Context",
	"BackupType",
	"Recursive",
	"AddMissingVolumes",
	"RequireWriters",
	"ExcludeWriters",
	"IncludeWriters",
	"OnWriterFailure",
	"Retries",
	"WaitUsec",
	"Command",
	"Shadow",
	"Set",
	"For",
	"Oldest",
	"All",
	"TimeoutUsec",
	"Writer",
	"Component",
	"Id",
	"Instance",
	"Name",
	"Components",
	"Events",
	"Files",
	"$fd",
	"",
};
static const char *const paths[] = { "/", "/org/vssd", "/org/vssd/Writer", "/a/b/c/d/e/f/g/h",
				     "/org/freedesktop/DBus" };
static const char *const signatures[] = {
	"s",	 "b",	  "i",	  "u",	     "x",	  "t",	    "d",    "y",      "n",	 "q",	   "o",
	"g",	 "h",	  "v",	  "as",	     "ay",	  "av",	    "ah",   "aas",    "a{sv}",	 "aa{sv}", "a{ss}",
	"a{uv}", "a{ov}", "(sv)", "(ii(s))", "a(sa{sv})", "aaaaai", "vvvv", "sa{sv}", "ssa{sv}", "oa{sv}", "ba{sv}",
};

#define PICK(dice, list) ((list)[dice_roll(dice, ARRAY_SIZE(list))])

const char *random_signature(struct dice *dice)
{
	return dice_one_in(dice, 8) ? "" : PICK(dice, signatures);
}

static int new_fd(struct dice *dice)
{
	int pair[2], fd;

	switch (dice_roll(dice, 7)) {
	case 0:
		fd = pipe2(pair, O_CLOEXEC) < 0 ? -1 : (close(pair[1]), pair[0]);
		break;
	case 1:
		fd = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -1 : (close(pair[1]), pair[0]);
		break;
	case 2:
		fd = open("/", O_PATH | O_CLOEXEC);
		break;
	case 3:
		fd = epoll_create1(EPOLL_CLOEXEC);
		break;
	case 4:
		fd = memfd_create("hostile", MFD_CLOEXEC);
		break;
	case 5:
		fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		break;
	default:
		fd = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		break;
	}
	return fd >= 0 ? fd : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void append_text(struct dice *dice, DBusMessageIter *it, int type, bool is_key)
{
	static char huge[70000];
	const char *text = is_key && !dice_one_in(dice, 8) ? PICK(dice, keys) : PICK(dice, texts);

	if (type == DBUS_TYPE_OBJECT_PATH) {
		text = PICK(dice, paths);
	} else if (type == DBUS_TYPE_SIGNATURE) {
		text = PICK(dice, signatures);
	} else if (dice_one_in(dice, 100)) {
		memset(huge, 'x', sizeof huge - 1);
		text = huge;
	}
	dbus_message_iter_append_basic(it, type, &text);
}

static void append_number(struct dice *dice, DBusMessageIter *it, int type)
{
	static const uint64_t edges[] = { 0,	     1,		 2,	    7,		1000000,
					  INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_C(1) << 63 };
	static const double reals[] = { 0.0, -1.5, 1e308 };
	DBusBasicValue v = { .u64 = PICK(dice, edges) };

	if (type == DBUS_TYPE_BOOLEAN)
		v.bool_val = dice_one_in(dice, 2);
	if (type == DBUS_TYPE_DOUBLE)
		v.dbl = dice_one_in(dice, 3) ? (dice_one_in(dice, 2) ? NAN : INFINITY) : PICK(dice, reals);
	dbus_message_iter_append_basic(it, type, &v);
}

static void append_value(struct dice *dice, DBusMessageIter *it, DBusSignatureIter *sig, int depth, bool is_key);

static void append_inner(struct dice *dice, DBusMessageIter *it, int type, DBusSignatureIter *inner, int depth)
{
	bool is_key = type == DBUS_TYPE_DICT_ENTRY;

	do {
		append_value(dice, it, inner, depth + 1, is_key);
		is_key = false;
	} while (dbus_signature_iter_next(inner));
}

static void append_array(struct dice *dice, DBusMessageIter *it, DBusSignatureIter *element, int depth)
{
	bool basic = dbus_type_is_basic(dbus_signature_iter_get_current_type(element)) &&
		     dbus_signature_iter_get_current_type(element) != DBUS_TYPE_UNIX_FD;
	uint32_t n = dice_roll(dice, depth > 4 ? 2 : 5);

	if (basic && dice_one_in(dice, 200))
		n = dice_one_in(dice, 4) ? 250000 : 5000;
	while (n-- > 0) {
		DBusSignatureIter sig = *element;
		append_value(dice, it, &sig, depth + 1, false);
	}
}

static void append_container(struct dice *dice, DBusMessageIter *it, DBusSignatureIter *sig, int type, int depth)
{
	DBusSignatureIter inner;
	DBusMessageIter sub;
	char *contained = NULL;

	if (type == DBUS_TYPE_VARIANT) {
		/* A liking for variants in variants: a deep value is what a recursive reader fears. */
		const char *signature = depth >= DEPTH_MAX ? "s" : dice_one_in(dice, 3) ? "v" : PICK(dice, signatures);
		DBusSignatureIter first;
		dbus_signature_iter_init(&first, signature);
		contained = dbus_signature_iter_get_signature(&first);
		dbus_signature_iter_init(&inner, contained);
	} else {
		dbus_signature_iter_recurse(sig, &inner);
		contained = type == DBUS_TYPE_ARRAY ? dbus_signature_iter_get_signature(&inner) : NULL;
	}
	dbus_message_iter_open_container(it, type, contained, &sub);
	if (type == DBUS_TYPE_ARRAY)
		append_array(dice, &sub, &inner, depth);
	else
		append_inner(dice, &sub, type, &inner, depth);
	dbus_message_iter_close_container(it, &sub);
	dbus_free(contained);
}

static void append_value(struct dice *dice, DBusMessageIter *it, DBusSignatureIter *sig, int depth, bool is_key)
{
	int type = dbus_signature_iter_get_current_type(sig);

	if (type == DBUS_TYPE_STRING || type == DBUS_TYPE_OBJECT_PATH || type == DBUS_TYPE_SIGNATURE) {
		append_text(dice, it, type, is_key);
	} else if (type == DBUS_TYPE_UNIX_FD) {
		autoclose int fd = new_fd(dice);
		dbus_message_iter_append_basic(it, type, &fd);
	} else if (dbus_type_is_basic(type)) {
		append_number(dice, it, type);
	} else {
		append_container(dice, it, sig, type, depth);
	}
}

void append_random(struct dice *dice, DBusMessage *message, const char *signature)
{
	DBusSignatureIter sig;
	DBusMessageIter it;

	if (!*signature)
		return;
	dbus_signature_iter_init(&sig, signature);
	dbus_message_iter_init_append(message, &it);
	do
		append_value(dice, &it, &sig, 0, false);
	while (dbus_signature_iter_next(&sig));
}
