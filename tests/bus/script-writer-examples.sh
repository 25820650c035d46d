#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The sample script writers must pass everything that a vendor's writer must.
# Usage: script-writer-examples.sh VSS-WRITER-CHECK VSS-SCRIPT-WRITER SAMPLES
set -euo pipefail

check=$1 program=$2 samples=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cp -RP "$samples/event-log" "$dir/event-log"
cp "$samples/sqlite-lock" "$dir"
for name in event-log sqlite-lock; do
	sed -e "s|/etc/vssd/hooks|$dir|" -e "s|/srv/app|$dir|g" -e "s|/var/log|$dir|" "$samples/$name.conf" >"$dir/$name.conf"
done

"$check" -- "$program" --runtime-dir "$dir/run" "$dir/event-log.conf"
grep -q '^freeze set=' "$dir/vss-events.log"

command -v sqlite3 >/dev/null || exit 0
sqlite3 "$dir/app.db" 'CREATE TABLE t (x)'
"$check" -- "$program" --runtime-dir "$dir/run" "$dir/sqlite-lock.conf"
