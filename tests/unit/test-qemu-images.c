/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files a disk consists of, as its headers say; and what headers may not make of it. */
#include <endian.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka.h needs the above. */
#include <cmocka.h>

#include "common/cleanup.h"
#include "writers/qemu/image.h"
#include "writers/qemu/note.h"

static char directory[] = "/tmp/test-qemu-images.XXXXXX";

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", directory);
	return system(command);
}

static const char *at(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static void put_bytes(const char *name, const void *bytes, size_t n)
{
	autoclose int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), (ssize_t)n);
}

static void put32(uint8_t *to, uint32_t value)
{
	value = htobe32(value);
	memcpy(to, &value, sizeof value);
}

static void put64(uint8_t *to, uint64_t value)
{
	value = htobe64(value);
	memcpy(to, &value, sizeof value);
}

/* As qemu-img makes them; NULL: without. */
static void put_qcow2(const char *name, uint32_t version, const char *backing, const char *data)
{
	uint8_t bytes[4096] = "QFI\xFB";
	size_t at_extensions = version >= 3 ? 104 : 72;

	put32(bytes + 4, version);
	if (version >= 3)
		put32(bytes + 100, 104);
	/* An extension that does not matter comes first. */
	put32(bytes + at_extensions, 0xE2792ACA);
	put32(bytes + at_extensions + 4, 5);
	memcpy(bytes + at_extensions + 8, "qcow2", 5);
	if (data) {
		put32(bytes + at_extensions + 16, 0x44415441);
		put32(bytes + at_extensions + 20, (uint32_t)strlen(data));
		memcpy(bytes + at_extensions + 24, data, strlen(data));
	}
	if (backing) {
		put64(bytes + 8, 2048);
		put32(bytes + 16, (uint32_t)strlen(backing));
		memcpy(bytes + 2048, backing, strlen(backing));
	}
	put_bytes(name, bytes, sizeof bytes);
}

static void expect_files(const char *name, int probe, ...)
{
	autojson json_t *files = json_array();
	struct err err = { 0 };
	va_list names;
	size_t n = 0;

	if (image_files(at(name), probe, files, &err) < 0)
		fail_msg("%s", err.text);
	va_start(names, probe);
	for (const char *file; (file = va_arg(names, const char *)); n++)
		assert_string_equal(json_string_value(json_array_get(files, n)) ?: "(none)", at(file));
	va_end(names);
	assert_int_equal(json_array_size(files), n);
}

static void expect_error(const char *name, const char *words)
{
	autojson json_t *files = json_array();
	struct err err = { 0 };

	assert_int_equal(image_files(at(name), true, files, &err), -1);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void chains_are_followed(void **state)
{
	put_bytes("raw", "anything", 8);
	put_qcow2("base", 2, NULL, NULL);
	put_qcow2("middle", 3, "base", NULL);
	put_qcow2("top", 3, at("middle"), NULL);
	put_qcow2("on-raw", 3, "raw", NULL);
	put_qcow2("by-json", 3, "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"base\"}}", NULL);
	put_qcow2("by-dots", 3, "json:{\"file.filename\":\"base\"}", NULL);
	put_qcow2("by-scheme", 3, "file:base", NULL);
	put_qcow2("split", 3, "base", "raw");
	expect_files("raw", true, "raw", NULL);
	expect_files("base", true, "base", NULL);
	expect_files("top", true, "top", "middle", "base", NULL);
	expect_files("on-raw", true, "on-raw", "raw", NULL);
	expect_files("by-json", true, "by-json", "base", NULL);
	expect_files("by-dots", true, "by-dots", "base", NULL);
	expect_files("by-scheme", true, "by-scheme", "base", NULL);
	expect_files("split", true, "split", "raw", "base", NULL);
}

static void links_lead_to_the_file(void **state)
{
	put_bytes("real", "x", 1);
	assert_int_equal(symlink("real", at("link")), 0);
	expect_files("link", true, "real", NULL);
}

/* What a guest has written is no reason to look elsewhere. */
static void raw_disks_are_not_looked_into(void **state)
{
	put_qcow2("looks-like", 3, "/etc/shadow", NULL);
	expect_files("looks-like", false, "looks-like", NULL);
	/* Nor are data files, which are raw. */
	put_qcow2("with-data", 3, NULL, "looks-like");
	expect_files("with-data", true, "with-data", "looks-like", NULL);
}

static void chains_end(void **state)
{
	put_qcow2("self", 3, "self", NULL);
	put_qcow2("one", 3, "two", NULL);
	put_qcow2("two", 3, "one", NULL);
	expect_files("self", true, "self", NULL);
	expect_files("one", true, "one", "two", NULL);
	for (int i = 0; i < 300; i++) {
		char name[16], next[16];
		snprintf(name, sizeof name, "n%d", i);
		snprintf(next, sizeof next, "n%d", i + 1);
		put_qcow2(name, 3, next, NULL);
	}
	expect_error("n0", "more than 256 files");
}

static void what_no_copy_holds_is_told(void **state)
{
	put_qcow2("remote", 3, "nbd://server/disk", NULL);
	put_qcow2("remote-json", 3, "json:{\"driver\":\"nbd\",\"server.path\":\"/x\"}", NULL);
	put_qcow2("missing", 3, "not-there", NULL);
	put_qcow2("device", 3, "/dev/null", NULL);
	expect_error("remote", "nbd://server/disk is no file of this host");
	expect_error("remote-json", "is no file of this host");
	expect_error("missing", "not-there cannot be opened");
	expect_error("device", "neither a file nor a block device");
	expect_error("nowhere", "nowhere cannot be opened");
}

static void damaged_headers_are_refused(void **state)
{
	uint8_t bytes[4096] = "QFI\xFB";

	put32(bytes + 4, 3);
	put64(bytes + 8, UINT64_MAX);
	put32(bytes + 16, 10);
	put_bytes("far", bytes, sizeof bytes);
	expect_error("far", "damaged");
	put64(bytes + 8, 100);
	put32(bytes + 16, UINT32_MAX);
	put_bytes("long", bytes, sizeof bytes);
	expect_error("long", "damaged");
	put64(bytes + 8, 0);
	put32(bytes + 100, UINT32_MAX);
	put_bytes("extensions", bytes, sizeof bytes);
	expect_error("extensions", "damaged");
	/* Too short to be one. */
	put_bytes("short", "QFI\xFB\0\0\0\3", 8);
	expect_files("short", true, "short", NULL);
}

static void locks_of_qemu_are_seen(void **state)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 203, .l_len = 1 };

	put_bytes("locked", "x", 1);
	assert_false(image_is_open_in_qemu(at("locked")));
	int fd = open(at("locked"), O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_true(image_is_open_in_qemu(at("locked")));
	close(fd);
	assert_false(image_is_open_in_qemu(at("locked")));
	assert_false(image_is_open_in_qemu(at("never")));
}

static void notes_have_names_of_their_own(void **state)
{
	char file[NOTE_FILE_SIZE], other[NOTE_FILE_SIZE], longest[200];

	note_file("web-1.example_org", file);
	assert_string_equal(file, "web-1.example_org.frozen");
	note_file("../x", file);
	assert_string_equal(file, "%2E.%2Fx.frozen");
	note_file("a b", file);
	note_file("a%20b", other);
	assert_string_not_equal(file, other);
	memset(longest, '/', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	note_file(longest, file);
	assert_int_equal(strlen(file), 80 * 3 + strlen(".frozen"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_are_followed),
		cmocka_unit_test(links_lead_to_the_file),
		cmocka_unit_test(raw_disks_are_not_looked_into),
		cmocka_unit_test(chains_end),
		cmocka_unit_test(what_no_copy_holds_is_told),
		cmocka_unit_test(damaged_headers_are_refused),
		cmocka_unit_test(locks_of_qemu_are_seen),
		cmocka_unit_test(notes_have_names_of_their_own),
	};

	return cmocka_run_group_tests_name("qemu-images", tests, make_directory, remove_directory);
}
