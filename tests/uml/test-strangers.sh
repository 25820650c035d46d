#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Strangers who freeze, thaw, suspend, resume and snapshot the volumes of a set while it is made: it is good, or it fails and
# names what the stranger did; no volume is poisoned. test-strangers.sh [STRANGER]...
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

n=2
sets=$(count 1 1 50)
make_vg vg /dev/ubdb
make_volumes "$n" ext4
start_all

thaws() { fsfreeze --unfreeze /mnt/v1; }
freezes() {
	fsfreeze --freeze /mnt/v1
	sleep 0.0$((RANDOM % 5))
	fsfreeze --unfreeze /mnt/v1
}
resumes() { dmsetup resume vg-v1; }
suspends() {
	dmsetup suspend vg-v1
	sleep 0.0$((RANDOM % 5))
	dmsetup resume vg-v1
}
refreshes() { lvchange -qq --refresh vg/v2; }
snapshots() {
	lvcreate -qq -y -s -n stranger -L 16M vg/v2
	lvremove -qq -y vg/stranger
}
lists() { lvs; }

# What a failure has to say of each: the words that name the stranger's act.
declare -A names=([thaws]='thawed|frozen|resumed' [freezes]='frozen|thawed|busy|in use' [resumes]='resumed|suspended' [suspends]='suspended|frozen|resumed|busy|in use'
	[refreshes]='activ|live|refresh|lock' [snapshots]='lock|in use|changed|busy' [lists]='lock')

stranger() {
	while [ ! -e /run/stranger.stop ]; do
		"$1" >/dev/null 2>&1 || true
		sleep 0.00$((RANDOM % 9))
	done
}

for who in "${@:-thaws freezes resumes suspends refreshes snapshots lists}"; do
	for name in $who; do
		rm -f /run/stranger.stop
		start_writer
		stranger "$name" &
		pid=$!
		good=0 failed=0
		for ((i = 1; i <= sets; i++)); do
			if create_set /run/set.json; then
				good=$((good + 1))
				touch /run/stranger.stop && wait "$pid" # what is checked is the copy, not the stranger's doing to it
				check_set /run/set.json
				delete_set /run/set.json
				rm -f /run/stranger.stop
				stranger "$name" &
				pid=$!
			else
				failed=$((failed + 1))
				last=$(tail -n 1 /run/create.err)
				grep -Eqi "${names[$name]}" /run/create.err || die "$name: the failure does not name it: $(cat /run/create.err)"
			fi
		done
		touch /run/stranger.stop
		wait "$pid"
		fsfreeze --unfreeze /mnt/v1 2>/dev/null || true # the stranger's own, if it ended between its two steps
		stop_writer
		note "$name: $good good, $failed failed$([ "$failed" -eq 0 ] || printf '; the last: %s' "$last")"
		for ((i = 1; i <= n; i++)); do
			assert_healthy vg "v$i"
		done
		[ "$(lvs --noheadings -o lv_name vg | wc -l)" -eq "$n" ] || die "$name: volumes are left: $(lvs -a vg)"
	done
done
