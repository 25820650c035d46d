#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What PostgreSQL, MariaDB and Redis notice of a set on btrfs, beside `btrfs subvolume snapshot -r` under the database's own lock; for
# docs/measurements.md. Called by run.sh, in a mount namespace of its own.
#   tests/bench/applications-btrfs.sh BUILD_DIRECTORY ROUNDS SECONDS-AROUND [postgresql|mariadb|redis]...
# With BENCH_TIMELINES=yes it prints the timelines of the sets, too.
# Ends with 1 if a target was missed.
set -euo pipefail
# shellcheck source=tests/bench/applications.sh
. "$(dirname "${BASH_SOURCE[0]}")/applications.sh"

snapshot_name="btrfs subvolume snapshot -r"

snapshot_command() {
	echo "btrfs -q subvolume snapshot -r $1 $1.plain"
}

remove_command() {
	echo "btrfs -q subvolume delete $1.plain"
}

scene_start "$1" setpriv psql mariadbd mariadb redis-server
bench_rounds=$2 bench_around=$3 bench_target=1.2
shift 3
pg_need "$build"
chmod 0711 "$lab"
cp "$build/tests/ledger/pg-ledger" "$build/tests/ledger/maria-ledger" "$lab/"
lab_make_btrfs d 6G
scene_configure Identify=20s PrepareSnapshot=20s Event=20s Freeze=5s
scene_vssd
for name in "${@:-postgresql}"; do
	btrfs --quiet subvolume create "$lab/d/$name"
	"bench_$name" "$name on btrfs" "$lab/d/$name"
done
[ -z "${BENCH_TIMELINES:-}" ] || cat "$lab/timelines"
[ "$missed" -eq 0 ]
