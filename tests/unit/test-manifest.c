/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/manifest.h"

#define ID_A "11111111-1111-4111-8111-111111111111"
#define ID_B "22222222-2222-4222-8222-222222222222"
#define MINIMAL(id, name) "[Writer]\nId=" id "\nName=" name "\n"

struct fixture {
	char root[64], vendor[80], admin[80];
	struct manifests manifests;
	char errors[4096]; /* of all refused files */
	unsigned n_errors;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ .root = "/tmp/vssd-test.XXXXXX" };
	if (!mkdtemp(f.root))
		return -1;
	snprintf(f.vendor, sizeof f.vendor, "%s/vendor", f.root);
	snprintf(f.admin, sizeof f.admin, "%s/admin", f.root);
	*state = &f;
	return mkdir(f.vendor, 0755) < 0 || mkdir(f.admin, 0755) < 0 ? -1 : 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	manifests_done(&f->manifests);
	return nftw(f->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *directory, const char *name, const char *text, mode_t mode)
{
	char path[256];
	FILE *out;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	out = fopen(path, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
}

static void refused(const struct err *err, void *data)
{
	struct fixture *f = data;
	size_t n = strlen(f->errors);

	snprintf(f->errors + n, sizeof f->errors - n, "%s\n", err->text);
	f->n_errors++;
}

static void read_all(struct fixture *f)
{
	const char *directories[] = { f->vendor, "/nonexistent/writers.d", f->admin, NULL };
	struct err err = { 0 };

	manifests_done(&f->manifests);
	f->n_errors = 0;
	*f->errors = '\0';
	if (manifests_read(&f->manifests, directories, refused, f, &err) < 0)
		fail_msg("%s", err.text);
}

static void expect_refused(struct fixture *f, const char *text, const char *says)
{
	put(f->vendor, "bad.writer", text, 0644);
	put(f->vendor, "good.writer", MINIMAL(ID_B, "Good"), 0644);
	read_all(f);
	if (f->n_errors != 1 || f->manifests.n != 1 || !strstr(f->errors, says) || !strstr(f->errors, "/bad.writer"))
		fail_msg("%u errors, %zu read: %s", f->n_errors, f->manifests.n, f->errors);
	assert_non_null(manifests_find(&f->manifests, ID_B));
}

static void reads_everything(void **state)
{
	struct fixture *f = *state;

	put(f->vendor, "example.writer",
	    "# expected\n[Writer]\nId={" ID_A "}\nName=Example Writer\nLevel=system\nUser=nobody\nUnit=example@1.service\n"
	    "BusName=org.example.Writer\nPaths=/var/lib/example; /srv/a b;\nPaths=/third\n",
	    0644);
	put(f->vendor, "README", "not a manifest", 0644);
	read_all(f);
	assert_int_equal(f->n_errors, 0);
	assert_int_equal(f->manifests.n, 1);
	const struct manifest *m = manifests_find(&f->manifests, ID_A);
	assert_non_null(m);
	assert_string_equal(m->name, "Example Writer");
	assert_int_equal(m->level, 2);
	assert_string_equal(m->user, "nobody");
	assert_int_equal(m->uid, 65534);
	assert_string_equal(m->unit, "example@1.service");
	assert_string_equal(m->bus_name, "org.example.Writer");
	assert_int_equal(m->n_paths, 3);
	assert_string_equal(m->paths[0], "/var/lib/example");
	assert_string_equal(m->paths[1], "/srv/a b");
	assert_string_equal(m->paths[2], "/third");
	assert_null(manifests_find(&f->manifests, ID_B));
}

static void least_is_id_and_name(void **state)
{
	struct fixture *f = *state;

	put(f->vendor, "a.writer", MINIMAL(ID_A, "A"), 0600);
	put(f->vendor, "b.writer", MINIMAL(ID_B, "B") "User=no-such-user-here\n", 0644);
	read_all(f);
	const struct manifest *a = manifests_find(&f->manifests, ID_A), *b = manifests_find(&f->manifests, ID_B);
	assert_true(a && b);
	assert_int_equal(a->level, -1);
	assert_int_equal(a->uid, 0);
	assert_null(a->unit);
	assert_null(a->bus_name);
	assert_int_equal(b->uid, (uid_t)-1);
}

static void later_directories_override_and_mask(void **state)
{
	struct fixture *f = *state;
	char path[128];

	put(f->vendor, "a.writer", MINIMAL(ID_A, "Vendor"), 0644);
	put(f->vendor, "b.writer", MINIMAL(ID_B, "B"), 0644);
	put(f->admin, "a.writer", MINIMAL(ID_A, "Admin"), 0644);
	put(f->admin, "b.writer", "", 0644);
	read_all(f);
	assert_int_equal(f->n_errors, 0);
	assert_int_equal(f->manifests.n, 1);
	assert_string_equal(f->manifests.items[0].name, "Admin");
	assert_non_null(strstr(f->manifests.items[0].file, "/admin/"));
	snprintf(path, sizeof path, "%s/a.writer", f->admin);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	read_all(f);
	assert_int_equal(f->n_errors + f->manifests.n, 0);
}

static void refuses_bad_entries(void **state)
{
	struct fixture *f = *state;

	expect_refused(f, "[Writer]\nName=A\n", "Id= is missing");
	expect_refused(f, "[Writer]\nId=" ID_A "\n", "Name= is missing");
	expect_refused(f, "[Writer]\nId=none\nName=A\n", ":2: Id=none");
	expect_refused(f, MINIMAL(ID_A, "A") "Id=" ID_A "\n", "twice");
	expect_refused(f, MINIMAL(ID_A, "A") "Name=B\n", "twice");
	expect_refused(f, "[Writer]\nId=" ID_A "\nName=\n", "Name=");
	expect_refused(f, "[Writer]\nId=" ID_A "\nName=a\tb\x1b[31m\n", "printable");
	expect_refused(f, MINIMAL(ID_A, "12345678901234567890123456789012345678901234567890123456789012345678901234567890x"),
		       "80");
	expect_refused(f, MINIMAL(ID_A, "A") "Level=top\n", "front-end, back-end, system");
	expect_refused(f, MINIMAL(ID_A, "A") "Unit=../../x.service\n", "Unit=");
	expect_refused(f, MINIMAL(ID_A, "A") "Unit=example\n", "Unit=");
	expect_refused(f, MINIMAL(ID_A, "A") "BusName=example\n", "BusName=");
	expect_refused(f, MINIMAL(ID_A, "A") "BusName=:1.7\n", "BusName=");
	expect_refused(f, MINIMAL(ID_A, "A") "BusName=org..x\n", "BusName=");
	expect_refused(f, MINIMAL(ID_A, "A") "BusName=org.7x\n", "BusName=");
	expect_refused(f, MINIMAL(ID_A, "A") "BusName=org.x'\n", "BusName=");
	expect_refused(f, MINIMAL(ID_A, "A") "Paths=/a;relative\n", "Paths=relative");
	expect_refused(f, MINIMAL(ID_A, "A") "Colour=red\n", "\"Colour\"");
	expect_refused(f, "[Reader]\nId=" ID_A "\n", "[Reader]");
	expect_refused(f, "garbage\n", ":1: ");
}

static void paths_are_bounded(void **state)
{
	struct fixture *f = *state;
	char text[2048] = MINIMAL(ID_A, "A") "Paths=";

	for (int i = 0; i < MANIFEST_PATHS_MAX; i++)
		strcat(text, "/p;");
	put(f->vendor, "a.writer", text, 0644);
	read_all(f);
	assert_int_equal(f->manifests.items[0].n_paths, MANIFEST_PATHS_MAX);
	strcat(text, "/p");
	put(f->vendor, "a.writer", "", 0644);
	expect_refused(f, text, "32");
}

static void trusts_only_what_others_cannot_write(void **state)
{
	struct fixture *f = *state;
	char path[128];

	put(f->vendor, "a.writer", MINIMAL(ID_A, "A"), 0664);
	put(f->vendor, "b.writer", MINIMAL(ID_B, "B"), 0646);
	snprintf(path, sizeof path, "%s/c.writer", f->vendor);
	assert_int_equal(mkfifo(path, 0644), 0); /* and does not hang on it */
	snprintf(path, sizeof path, "%s/d.writer", f->vendor);
	assert_int_equal(mkdir(path, 0755), 0);
	read_all(f);
	assert_int_equal(f->manifests.n, 0);
	assert_int_equal(f->n_errors, 4);
	assert_non_null(strstr(f->errors, "a.writer is writable by others"));
	assert_non_null(strstr(f->errors, "c.writer is not a regular file"));
	if (geteuid() != 0)
		return;
	put(f->vendor, "a.writer", MINIMAL(ID_A, "A"), 0644);
	snprintf(path, sizeof path, "%s/a.writer", f->vendor);
	assert_int_equal(chown(path, 65534, 0), 0);
	read_all(f);
	assert_int_equal(f->manifests.n, 0);
	assert_non_null(strstr(f->errors, "belongs to user 65534"));
}

static void second_of_two_with_one_id_is_refused(void **state)
{
	struct fixture *f = *state;

	put(f->admin, "a.writer", MINIMAL(ID_A, "First"), 0644);
	put(f->vendor, "b.writer", MINIMAL(ID_A, "Second"), 0644);
	read_all(f);
	assert_int_equal(f->manifests.n, 1);
	assert_int_equal(f->n_errors, 1);
	assert_string_equal(f->manifests.items[0].name, "First");
	assert_non_null(strstr(f->errors, "b.writer"));
	assert_non_null(strstr(f->errors, "a.writer already"));
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(reads_everything),
		test(least_is_id_and_name),
		test(later_directories_override_and_mask),
		test(refuses_bad_entries),
		test(paths_are_bounded),
		test(trusts_only_what_others_cannot_write),
		test(second_of_two_with_one_id_is_refused),
	};

	return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
