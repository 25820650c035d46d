#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a QEMU guest agent, as a hypervisor does. Usage: qga.py SOCKET COMMAND [ARGUMENTS as JSON]

Prints the answer; exit code 1 if it is an error, 2 if there is none within 30 s."""
import json
import socket
import sys
import time

with socket.socket(socket.AF_UNIX) as agent:
    agent.settimeout(30)
    agent.connect(sys.argv[1])
    number = int(time.monotonic() * 1000000)
    sync = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": number}})
    request = {"execute": sys.argv[2]}
    if len(sys.argv) > 3:
        request["arguments"] = json.loads(sys.argv[3])
    agent.sendall(b"\xff" + sync.encode() + b"\n")
    answers = agent.makefile("rb")
    try:
        while json.loads(answers.readline().lstrip(b"\xff")).get("return") != number:
            pass
        agent.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(answers.readline())
    except TimeoutError:
        sys.exit(2)
print(json.dumps(answer))
sys.exit("error" in answer)
