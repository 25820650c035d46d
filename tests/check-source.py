#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What CONTRIBUTING.md asks of the tree and a machine can see. Prints what is wrong; 1 if anything is.

Usage: check-source.py SOURCE_DIR
"""
import pathlib
import re
import subprocess
import sys

source = pathlib.Path(sys.argv[1]).resolve()
wrong = []

# Includes run one way. A folder: what its code may include besides the system's headers and its own.
ROLES = {"common", "coordinator", "writers", "requestor", "tests", "examples"}
MAY_INCLUDE = {
    "common": {"common"},
    "coordinator": {"common", "coordinator"},
    "writers": {"common", "writers"},
    "requestor": {"common", "requestor"},
    "examples": set(),
    "tests": ROLES,
}
# A library's header: where alone it may be used, by pattern.
ONLY_IN = {
    "dbus/dbus.h": r"common/bus|tests/",
    "btrfsutil.h": r"coordinator/providers/",
    "lvm2cmd.h": r"coordinator/providers/lvm/",
    "libdevmapper.h": r"coordinator/(providers|guard|watch)/",
    "libpq-fe.h": r"writers/postgresql/|tests/ledger/pg-ledger",
    "hiredis/hiredis.h": r"writers/redis/|tests/ledger/redis-ledger",
    "mysql.h": r"writers/mariadb/|tests/ledger/maria-ledger",
    "libvirt/libvirt.h": r"writers/qemu/libvirt-bridge",
    "libvirt/libvirt-qemu.h": r"writers/qemu/libvirt-bridge",
    "libmount/libmount.h": r"coordinator/providers/",
    "blkid/blkid.h": r"coordinator/providers/",
    "libsmartcols/libsmartcols.h": r"requestor/vssctl/",
}


def files():
    """Everything that is committed, or would be."""
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                           cwd=source, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (source / name).is_file()]


def check_includes(name, text):
    role = name.split("/")[0]
    for header in re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', text, flags=re.M):
        other = header.split("/")[0]
        if "/" in header and other in ROLES and other not in MAY_INCLUDE.get(role, ROLES):
            wrong.append(f"{name}: {role}/ may not include {header}")
        if header in ONLY_IN and not re.match(ONLY_IN[header], name):
            wrong.append(f"{name}: <{header}> is not used here")


def check_text(name, text):
    if "SPDX-License-Identifier: LGPL-2.1-or-later" not in text[:400]:
        wrong.append(f"{name}: no SPDX line")
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            wrong.append(f"{name}:{number}: blanks at the end of the line")
    if text and not text.endswith("\n"):
        wrong.append(f"{name}: the last line has no end")


for name in files():
    if re.search(r"(^|[/._-])(utils?|misc|helpers?)([/._-]|$)", name):
        wrong.append(f"{name}: a name that says nothing")
    kind = pathlib.PurePath(name).suffix
    if kind not in (".c", ".h", ".sh", ".py", ".build") and name != ".ci/run":
        continue
    text = (source / name).read_text()
    check_text(name, text)
    if kind in (".c", ".h"):
        check_includes(name, text)
    if kind == ".h" and "#pragma once" not in text:
        wrong.append(f"{name}: a header without #pragma once")

for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
