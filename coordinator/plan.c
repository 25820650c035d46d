/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of a set, made before the first event: where the writers' data lie, who takes part and why, what each volume
 * shares an instant with, and what keeps the set from the best label. Nothing is downgraded after it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/reach.h"
#include "coordinator/session-internal.h"

void plan_doubt(struct session *s, const char *format, ...)
{
	char text[1200];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof text, format, args);
	va_end(args);
	json_array_append_new(s->doubts, json_string(text));
}

json_t *plan_storage_domains(const struct session *s)
{
	json_t *domains = json_array(), *domain;
	size_t i, j;

	for (i = 0; i < s->n_members; i++)
		json_array_foreach(json_object_get(s->members[i].volume, "Domains"), j, domain)
			json_array_append(domains, domain);
	return domains;
}

static void add_unlocked_domains(const struct session *s, json_t *domains)
{
	autojson json_t *locked = json_object();
	json_t *domain;
	size_t i, j;

	for (i = 0; i < s->n_members; i++) {
		json_array_foreach(json_object_get(s->members[i].volume, "Domains"), j, domain) {
			if (i >= s->n_locked && !json_object_get(locked, json_string_value(domain)))
				json_array_append(domains, domain);
			json_object_set_new(locked, json_string_value(domain), json_true());
		}
	}
}

json_t *plan_late_domains(const struct session *s)
{
	json_t *domains = json_array();

	add_unlocked_domains(s, domains);
	for (size_t i = 0; i < s->n_participants; i++)
		if (s->participants[i].takes_part)
			json_array_append_new(domains, json_sprintf("writer:%s", s->participants[i].writer->instance));
	return domains;
}

/* ---- where data lie ---- */

static int member_of(const struct session *s, json_t *volume)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (json_equal(json_object_get(s->members[i].volume, "Id"), json_object_get(volume, "Id")))
			return (int)i;
	return -1;
}

/* What one writer's data touch. */
struct reach {
	uint64_t members;
	bool unselected; /* a component that lies in the set was not selected */
	json_t *outside; /* {volume id: volume} that its data need and that are not in the set */
	bool known;      /* does anything say where its data lie? */
};

static void reach_path(const struct session *s, struct reach *reach, json_t *volumes, const char *path)
{
	json_t *volume = json_object_get(volumes, path);
	const char *id = json_string_value(json_object_get(volume, "Id"));
	int member;

	reach->known = true;
	if (!id)
		return; /* nowhere on this machine's volumes (a network mount, say): nothing of it can be copied */
	member = member_of(s, volume);
	if (member >= 0)
		reach->members |= UINT64_C(1) << member;
	else
		json_object_set(reach->outside, id, volume);
}

/* A manifest's path that does not exist holds nothing: the application was never installed here. */
static void reach_hint(const struct session *s, struct reach *reach, json_t *volumes, const char *path)
{
	reach->known = true;
	if (!json_is_true(json_object_get(json_object_get(volumes, path), "Absent")))
		reach_path(s, reach, volumes, path);
}

static bool is_selected(const struct session *s, const struct writer *writer, const char *component)
{
	size_t i;
	json_t *row;

	if (json_array_size(s->selected) == 0)
		return true;
	json_array_foreach(s->selected, i, row)
		if (writer_matches(writer, json_string_value(json_object_get(row, "Writer"))) &&
		    strcmp(component, json_string_value(json_object_get(row, "Component"))) == 0)
			return true;
	return false;
}

/* A component counts once one of its files lies in the set; all that it needs has to be there then. */
static void reach_component(const struct session *s, struct reach *reach, json_t *volumes, const struct writer *writer,
			    json_t *component, json_t *selected)
{
	struct reach own = { .outside = json_object() };
	autojson json_t *paths = json_object();
	autofree char *name = component_name(component);
	const char *path;
	json_t *unused;

	reach_component_paths(component, paths);
	json_object_foreach(paths, path, unused)
		reach_path(s, &own, volumes, path);
	reach->known = reach->known || own.known;
	if (own.members && name && !is_selected(s, writer, name)) {
		reach->unselected = true;
	} else if (own.members && name) {
		reach->members |= own.members;
		json_object_update(reach->outside, own.outside);
		json_array_append_new(selected, json_string(name));
	}
	json_decref(own.outside);
}

/* Nothing was ever heard of where its data lie: it registered without components, and does not answer. */
static bool is_unheard(const struct session *s, const struct writer *w, const struct reach *reach)
{
	return w->present && !reach->known && !w->all_volumes && json_object_get(s->silent, w->instance);
}

static struct reach writer_reach(const struct session *s, json_t *volumes, const struct writer *writer, json_t *selected)
{
	struct reach reach = { .outside = json_object() };
	json_t *component;
	size_t i;

	json_array_foreach(writer->components, i, component)
		reach_component(s, &reach, volumes, writer, component, selected);
	if (!writer->present || is_unheard(s, writer, &reach)) {
		struct reach hint = { .outside = json_object() };
		for (i = 0; writer->manifest && i < writer->manifest->n_paths; i++)
			reach_hint(s, &hint, volumes, writer->manifest->paths[i]);
		reach.members |= hint.members;
		reach.known = reach.known || hint.known;
		json_decref(hint.outside);
	}
	return reach;
}

/* ---- who takes part ---- */

static bool is_named(json_t *names, const struct writer *writer)
{
	size_t i;
	json_t *name;

	json_array_foreach(names, i, name)
		if (writer_matches(writer, json_string_value(name)))
			return true;
	return false;
}

static void set_why(struct participant *p, const char *why)
{
	free(p->why);
	p->why = strdup(why);
}

static uint64_t all_members(const struct session *s)
{
	return s->n_members == 64 ? UINT64_MAX : (UINT64_C(1) << s->n_members) - 1;
}

/* A hold of the whole machine, whatever it will be that is copied. */
static bool wants_everybody(const struct session *s)
{
	return s->options.hold && s->n_members == 0;
}

/* Decides; what is missing lowers the label, it is never passed over in silence. */
static void decide(struct session *s, struct participant *p, const struct reach *reach)
{
	const struct writer *w = p->writer;
	bool named = is_named(s->options.include, w);
	bool concerned = reach->members || w->all_volumes || named || wants_everybody(s);

	p->members = reach->members;
	if (!w->present && !w->manifest) {
		/* Listed for its last failure alone: nobody expects it, and what is gone holds no data open. */
		set_why(p, "not running, and not expected");
		return;
	}
	if (!w->present) {
		set_why(p, reach->members ? "expected, but not running" :
			   reach->known   ? "not running; its data lie elsewhere" :
					    "not running; nothing says where its data lie");
		if (reach->members)
			plan_doubt(s, "The expected writer '%s' has data on these volumes and is not running", w->name);
		else if (!reach->known)
			plan_doubt(s, "The expected writer '%s' is not running and nothing says where its data lie "
				      "(Paths= in its manifest would)", w->name);
		return;
	}
	if (is_named(s->options.exclude, w)) {
		set_why(p, "excluded by the requestor");
		if (concerned)
			plan_doubt(s, "The writer '%s' was excluded by the requestor", w->name);
		return;
	}
	if (!concerned) {
		set_why(p, reach->unselected ? "none of its components was selected" : "no component of it on these volumes");
		if (reach->unselected)
			plan_doubt(s, "The writer '%s' has data on these volumes and none of it was selected", w->name);
		else if (is_unheard(s, w, reach))
			plan_doubt(s, "The writer '%s' does not answer and nothing says where its data lie", w->name);
		return;
	}
	p->takes_part = true;
	set_why(p, reach->members ? "has data on these volumes" : named ? "named by the requestor" : "wants every set");
	if (!reach->members)
		p->members = all_members(s);
}

static bool is_lenient(const struct session *s, const struct participant *p)
{
	return s->options.on_writer_failure == WRITER_FAILURE_DEGRADES && !is_named(s->options.require, p->writer);
}

/* A rehearsal goes on, for what the writer itself has to say. */
static void check_outside(struct participant *p, json_t *outside)
{
	const char *id;
	json_t *volume;

	json_object_foreach(outside, id, volume) {
		const char *provider = json_string_value(json_object_get(volume, "Provider"));
		const char *why = json_string_value(json_object_get(volume, "Why"));
		bool copied = provider && *provider;
		remarks_check(p, json_incref(json_object_get(volume, "Path")), json_string("volume"), "bad",
			      json_sprintf("needed and not in the set; %s%s", copied ? "add it" : "it cannot be copied: ",
					   copied ? "" : why ?: ""));
	}
}

static void refuse_outside(struct session *s, struct participant *p, json_t *outside)
{
	char volumes[700] = "";
	struct err err = { 0 };
	const char *id;
	json_t *volume;

	if (s->options.verify) {
		check_outside(p, outside);
		return;
	}
	json_object_foreach(outside, id, volume) {
		text_append(volumes, sizeof volumes, "%s%s", *volumes ? ", " : "",
			    json_string_value(json_object_get(volume, "Path")));
	}
	p->error = VSS_E_WRITER_INCONSISTENT_SNAPSHOT;
	p->failed_at = WRITER_EVENT_PREPARE_SNAPSHOT;
	text_format(p->message, sizeof p->message, "Needs volumes that are not in the set: %.480s", volumes);
	writer_event_ended(p->writer, WRITER_EVENT_PREPARE_SNAPSHOT, p->error, p->message, 0);
	err_set(&err, p->error, "Writer '%s': Inconsistent shadow copy: it needs volumes that are not in the set: %s. Add them",
		p->writer->name, volumes);
	if (is_lenient(s, p))
		plan_doubt(s, "%s", err.text);
	else
		session_fail(s, &err);
}

/* A writer that did not answer Identify a moment ago will not freeze either, and what it said before may be out of date. */
static void refuse_silent(struct session *s, struct participant *p, json_t *silence)
{
	struct err err = { 0 };

	p->error = (enum vss_error)json_integer_value(json_object_get(silence, "Error"));
	p->failed_at = WRITER_EVENT_IDENTIFY;
	text_format(p->message, sizeof p->message, "%s", json_string_value(json_object_get(silence, "Message")));
	err_set(&err, p->error, "Writer '%s' failed at Identify: %s: %s", p->writer->name, error_text(p->error), p->message);
	if (is_lenient(s, p))
		plan_doubt(s, "%s", err.text);
	else
		session_fail(s, &err);
}

/* True if members were added: the plan is made again. */
static bool add_outside(struct session *s, json_t *outside)
{
	const char *id;
	json_t *volume;
	struct err err = { 0 };
	bool added = false;

	json_object_foreach(outside, id, volume) {
		if (session_add_volume(s, volume, &err) == 0) {
			added = true;
		} else if (!s->options.verify) { /* a rehearsal tells of it as a check */
			session_fail(s, &err);
			return false;
		}
	}
	return added;
}

static int check_required(struct session *s)
{
	struct err err = { 0 };
	size_t i;
	json_t *name;

	json_array_foreach(s->options.require, i, name) {
		const char *text = json_string_value(name), *why = "it is not known here", *who = text;
		bool takes_part = false;
		for (size_t j = 0; j < s->n_participants; j++) {
			const struct participant *p = &s->participants[j];
			if (!writer_matches(p->writer, text))
				continue;
			takes_part = takes_part || p->takes_part;
			why = p->why;
			who = p->writer->name;
		}
		if (takes_part)
			continue;
		err_set(&err, VSS_E_OBJECT_NOT_FOUND, "The required writer '%s' does not take part: %s", who, why);
		session_fail(s, &err);
		return -1;
	}
	return 0;
}

void plan_forget(struct session *s)
{
	for (size_t i = 0; i < s->n_participants; i++) {
		struct participant *p = &s->participants[i];
		writer_unref(p->writer);
		free(p->why);
		json_decref(p->components);
		json_decref(p->documents);
		json_decref(p->checks);
	}
	free(s->participants);
	s->participants = NULL;
	s->n_participants = 0;
}

/* 1: made; 0: members were added, make it again; -1: failed. */
static int make_participants(struct session *s, json_t *volumes)
{
	size_t n = 0;

	plan_forget(s);
	json_array_clear(s->doubts);
	for (struct writer *w = registry_first(s->context->registry); w; w = w->next)
		n++;
	s->participants = calloc(n ? n : 1, sizeof *s->participants);
	for (struct writer *w = registry_first(s->context->registry); w && s->participants; w = w->next) {
		struct participant *p = &s->participants[s->n_participants++];
		*p = (struct participant){ .session = s,
					   .writer = writer_ref(w),
					   .components = json_array(),
					   .documents = json_object() };
		struct reach reach = writer_reach(s, volumes, w, p->components);
		autojson json_t *outside = reach.outside;
		decide(s, p, &reach);
		json_t *silence = json_object_get(s->silent, w->instance);
		if (p->takes_part && silence) {
			refuse_silent(s, p, silence);
			if (s->error.code)
				return -1;
			continue;
		}
		if (!p->takes_part || json_object_size(outside) == 0)
			continue;
		if (s->options.add_missing_volumes && add_outside(s, outside))
			return 0;
		if (!s->error.code)
			refuse_outside(s, p, outside);
		if (s->error.code)
			return -1;
	}
	return check_required(s) < 0 ? -1 : 1;
}

/* ---- instants ---- */

static bool shares_window(const struct member *m)
{
	return member_role(m)->window &&
	       strcmp(json_string_value(json_object_get(m->volume, "Instant")) ?: "set", "volume") != 0;
}

static size_t count_unheld(const struct session *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_members; i++)
		n += !member_role(&s->members[i])->window;
	return n;
}

/* Volumes that are held together are one instant. On btrfs each subvolume's copy is an instant of its own: the ioctl takes
 * them one after another; a single one that is taken while the others are held is of their instant. */
static void share_window(struct session *s)
{
	bool window = window_is_needed(s), one_unheld = count_unheld(s) == 1;
	unsigned next = window ? 2 : 1;

	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = &s->members[i];
		bool together = member_role(m)->window ? shares_window(m) : window && one_unheld;
		m->instant_group = together ? 1 : next++;
	}
}

static void assign_instants(struct session *s)
{
	if (!s->options.hold)
		share_window(s);
	for (size_t i = 0; i < s->n_members && s->options.hold; i++)
		s->members[i].instant_group = 1; /* whoever copies them while all is still makes them one */
}

static bool is_one_instant(const struct session *s)
{
	for (size_t i = 1; i < s->n_members; i++)
		if (s->members[i].instant_group != s->members[0].instant_group)
			return false;
	return true;
}

/* ---- what can be held together ---- */

static bool lies_on(json_t *volume, json_t *device)
{
	json_t *layer;
	size_t i;

	json_array_foreach(json_object_get(volume, "Layers"), i, layer)
		if (json_equal(json_object_get(layer, "Number"), device))
			return true;
	return false;
}

/* What lies on a volume of the set would be stopped with it, and wait for itself. */
static int check_stacked(const struct session *s, struct err *err)
{
	for (size_t i = 0; i < s->n_members; i++) {
		json_t *lower = s->members[i].volume;
		json_t *device = json_object_get(json_object_get(lower, "Dm"), "Number");
		for (size_t j = 0; j < s->n_members && device; j++) {
			json_t *upper = s->members[j].volume;
			if (i == j || !lies_on(upper, device))
				continue;
			return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
				       "%s lies on %s, which is in the set too: holding the one would stop the other for ever. Copy "
				       "them in sets of their own",
				       json_string_value(json_object_get(upper, "Path")),
				       json_string_value(json_object_get(lower, "Path")));
		}
	}
	return 0;
}

static int check_window(const struct session *s, struct err *err)
{
	if (!window_is_needed(s))
		return 0;
	if (!s->context->guard)
		return err_set(err, VSS_E_NOT_AVAILABLE,
			       "The set has volumes that have to be held, and vssd runs without a guard: start vss-guard.service");
	return check_stacked(s, err);
}

static void assign_repairs(struct session *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		s->members[i].repair = false;
		for (size_t j = 0; j < s->n_participants; j++) {
			const struct participant *p = &s->participants[j];
			if (p->takes_part && (p->members & (UINT64_C(1) << i)) &&
			    p->writer->events[WRITER_EVENT_POST_SNAPSHOT])
				s->members[i].repair = true;
		}
	}
}

/* ---- the label ---- */

static void add_reason(char *text, size_t size, const char *reason)
{
	text_append(text, size, "%s%s", *text ? "; " : "", reason);
}

static const char *consistency(const struct session *s, char *reason, size_t size)
{
	size_t held = 0, i;
	json_t *doubt;

	for (i = 0; i < s->n_participants; i++)
		held += participant_is_live(&s->participants[i]);
	json_array_foreach(s->doubts, i, doubt)
		add_reason(reason, size, json_string_value(doubt));
	if (!s->clean)
		return "crash";
	if (held == 0 && json_array_size(s->doubts) == 0)
		add_reason(reason, size, "No writer has data on these volumes");
	return *reason ? "filesystem" : "application";
}

static void instant_reason(const struct session *s, char *text, size_t size)
{
	size_t unheld = count_unheld(s), i;
	json_t *why;

	if (unheld > 1)
		text_format(text, size,
			    "%zu btrfs subvolumes: their copies are made one after another, each is an instant of its own",
			    unheld);
	for (i = 0; i < s->n_members; i++) {
		why = json_object_get(s->members[i].volume, "InstantReason");
		if (member_role(&s->members[i])->window && !shares_window(&s->members[i]) && json_is_string(why))
			add_reason(text, size, json_string_value(why));
	}
}

json_t *plan_label(const struct session *s)
{
	char why[2048] = "", instant_why[512] = "";
	const char *label = consistency(s, why, sizeof why);
	bool one = is_one_instant(s);

	if (!one)
		instant_reason(s, instant_why, sizeof instant_why);
	return json_pack("{ss ss ss ss}", "Consistency", label, "ConsistencyReason", why, "Instant", one ? "set" : "volume",
			 "InstantReason", instant_why);
}

/* ---- the stage ---- */

static void made(struct session *s)
{
	struct err err = { 0 };

	if (plan_check_volumes(s, &err) < 0 || (!s->options.hold && check_window(s, &err) < 0)) {
		session_fail(s, &err);
		return;
	}
	assign_instants(s);
	assign_repairs(s);
	plan_storage(s);
}

static void resolved(const struct err *err, json_t *answer, int *fds, size_t n_fds, void *data)
{
	struct session *s = data;
	autojson json_t *volumes = reach_volumes(answer);
	int r;

	s->job = NULL;
	if (err->code) {
		session_fail(s, err);
		return;
	}
	session_timeline(s, "plan", "", s->state_began, clock_now(), "ok");
	do
		r = make_participants(s, volumes);
	while (r == 0 && !s->error.code);
	if (r > 0)
		made(s);
}

void plan_resolve(struct session *s)
{
	autojson json_t *paths = reach_all_paths(s->context->registry);
	json_t *list = json_array(), *unused;
	struct err err = { 0 };
	const char *path;

	if (json_object_size(paths) == 0) {
		json_decref(list);
		if (make_participants(s, paths) > 0)
			made(s);
		return;
	}
	json_object_foreach(paths, path, unused)
		json_array_append_new(list, json_string(path));
	s->job = workers_run(s->context->workers, "volumes", "resolve", json_pack("{so sb}", "Paths", list, "Missing", 1),
			     NULL, 0, clock_now() + s->context->config->resolve, resolved, s, &err);
	if (!s->job)
		session_fail(s, &err);
}

void plan_start(struct session *s)
{
	if (!activation_start(s))
		plan_resolve(s);
}
