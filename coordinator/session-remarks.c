/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a writer adds to its answer: words, a document, doubts about its own data, a checklist. All of it is a stranger's. */
#include <string.h>

#include "common/text.h"
#include "coordinator/session-internal.h"

#define DOCUMENT_MAX (256u << 10)
#define DOUBTS_MAX 64 /* of one writer in a set */
#define DOUBT_SIZE 400
#define CHECKS_MAX 2048
#define CHECK_TEXT_SIZE 512

static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7F)
			*text = ' ';
}

static void keep_document(struct participant *p, json_t *answer)
{
	json_t *document = json_object_get(answer, "Document"), *message = json_object_get(answer, "Message");

	if (json_is_string(document) && json_string_length(document) <= DOCUMENT_MAX)
		json_object_set(p->documents, writer_event_name(p->event), document);
	if (json_is_string(message) && json_string_length(message) > 0)
		text_format(p->message, sizeof p->message, "%s", json_string_value(message));
}

/* One that cannot be read is one all the same: silence would claim more than the writer did. */
static void keep_doubt(struct participant *p, json_t *doubt)
{
	char text[DOUBT_SIZE];

	if (p->n_doubts++ >= DOUBTS_MAX)
		return; /* the label is down already */
	text_format(text, sizeof text, "%s", json_string_value(doubt) ?: "it has a doubt that cannot be read");
	make_printable(text);
	plan_doubt(p->session, "Writer '%s': %s", p->writer->name, text);
}

static void keep_doubts(struct participant *p, json_t *answer)
{
	json_t *doubts = json_object_get(answer, "Doubts"), *doubt;
	size_t i;

	if (doubts && !json_is_array(doubts))
		keep_doubt(p, NULL);
	json_array_foreach(doubts, i, doubt)
		keep_doubt(p, doubt);
}

static bool is_verdict(const char *text)
{
	return text && (strcmp(text, "ok") == 0 || strcmp(text, "bad") == 0 || strcmp(text, "unknown") == 0);
}

static json_t *printable(json_t *value)
{
	char text[CHECK_TEXT_SIZE];

	text_format(text, sizeof text, "%s", json_string_value(value) ?: "");
	make_printable(text);
	return json_string(text);
}

/* Nobody's word for it that a check went well is taken but "ok". */
static void keep_check(struct participant *p, json_t *row)
{
	const char *verdict = json_string_value(json_object_get(row, "Verdict"));

	remarks_check(p, printable(json_object_get(row, "Object")), printable(json_object_get(row, "Check")),
		      is_verdict(verdict) ? verdict : "unknown", printable(json_object_get(row, "Text")));
}

static void keep_checks(struct participant *p, json_t *answer)
{
	size_t i;
	json_t *row;

	json_array_foreach(json_object_get(answer, "Checks"), i, row)
		keep_check(p, row);
}

void remarks_check(struct participant *p, json_t *object, json_t *check, const char *verdict, json_t *text)
{
	json_t *row = json_pack("{so so ss so}", "Object", object, "Check", check, "Verdict", verdict, "Text", text);

	if (!p->checks)
		p->checks = json_array();
	if (json_array_size(p->checks) < CHECKS_MAX)
		json_array_append_new(p->checks, row);
	else
		json_decref(row);
}

void remarks_keep(struct participant *p, json_t *answer)
{
	keep_document(p, answer);
	if (event_can_fail_set(p->event))
		keep_doubts(p, answer);
	if (p->event == WRITER_EVENT_PREPARE_BACKUP && p->session->options.verify)
		keep_checks(p, answer);
}
