/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/command.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lvm2cmd.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/lvm/suspend.h"

/* Loaded at the first command: the other roles of vss-worker start without it and what it needs. */
#define LIBRARY "liblvm2cmd.so.2.03"

/* No writes below /etc, which may be on a volume that is held; no dmeventd; a suspended device is passed by. */
#define CONFIG "--config 'backup{backup=0 archive=0} activation{monitoring=0} devices{ignore_suspended_devices=1}'"

#define COMPLAINT_SIZE 640u
#define REPORT_SIZE_MAX (16u << 20)

/* What LVM takes from the heap at each command, and twice more in one that suspends: its cache of disk blocks, and the 8 MiB
 * that it touches so that they are there while a device is suspended. Given back to the kernel, they are not there then, and
 * each of their pages is a fault when they are taken again. */
#define HEAP_KEPT (64 << 20)
#define HEAP_PIECE_MAX (32 << 20) /* larger ones are mapped apart and given back in any case */

static struct {
	void *handle;
	int (*run)(void *handle, const char *line);
	void (*log)(lvm2_log_fn_t fn);
	char *heap; /* where its part begins */

	char complaint[COMPLAINT_SIZE]; /* errors of the running command */
} lvm;

/* ---- what LVM says ---- */

/* Repeats what it said already in other words; people need it once. */
static bool is_noise(const char *message)
{
	static const char *const starts[] = { "Internal error: Removing", "Failed to process", "<backtrace>" };

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		if (strncmp(message, starts[i], strlen(starts[i])) == 0)
			return true;
	return *message == '\0';
}

static void add_complaint(const char *message)
{
	size_t used = strlen(lvm.complaint);

	while (isspace((unsigned char)*message))
		message++;
	if (is_noise(message) || strstr(lvm.complaint, message))
		return;
	text_format(lvm.complaint + used, sizeof lvm.complaint - used, "%s%s", used ? "; " : "", message);
	used = strlen(lvm.complaint);
	if (used > 0 && lvm.complaint[used - 1] == '.')
		lvm.complaint[used - 1] = '\0';
}

static void hear(int level, const char *file, int line, int error, const char *message)
{
	level &= 7;
	if (level == LVM2_LOG_ERROR || level == LVM2_LOG_FATAL)
		add_complaint(message);
}

/* ---- running ---- */

static void keep_heap(void)
{
	uintptr_t end = (uintptr_t)sbrk(0), page = (uintptr_t)sysconf(_SC_PAGESIZE);

	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT);
	mallopt(M_MMAP_THRESHOLD, HEAP_PIECE_MAX);
	lvm.heap = (char *)((end + page - 1) / page * page);
}

static int load(struct err *err)
{
	void *(*init)(void);
	void *library;

	if (lvm.handle)
		return 0;
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL);
	if (!library)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			       "LVM's library cannot be loaded: %s. Install it (Debian: liblvm2cmd2.03)", dlerror());
	init = (void *(*)(void))dlsym(library, "lvm2_init");
	lvm.log = (void (*)(lvm2_log_fn_t))dlsym(library, "lvm2_log_fn");
	lvm.run = (int (*)(void *, const char *))dlsym(library, "lvm2_run");
	if (!init || !lvm.log || !lvm.run)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s is not LVM's library", LIBRARY);
	setenv("LVM_SUPPRESS_FD_WARNINGS", "1", 1);
	keep_heap();
	lvm.log(hear);
	dm_listen(add_complaint);
	lvm.handle = init();
	if (!lvm.handle)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "LVM's library does not start: %s",
			       *lvm.complaint ? lvm.complaint : "it does not say why");
	return 0;
}

static int run(char *line, struct err *err)
{
	size_t used = strlen(line);
	int r;

	if (load(err) < 0)
		return -1;
	if ((size_t)snprintf(line + used, LVM_COMMAND_SIZE - used, " " CONFIG) >= LVM_COMMAND_SIZE - used)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "An LVM command has become too long: %.100s...", line);
	lvm.complaint[0] = '\0';
	suspend_briefly(true);
	r = lvm.run(lvm.handle, line);
	suspend_briefly(false);
	return r;
}

static int too_long(struct err *err, const char *what)
{
	return err_set(err, VSS_E_LIMITS_EXCEEDED, "%s: the LVM command would be too long", what);
}

int lvm_run(struct err *err, const char *what, const char *format, ...)
{
	char line[LVM_COMMAND_SIZE];
	va_list args;
	int r;

	va_start(args, format);
	r = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (r < 0 || (size_t)r >= sizeof line)
		return too_long(err, what);
	r = run(line, err);
	if (r == LVM2_COMMAND_SUCCEEDED)
		return 0;
	if (r < 0)
		return -1;
	return err_set(err,
		       strstr(lvm.complaint, "nsufficient free space") ? VSS_E_INSUFFICIENT_STORAGE
								       : VSS_E_UNEXPECTED_PROVIDER_ERROR,
		       "%s: %s", what, *lvm.complaint ? lvm.complaint : "LVM does not say why");
}

/* {"report": [{"lv": [{...}, ...]}]}, whatever the list is called. */
static json_t *take_rows(json_t *report)
{
	json_t *rows = json_array(), *part, *list;
	const char *key;
	size_t i;

	json_array_foreach (json_object_get(report, "report"), i, part)
		json_object_foreach (part, key, list)
			json_array_extend(rows, list);
	return rows;
}

/* A standard stream that goes into memory for a while. */
struct capture {
	int stream, before, file;
};

static void capture_end(struct capture *capture)
{
	if (capture->before >= 0)
		dup2(capture->before, capture->stream);
	else
		close(capture->stream);
	cleanup_close(&capture->before);
}

static int capture_begin(struct capture *capture, int stream)
{
	*capture = (struct capture){ .stream = stream, .before = fcntl(stream, F_DUPFD_CLOEXEC, 3) };
	capture->file = memfd_create("lvm-report", MFD_CLOEXEC);
	return capture->file < 0 ? -1 : dup2(capture->file, stream);
}

static char *capture_read(struct capture *capture, size_t *ret_length)
{
	off_t end = lseek(capture->file, 0, SEEK_END);
	size_t size = end > 0 && end < (off_t)REPORT_SIZE_MAX ? (size_t)end : 0;
	char *text = malloc(size + 1);
	ssize_t n = text ? pread(capture->file, text, size, 0) : -1;

	close(capture->file);
	*ret_length = n > 0 ? (size_t)n : 0;
	if (text)
		text[*ret_length] = '\0';
	return text;
}

static void add_complaints(char *text)
{
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		while (isspace((unsigned char)*line))
			line++;
		if (strncmp(line, "WARNING", 7) != 0)
			add_complaint(line);
	}
}

/* What LVM hands to a listener it cuts at 4 KiB a line, and a line holds whatever tags somebody has put there: a report
 * is printed. */
static int run_printing(char *line, char **ret_text, size_t *ret_length, struct err *err)
{
	struct capture out, complaints;
	size_t length;
	int r;

	if (load(err) < 0)
		return -1;
	if (capture_begin(&out, STDOUT_FILENO) < 0 || capture_begin(&complaints, STDERR_FILENO) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot keep LVM's report");
	lvm.log(NULL);
	r = run(line, err);
	fflush(stdout);
	fflush(stderr);
	lvm.log(hear);
	capture_end(&out);
	capture_end(&complaints);
	autofree char *text = capture_read(&complaints, &length);
	if (text)
		add_complaints(text);
	*ret_text = capture_read(&out, ret_length);
	return *ret_text ? r : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for LVM's report");
}

static int run_report(char *line, json_t **ret, struct err *err)
{
	autofree char *text = NULL;
	size_t length = 0;
	int r = run_printing(line, &text, &length, err);

	if (r < 0)
		return -1;
	autojson json_t *report = json_loadb(text, length, 0, NULL);
	if (report) {
		*ret = take_rows(report);
		return r == LVM2_COMMAND_SUCCEEDED ? 0 : 1;
	}
	return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "LVM does not report: %s",
		       *lvm.complaint ? lvm.complaint : "it does not say why");
}

int lvm_report(json_t **ret, char **ret_complaint, struct err *err, const char *format, ...)
{
	char line[LVM_COMMAND_SIZE];
	va_list args;
	int r;

	*ret = NULL;
	if (ret_complaint)
		*ret_complaint = NULL;
	va_start(args, format);
	r = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (r < 0 || (size_t)r >= sizeof line - 128)
		return too_long(err, "Asking LVM");
	strcat(line, " --reportformat json --units b --nosuffix");
	r = run_report(line, ret, err);
	if (r > 0 && ret_complaint && *lvm.complaint)
		*ret_complaint = strdup(lvm.complaint);
	return r < 0 ? -1 : 0;
}

/* locking_dir="/run/lock/lvm", into a file: it goes past what hear() is told. */
bool lvm_setting(const char *name, char *value, size_t size)
{
	autoclose int file = memfd_create("lvm-setting", MFD_CLOEXEC);
	char line[LVM_COMMAND_SIZE], text[1024];
	const char *quote;
	ssize_t n;

	text_format(line, sizeof line, "lvmconfig --typeconfig full --file /proc/self/fd/%d %s", file, name);
	if (file < 0 || run(line, NULL) != LVM2_COMMAND_SUCCEEDED)
		return false;
	n = pread(file, text, sizeof text - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	quote = strchr(text, '"');
	if (!quote)
		return false;
	text_format(value, size, "%.*s", (int)strcspn(quote + 1, "\""), quote + 1);
	return true;
}

/* "  system ID: NAME" */
void lvm_system_id(char *value, size_t size)
{
	char line[LVM_COMMAND_SIZE] = "systemid";
	autofree char *text = NULL;
	size_t length = 0;
	const char *name;

	value[0] = '\0';
	if (run_printing(line, &text, &length, &(struct err){ 0 }) != LVM2_COMMAND_SUCCEEDED)
		return;
	name = strstr(text, ": ");
	if (name)
		text_format(value, size, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
}

void lvm_share_heap(bool shared)
{
	char *end = sbrk(0);

	if (lvm.heap && end > lvm.heap)
		madvise(lvm.heap, (size_t)(end - lvm.heap), shared ? MADV_DOFORK : MADV_DONTFORK);
}

bool lvm_is_plain(const char *text)
{
	if (!*text || *text == '-')
		return false;
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("_+.-/=!:&#", *text))
			return false;
	return true;
}

bool lvm_is_here(void)
{
	void *library;

	if (access("/sys/class/misc/device-mapper", F_OK) < 0)
		return false;
	library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
	if (library)
		dlclose(library);
	return library;
}
