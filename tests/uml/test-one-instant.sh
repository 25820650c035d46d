#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Sets of one instant: made back to back under a writer, over several volumes. The control, plain snapshots one after the other,
# is out of order; ours never are. test-one-instant.sh [ext4|xfs|mixed [N [SETS]]]; mixed: ext4, XFS and thin volumes and a btrfs.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

type=${1:-ext4} n=${2:-4}
sets=$(count 3 "${3:-10}" 100)

make_vg vg /dev/ubdb
[ "$type" != xfs ] || export VOLUME_SIZE=320M
if [ "$type" = mixed ]; then
	make_mixed "$n"
else
	make_volumes "$n" "$type"
fi
start_all
start_writer

control() {
	local i

	for ((i = 1; i <= n; i++)); do
		lvcreate -qq -y -s -n "c$i" -L 16M "vg/v$i"
	done
	for ((i = 1; i <= n; i++)); do
		mount_readonly vg "c$i" "/mnt/copy/v$i"
	done
	is_ordered >/run/order.log && return 1
	cat /run/order.log
	for ((i = 1; i <= n; i++)); do
		umount "/mnt/copy/v$i"
	done
	for ((i = 1; i <= n; i++)); do
		lvremove -qq -y "vg/c$i" >/dev/null
	done
}

[ "$n" -lt 2 ] || [ "$type" = mixed ] || control || die "plain snapshots in a row kept the order: the proof proves nothing"

for ((i = 1; i <= sets; i++)); do
	create_set /run/set.json || die "set $i: $(cat /run/create.err)"
	check_set /run/set.json
	held=$(jq .result.WritesHeldUsec /run/set.json)
	note "set $i: $(head -n 1 /run/order.log), writes held $((held / 1000)).$((held / 100 % 10)) ms"
	delete_set /run/set.json
done
stop_writer
for ((i = 1; i <= n; i++)); do
	assert_healthy vg "v$i"
done
[ "$(lvs --noheadings -o lv_name vg | grep -cv pool)" -eq "$n" ] || die "volumes are left: $(lvs vg)"
