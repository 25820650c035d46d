#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-schema.py SCHEMA DOCUMENT: validates JSON against the part of JSON Schema that docs/vssctl.schema.json uses,
so that the test needs nothing but Python. A keyword that is not known here is an error, not a pass."""
import json
import sys

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
IGNORED = {"$schema", "title", "description", "definitions"}


def check(schema, value, root, where):
    for word, rule in schema.items():
        if word in IGNORED:
            continue
        if word == "$ref":
            check(root["definitions"][rule.rsplit("/", 1)[1]], value, root, where)
        elif word == "type":
            ok = isinstance(value, TYPES[rule]) and not (rule == "integer" and isinstance(value, bool))
            assert ok, f"{where}: {value!r} is no {rule}"
        elif word == "enum":
            assert value in rule, f"{where}: {value!r} is none of {rule}"
        elif word == "minimum":
            assert value >= rule, f"{where}: {value} is below {rule}"
        elif word == "maximum":
            assert value <= rule, f"{where}: {value} is above {rule}"
        elif word == "required":
            for key in rule:
                assert key in value, f"{where}: there is no {key}"
        elif word == "properties":
            for key, part in rule.items():
                if key in value:
                    check(part, value[key], root, f"{where}.{key}")
        elif word == "items":
            for i, item in enumerate(value):
                check(rule, item, root, f"{where}[{i}]")
        else:
            raise AssertionError(f"the schema uses {word!r}, which this checker does not know")


with open(sys.argv[1]) as schema_file, open(sys.argv[2]) as document_file:
    the_schema = json.load(schema_file)
    check(the_schema, json.load(document_file), the_schema, "document")
