#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a backupScripts.d as VMware Tools do around a snapshot (services/plugins/vmbackup/scriptOps.c).

Usage: vmware-scripts.py DIRECTORY [COMMAND...]

Regular files in the order of strcmp, one after the other, through a shell, with "freeze"; the first that fails ends
that, and those before it get "freezeFail", last first. COMMAND is the snapshot: if it fails, "freezeFail" for all of
them, else "thaw", last first, and all of them whatever their codes are. Exit code 0: a quiesced snapshot."""
import os
import subprocess
import sys

directory, snapshot = sys.argv[1], sys.argv[2:]


def run(path, operation):
    return subprocess.run(f'"{path}" {operation}', shell=True).returncode == 0


def run_back(scripts, operation):
    return all([run(path, operation) for path in reversed(scripts)])


scripts = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
scripts = [path for path in scripts if os.path.isfile(path)]
for i, path in enumerate(scripts):
    if not run(path, "freeze"):
        print("Custom quiesce script failed.")
        run_back(scripts[:i], "freezeFail")
        sys.exit(1)
if snapshot and subprocess.run(snapshot).returncode != 0:
    print("The snapshot failed.")
    run_back(scripts, "freezeFail")
    sys.exit(2)
if not run_back(scripts, "thaw"):
    print("Custom quiesce script failed.")
    sys.exit(3)
