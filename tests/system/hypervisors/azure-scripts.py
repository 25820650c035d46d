#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs what a VMSnapshotScriptPluginConfig.json names as Azure's backup extension does around a snapshot
(azure-linux-extensions, VMBackup/main/ScriptRunner.py).

Usage: azure-scripts.py CONFIGURATION [COMMAND...]

The scripts must be root's, with no rights for anybody else. They are run with sh; one that has not ended after
timeoutInSeconds goes on unheard. Exit codes 0 and 2 (a warning) are success. The post-script runs whatever became of
the pre-script. COMMAND is the snapshot; without continueBackupOnFailure it is made only if the pre-script succeeded.
Exit code 0: an application consistent snapshot; 1: none; 2: one that is not; 3: the post-script failed."""
import json
import os
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    config = json.load(file)
go_on = config.get("continueBackupOnFailure", True)


def refuse(path):
    status = os.stat(path)
    return status.st_uid != 0 or status.st_mode & 0o077


def run(kind):
    words = ["sh", config[kind + "ScriptLocation"], *map(str, config.get(kind + "ScriptParams", []))]
    for _ in range(config.get(kind + "ScriptNoOfRetries", 0) + 1):
        process = subprocess.Popen(words)
        try:
            code = process.wait(config.get("timeoutInSeconds", 10))
        except subprocess.TimeoutExpired:
            print(kind + "-script timed out")
            return False
        if code == 0:
            return True
    print(f"{kind}-script failed with error code {code}")
    return code == 2


for kind in "pre", "post":
    if refuse(config[kind + "ScriptLocation"]):
        print(f"InsufficientPermissionfor{kind.title()}-Script")
        sys.exit(2 if go_on else 1)
frozen = run("pre")
made = frozen or go_on
if made and sys.argv[2:]:
    made = subprocess.run(sys.argv[2:]).returncode == 0
thawed = run("post")
sys.exit(1 if not made else 2 if not frozen else 0 if thawed else 3)
