#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Do the documents agree with the tree and with each other? Prints what does not; 1 if anything does not.

Usage: check-documents.py SOURCE_DIR [VSSCTL]
"""
import pathlib
import re
import subprocess
import sys
import xml.dom.minidom

source = pathlib.Path(sys.argv[1]).resolve()
vssctl = sys.argv[2] if len(sys.argv) > 2 else None
wrong = []


def markdown_files():
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                           cwd=source, check=True, capture_output=True, text=True).stdout.split()
    return [source / name for name in names if (source / name).exists()]


def prose(text):
    """Without code, in which brackets are not links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(text):
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(slug)
    return found


def check_links():
    for path in markdown_files():
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name) if name else path
            if not file.exists():
                wrong.append(f"{path.relative_to(source)}: {target} leads nowhere")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                wrong.append(f"{path.relative_to(source)}: {target}: there is no such heading")


def check_manuals():
    """Every program that is installed has a manual page, and every page that is referred to exists."""
    pages = {path.name for path in (source / "docs" / "man").iterdir()}
    for program in ("vssd.8", "vss-worker.8", "vss-guard.8", "vss-watch.8", "vssctl.8", "vss-writer-check.1", "vss-script-writer.8", "vss-qemu-writer.8", "vssd.conf.5"):
        if program not in pages:
            wrong.append(f"docs/man/{program} is missing")
    texts = markdown_files() + [source / "docs" / "man" / page for page in pages]
    texts += (source / "coordinator" / "data").glob("*.in")
    for path in texts:
        text = re.sub(r"\\-", "-", path.read_text())
        text = re.sub(r"\\f[A-Z]|\"", "", re.sub(r"^\.[BI]R? +(\S+) +\((\d)\)", r"\1(\2)", text, flags=re.M))
        for name, section in re.findall(r"\b(vss[a-z.-]*)\((\d)\)", text):
            if f"{name}.{section}" not in pages:
                wrong.append(f"{path.relative_to(source)}: there is no {name}({section})")


def check_protocol():
    """docs/protocol.md names every method, property and signal of the golden XML."""
    text = (source / "docs" / "protocol.md").read_text()
    words = set(re.findall(r"\w+", text))
    for path in sorted((source / "coordinator" / "data").glob("org.vssd.*.xml")):
        document = xml.dom.minidom.parse(str(path))
        for kind in ("interface", "method", "property", "signal"):
            for element in document.getElementsByTagName(kind):
                name = element.getAttribute("name")
                if (name if kind != "interface" else name.rpartition(".")[2]) not in words:
                    wrong.append(f"docs/protocol.md does not tell of {kind} {name} ({path.name})")


def check_vssctl():
    """Every option in vssctl's own help is in its manual page."""
    manual = re.sub(r"\\-", "-", (source / "docs" / "man" / "vssctl.8").read_text())
    overview = subprocess.run([vssctl, "--help"], check=True, capture_output=True, text=True).stdout
    for command in re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", overview, flags=re.M):
        text = subprocess.run([vssctl, *command.split(), "--help"], check=True, capture_output=True, text=True).stdout
        for option in set(re.findall(r"--[a-z]+(?:-[a-z]+)*", text.partition("Options:")[2])):
            if option not in manual and f"/{option[2:]}=" not in manual.lower():
                wrong.append(f"vssctl.8 does not tell of {option} of vssctl {command}")


check_links()
check_manuals()
check_protocol()
if vssctl:
    check_vssctl()
for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
