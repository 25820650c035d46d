/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/config.h"

#include <fcntl.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/ini.h"
#include "writers/script/strv.h"
#include "writers/script/trust.h"

#define COPROCESS_EVENTS_DEFAULT (1u << VSS_EVENT_FREEZE | 1u << VSS_EVENT_THAW | 1u << VSS_EVENT_ABORT)
#define SPAN_MAX (3600 * USEC_PER_SEC)

typedef int (*parse_fn)(struct config *config, const char *value, void *field, struct err *err);

struct key {
	const char *name;
	parse_fn parse;
	size_t offset;
};

static int no_memory(struct err *err)
{
	return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
}

/* ---- values ---- */

static int parse_text(struct config *config, const char *value, void *field, struct err *err)
{
	char **text = field;

	free(*text);
	*text = strdup(value);
	return *text ? 0 : no_memory(err);
}

static int parse_path(struct config *config, const char *value, void *field, struct err *err)
{
	if (*value != '/')
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not an absolute path", value);
	return parse_text(config, value, field, err);
}

static int parse_paths(struct config *config, const char *value, void *field, struct err *err)
{
	char ***paths = field;
	size_t before = strv_length(*paths);

	if (strv_split(paths, value, ";") < 0)
		return no_memory(err);
	for (size_t i = before; *paths && (*paths)[i]; i++)
		if ((*paths)[i][0] != '/')
			return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not an absolute path", (*paths)[i]);
	return 0;
}

/* A program and its arguments, separated by blanks; there is no quoting. */
static int parse_command(struct config *config, const char *value, void *field, struct err *err)
{
	char ***argv = field;

	*argv = strv_free(*argv);
	if (strv_split(argv, value, " \t") < 0)
		return no_memory(err);
	if (!*argv || (*argv)[0][0] != '/')
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" does not begin with an absolute path", value);
	return 0;
}

static int parse_environment(struct config *config, const char *value, void *field, struct err *err)
{
	const char *equals = strchr(value, '=');

	if (!equals || equals == value)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not NAME=VALUE", value);
	if (strncmp(value, "VSS_", 4) == 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "names that begin with VSS_ are set by the writer itself");
	return strv_add(field, value) < 0 ? no_memory(err) : 0;
}

static int parse_bool(struct config *config, const char *value, void *field, struct err *err)
{
	bool *flag = field;

	*flag = strcmp(value, "yes") == 0;
	if (!*flag && strcmp(value, "no") != 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is neither yes nor no", value);
	return 0;
}

static int parse_level(struct config *config, const char *value, void *field, struct err *err)
{
	static const char *const names[] = {
		[VSS_LEVEL_FRONT_END] = "front-end",
		[VSS_LEVEL_BACK_END] = "back-end",
		[VSS_LEVEL_SYSTEM] = "system",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], value) == 0) {
			config->level = (enum vss_level)i;
			return 0;
		}
	}
	return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not a level: front-end, back-end or system", value);
}

static const char *const format_names[] = {
	[FORMAT_NATIVE] = "native",
	[FORMAT_QEMU_HOOKS] = "qemu-hooks",
	[FORMAT_VMWARE_SCRIPTS] = "vmware-scripts",
	[FORMAT_AZURE_PLUGIN] = "azure-plugin",
};

static int parse_format(struct config *config, const char *value, void *field, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_SIZE(format_names); i++) {
		if (strcmp(format_names[i], value) == 0) {
			config->format = (enum config_format)i;
			return 0;
		}
	}
	return err_set(err, VSS_E_INVALID_ARGUMENT,
		       "\"%s\" is not a format: native, qemu-hooks, vmware-scripts or azure-plugin", value);
}

static int parse_span(const char *value, uint64_t *ret_usec, struct err *err)
{
	static const struct {
		const char *unit;
		uint64_t usec;
	} units[] = {
		{ "", USEC_PER_SEC }, { "s", USEC_PER_SEC }, { "ms", USEC_PER_MSEC }, { "min", 60 * USEC_PER_SEC }
	};
	size_t digits = strspn(value, "0123456789");

	for (size_t i = 0; digits > 0 && digits < 9 && i < ARRAY_SIZE(units); i++) {
		if (strcmp(value + digits, units[i].unit) != 0)
			continue;
		*ret_usec = strtoull(value, NULL, 10) * units[i].usec;
		if (*ret_usec > 0 && *ret_usec <= SPAN_MAX)
			return 0;
	}
	return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not a time such as 500ms, 20s or 2min (1h at most)",
		       value);
}

static int parse_event_limit(struct config *config, const char *value, void *field, struct err *err)
{
	return parse_span(value, field, err);
}

static int parse_freeze_limit(struct config *config, const char *value, void *field, struct err *err)
{
	uint64_t usec;

	if (parse_span(value, &usec, err) < 0)
		return -1;
	if (usec < USEC_PER_MSEC || usec > 60 * USEC_PER_SEC)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "a freeze lasts from 1ms to 60s");
	config->freeze_limit_msec = (unsigned)(usec / USEC_PER_MSEC);
	return 0;
}

static int parse_user(struct config *config, const char *value, void *field, struct err *err)
{
	const struct passwd *entry = getpwnam(value);

	if (!entry)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "there is no user \"%s\"", value);
	config->uid = entry->pw_uid;
	config->gid = entry->pw_gid;
	if (parse_text(config, entry->pw_dir, &config->home, err) < 0)
		return -1;
	return parse_text(config, value, &config->user, err);
}

static int parse_coprocess_events(struct config *config, const char *value, void *field, struct err *err)
{
	char **names = NULL;
	int done = strv_split(&names, value, " \t;") < 0 ? no_memory(err) : 0;

	config->coprocess_events = COPROCESS_EVENTS_DEFAULT;
	for (size_t i = 0; done == 0 && names && names[i]; i++) {
		int event = event_from_hook_name(names[i]);
		if (event < 0)
			done = err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not an event such as prepare-snapshot",
				       names[i]);
		else
			config->coprocess_events |= 1u << event;
	}
	strv_free(names);
	return done;
}

/* ---- the file ---- */

#define FIELD(name) offsetof(struct config, name)

static const struct key keys[] = {
	{ "Id", parse_text, FIELD(id) },
	{ "Name", parse_text, FIELD(name) },
	{ "InstanceName", parse_text, FIELD(instance_name) },
	{ "Version", parse_text, FIELD(version) },
	{ "Caption", parse_text, FIELD(caption) },
	{ "Level", parse_level, 0 },
	{ "Paths", parse_paths, FIELD(paths) },
	{ "Requires", parse_paths, FIELD(requires) },
	{ "AllVolumes", parse_bool, FIELD(all_volumes) },
	{ "FreezeLimit", parse_freeze_limit, 0 },
	{ "EventLimit", parse_event_limit, FIELD(event_limit) },
	{ "User", parse_user, 0 },
	{ "Environment", parse_environment, FIELD(environment) },
	{ "Format", parse_format, 0 },
	{ "Directory", parse_path, FIELD(directory) },
	{ "File", parse_path, FIELD(plugin) },
	{ "Hooks", parse_path, FIELD(hooks) },
	{ "CoProcess", parse_command, FIELD(coprocess) },
	{ "CoProcessEvents", parse_coprocess_events, 0 },
};

static int parse_value(struct config *config, const char *key, const char *value, struct err *err)
{
	int event = event_from_key(key);

	if (event >= 0)
		return parse_command(config, value, &config->commands[event], err);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].name, key) == 0)
			return keys[i].parse(config, value, (char *)config + keys[i].offset, err);
	return err_set(err, VSS_E_INVALID_ARGUMENT, "no such key (see vss-script-writer(8))");
}

static int on_entry(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	struct err why = { 0 };

	if (strcmp(section, "Writer") != 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "there is no section [%s] here, only [Writer]", section);
	if (parse_value(data, key, value, &why) == 0)
		return 0;
	return err_set(err, why.code, "%s: %s", key, why.text);
}

static int misplaced(const struct config *config, const char *key, struct err *err)
{
	return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: %s does not go with Format=%s", config->file, key,
		       format_names[config->format]);
}

/* What somebody else's format is, and what does not go with it. */
static int complete_format(struct config *config, struct err *err)
{
	static const char *const places[] = {
		[FORMAT_QEMU_HOOKS] = "/etc/qemu/fsfreeze-hook.d",
		[FORMAT_VMWARE_SCRIPTS] = "/etc/vmware-tools/backupScripts.d",
		[FORMAT_AZURE_PLUGIN] = "/etc/azure/VMSnapshotScriptPluginConfig.json",
	};
	bool native = config->format == FORMAT_NATIVE, plugin = config->format == FORMAT_AZURE_PLUGIN;
	char **place = plugin ? &config->plugin : &config->directory;

	if (config->directory && (native || plugin))
		return misplaced(config, "Directory=", err);
	if (config->plugin && !plugin)
		return misplaced(config, "File=", err);
	if (native)
		return 0;
	if (config->hooks || config->coprocess)
		return misplaced(config, config->hooks ? "Hooks=" : "CoProcess=", err);
	for (int event = 0; event < SCRIPT_EVENTS; event++)
		if (config->commands[event])
			return misplaced(config, vss_event_name((enum vss_event)event), err);
	if (config->user && plugin) /* the scripts are root's alone */
		return misplaced(config, "User=", err);
	if (!*place)
		*place = strdup(places[config->format]);
	return *place ? 0 : no_memory(err);
}

static int check_whole(const struct config *config, struct err *err)
{
	bool any = config->format != FORMAT_NATIVE || config->hooks || config->coprocess;

	for (int event = 0; event < SCRIPT_EVENTS; event++)
		any |= config->commands[event] != NULL;
	if (!config->id || !config->name)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: Id= and Name= are required", config->file);
	if (!any)
		return err_set(err, VSS_E_INVALID_DOCUMENT,
			       "%s: nothing to run: Hooks=, CoProcess= or Freeze= and Thaw= are required",
			       config->file);
	if (!config->paths && !config->all_volumes)
		return err_set(err, VSS_E_INVALID_DOCUMENT,
			       "%s: Paths= says where the application's data lies; or AllVolumes=yes", config->file);
	return 0;
}

static int read_file(struct config *config, const char *path, struct err *err)
{
	char link[64];
	autoclose int opened = trust_open(path, S_IFREG, NULL, err);

	if (opened < 0)
		return -1;
	/* Through the descriptor that was judged, not through the path again. */
	snprintf(link, sizeof link, "/proc/self/fd/%d", opened);
	autoclose int fd = open(link, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", path);
	return ini_read(fd, path, on_entry, config, err);
}

int config_read(struct config *config, const char *path, struct err *err)
{
	*config = (struct config){ .coprocess_events = COPROCESS_EVENTS_DEFAULT };
	config->file = strdup(path);
	if (config->file && read_file(config, path, err) == 0 && complete_format(config, err) == 0 &&
	    check_whole(config, err) == 0)
		return 0;
	if (!config->file)
		no_memory(err);
	config_done(config);
	return -1;
}

void config_done(struct config *config)
{
	free(config->file);
	free(config->id);
	free(config->name);
	free(config->instance_name);
	free(config->version);
	free(config->caption);
	strv_free(config->paths);
	strv_free(config->requires);
	free(config->user);
	free(config->home);
	strv_free(config->environment);
	free(config->directory);
	free(config->plugin);
	free(config->hooks);
	for (int event = 0; event < SCRIPT_EVENTS; event++)
		strv_free(config->commands[event]);
	strv_free(config->coprocess);
	*config = (struct config){ 0 };
}
