#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Reverting logical volumes through vssd: at once where nobody uses the volume, at its next activation where somebody does;
# confirmed first; and copies that move with their volume group.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

content() { cat "/mnt/$1/file"; }
say() { # VOLUME TEXT
	echo "$2" >"/mnt/$1/file"
	sync -f "/mnt/$1"
}
copy_now() { # VOLUME: its id
	vssctl create shadow --json --for "/mnt/$1" | jq -r '.result.Shadows[0].Shadow'
}
is_merged() { ! vssctl query reverts | grep -q Volume; }
has_no_merge() { ! is_merging; }
merge_speed() { echo "$1" >/sys/module/dm_snapshot/parameters/snapshot_copy_throttle; } # per cent of the time
is_merging() { [[ $(lvs --noheadings -a -o lv_merging vg) == *merging* ]]; }
# vssd, its worker, and the process that waits for the end of a merge, a child of the worker in a session of its own.
kill_reverter() {
	local waiting

	is_merging || return 1
	waiting=$(ps -eo pid=,ppid=,sid=,comm= | awk '$4 == "vss-worker" && $1 == $3 { print $1, $2 }')
	# shellcheck disable=SC2086 # two numbers
	[ -n "$waiting" ] && kill -9 "${pid_of[vssd]}" $waiting
}

make_vg vg /dev/ubdb
make_pool vg pool 128M
make_lv vg thick 64M ext4
make_thin vg pool thin 64M ext4
mount_lv vg thick
mount_lv vg thin
start_all

for volume in thick thin; do
	say $volume first
	old=$(copy_now $volume)
	say $volume second
	young=$(copy_now $volume)
	say $volume third

	vssctl revert shadow --shadow "$old" </dev/null >/run/out 2>&1 && die "$volume: it did not ask"
	grep -q -- --quiet /run/out || die "$volume: it does not say how not to be asked: $(cat /run/out)"
	[ "$(content $volume)" = third ] || die "$volume: changed without a word"

	umount /mnt/$volume
	vssctl revert shadow --shadow "$young" -y >/run/out 2>&1 || die "$volume: no revert: $(cat /run/out)"
	wait_for 20 is_merged || die "$volume: still merging: $(vssctl query reverts)"
	mount_lv vg $volume
	[ "$(content $volume)" = second ] || die "$volume shows '$(content $volume)' after a revert"
	vssctl list shadows --json | grep -q "$young" && die "$volume: the copy is still listed"
	vssctl list shadows --json | grep -q "$old" || die "$volume: an older copy is gone"

	if [ $volume = thin ]; then # LVM cuts the others' tie to the volume
		vssctl revert shadow --shadow "$old" -y >/run/out 2>&1 && die "a thin copy without a tie was merged"
		grep -q "lost its tie" /run/out || die "it does not say why: $(cat /run/out)"
		say $volume first
		old=$(copy_now $volume)
		say $volume second
	fi
	vssctl revert shadow --shadow "$old" -y >/run/out 2>&1 || die "$volume: no revert while mounted: $(cat /run/out)"
	grep -q "activated the next time" /run/out || die "$volume: it does not say that the revert is pending: $(cat /run/out)"
	[ "$(content $volume)" = second ] || die "$volume: changed under its users"
	vssctl query reverts | grep -q pending || die "$volume: no pending revert is listed"
	umount /mnt/$volume
	lvchange -qq -an vg/$volume
	lvchange -qq -ay vg/$volume 2>/dev/null
	wait_for 20 is_merged || die "$volume: still merging: $(vssctl query reverts)"
	mount_lv vg $volume
	[ "$(content $volume)" = first ] || die "$volume shows '$(content $volume)' after the pending revert"
	assert_healthy vg $volume
	note "$volume: reverted at once, and at its next activation"
done

say thick first
old=$(copy_now thick)
say thick second
dd if=/dev/zero of=/mnt/thick/much bs=1M count=40 conv=fsync status=none
umount /mnt/thick
merge_speed 2
vssctl revert shadow --shadow "$old" -y >/run/out 2>&1 &
wait_for 20 kill_reverter || die "nobody waits for the end of a merge"
wait "${pid_of[vssd]}" $! || true
is_merging || die "LVM has ended the merge before anybody was killed"
merge_speed 100
wait_for 20 has_no_merge ||
	die "whoever waited for the end of a merge was killed, and nobody ends it: $(lvs -a -o name,origin,lv_merging,data_percent vg)"
start_vssd
mount_lv vg thick
[ "$(content thick)" = first ] || die "thick shows '$(content thick)' after a merge that others ended"
assert_healthy vg thick
note "thick: a merge whose watcher was killed comes to its end"

say thick moved
kept=$(copy_now thick)
umount /mnt/thick /mnt/thin
vgchange -qq -an vg
vgexport -qq vg >/dev/null
vssctl list shadows --json | grep -q "$kept" && die "a copy in an exported group is listed as if it were there"
vgimport -qq vg >/dev/null
vgchange -qq -ay vg
vssctl list shadows --json | grep -q "$kept" || die "the copy did not survive export and import"
mkdir -p /mnt/copy
vssctl expose --shadow "$kept" /mnt/copy >/dev/null || die "the copy cannot be exposed after the move"
[ "$(cat /mnt/copy/file)" = moved ] || die "the copy shows '$(cat /mnt/copy/file)'"
note "copies travel with their group"
