#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What PostgreSQL, MariaDB and Redis notice of a set on logical volumes, beside `lvcreate -s` one after another under the database's
# own lock, in a machine of its own; for docs/measurements.md.
#   tests/uml/run.sh [--kernel K] --disk 3G --memory 2G --timeout 3600 BUILD_DIRECTORY tests/bench/applications-lvm.sh \
#       ROUNDS SECONDS-AROUND ext4|xfs [postgresql|mariadb|redis]...
# With BENCH_TIMELINES=yes it prints the timelines of the sets, too.
# Data and log are on two volumes. Ends with 1 if a target was missed.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/bench/applications.sh
. "$SOURCE/tests/bench/applications.sh"

snapshot_name="lvcreate -s in a row"

snapshot_command() {
	echo "lvcreate -qq -y -s -n plain${1##*/} -L 128M vg/${1##*/}"
}

remove_command() {
	echo "lvremove -qq -y vg/plain${1##*/}"
}

# The scene of the system tests, in the machine's memory.
build=$BUILD lab=/run/bench pg_scale=1
# One processor: what is measured must not be who gets it.
bench_rounds=$1 bench_around=$2 bench_target=0.5 bench_rate=${BENCH_RATE:-30}
filesystem=$3
shift 3
mkdir -p "$lab" /run/log
chmod 0711 "$lab"
ln -s /run/log/vssd.log "$lab/vssd.log"
pg_need "$build"
cp "$build/tests/ledger/pg-ledger" "$build/tests/ledger/maria-ledger" "$lab/"
printf '[Coordinator]\nMachineId=%s\n[Limits]\nPrepareSnapshot=60s\nEvent=60s\n' "$(machine_id)" >/run/vssd.conf
make_vg vg /dev/ubdb
make_lv vg data 700M "$filesystem"
make_lv vg log 400M "$filesystem"
mount_lv vg data
mount_lv vg log
start_all
note "kernel $(uname -r), $filesystem, udevd: $UDEV"
for name in "${@:-postgresql}"; do
	"bench_$name" "$name on two logical volumes, $filesystem" /mnt/data /mnt/log
done
[ -z "${BENCH_TIMELINES:-}" ] || cat "$lab/timelines"
[ "$missed" -eq 0 ]
