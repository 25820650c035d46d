#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lets qemu-ga freeze mounts and thaws them again; prints the usec that the freeze took, and those of a command that does nothing.

Usage: ask-agent.py SOCKET freeze MOUNT...
"""
import json
import socket
import sys
import time

agent = socket.socket(socket.AF_UNIX)
agent.settimeout(60)
agent.connect(sys.argv[1])
answers = agent.makefile("rb")


def ask(command, **arguments):
    text = json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})
    begin = time.monotonic()
    agent.sendall(text.encode() + b"\n")
    answer = json.loads(answers.readline())
    took = int((time.monotonic() - begin) * 1e6)
    if "return" not in answer:
        sys.exit(f"{command}: {answer}")
    return answer["return"], took


mounts = sys.argv[3:]
ask("guest-ping")
_, nothing = ask("guest-fsfreeze-status")
frozen, took = ask("guest-fsfreeze-freeze-list", mountpoints=mounts)
thawed, _ = ask("guest-fsfreeze-thaw")
if frozen != len(mounts) or thawed < frozen:
    sys.exit(f"{frozen} of {len(mounts)} were frozen, {thawed} thawed")
print(took)
print(nothing)
