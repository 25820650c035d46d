#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Snapshots are taken back and made again, under udev, while others list and refresh the group's volumes: each set ends in
# clean, ordered copies or in an error that names the stranger, and the volume group is as it was. test-rearm.sh [SETS]
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

n=2
sets=${1:-$(count 1 2 100)} # of two volumes: so many times two re-arms
make_vg vg /dev/ubdb
make_volumes "$n" ext4
start_all
start_writer

disturb() {
	while [ ! -e /run/disturber.stop ]; do
		lvs -a >/dev/null 2>&1 || true
		lvchange -qq --refresh "vg/v$((RANDOM % n + 1))" >/dev/null 2>&1 || true
	done
}

group_state() {
	lvs -a --noheadings -o lv_name,lv_uuid,lv_size,lv_tags,lv_attr vg
}

state=$(group_state)
good=0 failed=0 last=""
for ((i = 1; i <= sets; i++)); do
	rm -f /run/disturber.stop
	disturb &
	disturber=$!
	made=yes
	create_set /run/set.json || made=no
	touch /run/disturber.stop
	wait "$disturber"
	if [ $made = yes ]; then
		check_set /run/set.json
		delete_set /run/set.json
		good=$((good + 1))
	else
		last=$(tail -n 1 /run/create.err)
		grep -Eqi 'activ|live|refresh|lock|in use|busy' /run/create.err || die "set $i: no stranger is named: $(cat /run/create.err)"
		failed=$((failed + 1))
	fi
	note "set $i: made: $made${last:+; }$last"
	udevadm settle --timeout=30
	[ "$(group_state)" = "$state" ] || die "set $i: the volume group changed: $(group_state), was: $state"
done
stop_writer
note "$((sets * n)) re-arms: $good sets good, $failed failed${last:+; the last: $last}"
[ "$((good * 2))" -ge "$sets" ] || die "fewer than half of the sets succeeded"
for ((i = 1; i <= n; i++)); do
	assert_healthy vg "v$i"
done
left=$(dmsetup udevcookies | tail -n +2)
[ -z "$left" ] || die "cookies are left: $left"
