/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/state-store.h"

struct place {
	char dir[64], kind[80];
	struct state_store *store;
};

static int setup(void **state)
{
	static struct place p;
	struct err err = { 0 };

	snprintf(p.dir, sizeof p.dir, "/tmp/vssd-unit-XXXXXX");
	assert_non_null(mkdtemp(p.dir));
	snprintf(p.kind, sizeof p.kind, "%s/things", p.dir);
	assert_int_equal(state_store_new(&p.store, p.dir, "things", &err), 0);
	*state = &p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	autojson json_t *all = state_store_all(p->store);
	const char *name;
	json_t *value;

	json_object_foreach(all, name, value)
		state_store_remove(p->store, name);
	state_store_free(p->store);
	return rmdir(p->kind) || rmdir(p->dir); /* nothing else may be left in it */
}

static void write_file(const struct place *p, const char *name, const char *text)
{
	char path[160];

	snprintf(path, sizeof path, "%s/%s", p->kind, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void put_and_read_back(void **state)
{
	struct place *p = *state;
	autojson json_t *a = json_pack("{s[ii]}", "x", 1, 2), *b = json_pack("{ss}", "long", "text"), *all = NULL;
	struct stat st;

	assert_int_equal(state_store_put(p->store, "one", b, NULL), 0);
	assert_int_equal(state_store_put(p->store, "one", a, NULL), 0); /* as a whole, also a shorter one */
	assert_int_equal(state_store_put(p->store, "two", b, NULL), 0);
	all = state_store_all(p->store);
	assert_int_equal(json_object_size(all), 2);
	assert_true(json_equal(json_object_get(all, "one"), a));
	assert_true(json_equal(json_object_get(all, "two"), b));
	assert_int_equal(stat(p->kind, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700); /* tokens are in there */
	state_store_remove(p->store, "one");
	state_store_remove(p->store, "never there");
	autojson json_t *rest = state_store_all(p->store);
	assert_int_equal(json_object_size(rest), 1);
}

static void kept_by_the_next_one(void **state)
{
	struct place *p = *state;
	autojson json_t *a = json_pack("{si}", "x", 1), *all = NULL;
	struct err err = { 0 };

	assert_int_equal(state_store_put(p->store, "one", a, NULL), 0);
	state_store_free(p->store);
	assert_int_equal(state_store_new(&p->store, p->dir, "things", &err), 0);
	all = state_store_all(p->store);
	assert_true(json_equal(json_object_get(all, "one"), a));
}

static void broken_files_are_removed(void **state)
{
	struct place *p = *state;
	autojson json_t *good = json_pack("{si}", "x", 1);

	write_file(p, "empty", "");
	write_file(p, "half", "{\"a\": [1, 2");
	write_file(p, "scalar", "42");
	write_file(p, "binary", "\xff\xfe");
	write_file(p, "twice", "{} {}");
	assert_int_equal(state_store_put(p->store, "good", good, NULL), 0);
	autojson json_t *all = state_store_all(p->store);
	assert_int_equal(json_object_size(all), 1);
	for (const char **name = (const char *[]){ "empty", "half", "scalar", "binary", "twice", NULL }; *name; name++) {
		char path[160];
		snprintf(path, sizeof path, "%s/%s", p->kind, *name);
		assert_int_equal(access(path, F_OK), -1);
	}
}

static void failures_are_told(void **state)
{
	struct place *p = *state;
	autojson json_t *value = json_object();
	struct err err = { 0 };
	struct state_store *store = NULL;

	assert_int_equal(state_store_put(p->store, "no/such/dir", value, &err), -1);
	assert_non_null(strstr(err.text, "no/such/dir"));
	assert_int_equal(state_store_new(&store, "/proc/none/there", "x", &err), -1);
	assert_null(store);
	/* without a store nothing is kept, and nothing fails */
	assert_int_equal(state_store_put(NULL, "x", value, &err), 0);
	state_store_remove(NULL, "x");
	autojson json_t *none = state_store_all(NULL);
	assert_int_equal(json_object_size(none), 0);
	/* what the failed one left is replaced, not in the way */
	assert_int_equal(state_store_put(p->store, "fine", value, &err), 0);
}

static void links_are_not_followed(void **state)
{
	struct place *p = *state;
	char link[160], target[160];
	struct err err = { 0 };
	struct state_store *store = NULL;

	snprintf(target, sizeof target, "%s/elsewhere", p->dir);
	snprintf(link, sizeof link, "%s/linked", p->dir);
	assert_int_equal(mkdir(target, 0700), 0);
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(state_store_new(&store, p->dir, "linked", &err), -1);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(rmdir(target), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(put_and_read_back), TEST(kept_by_the_next_one),
					    TEST(broken_files_are_removed), TEST(failures_are_told),
					    TEST(links_are_not_followed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
