#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Thin pools that fill up, with data and with metadata, that become read-only, and that fail: which sets are refused and with
# which rule, what becomes of the copies, and that the volumes themselves come to no harm that the pool has not done them.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

lap() {
	note "$* ($SECONDS s)"
}

# makes NAME: a set of /mnt/t, with what is said of it in /run/NAME.json
makes() {
	vssctl create shadow --for /mnt/t --json >"/run/$1.json" 2>/run/err || die "no set: $(cat /run/err)"
}

# refused WORDS: a set, with these words, in time
refused() {
	local code=0

	timeout 90 "$BUILD/requestor/vssctl" create shadow --for /mnt/t >/run/out 2>/run/err || code=$?
	[ "$code" -ne 0 ] || die "a set is made, and should be refused ($1)"
	[ "$code" -ne 124 ] || die "a set that should be refused ($1) does not end"
	grep -q -- "$1" /run/err || die "it is refused with other words than '$1': $(cat /run/err)"
	note "said: $(head -n 1 /run/err)"
	nothing_held
}

# keeps LV: the volume has what was there, which is read from its device: newer kernels' ext4 refuses to open any file once
# a write of its journal has failed, and that is what a full pool does to it
keeps() {
	rm -f /run/old
	debugfs -c -R "dump /old /run/old" "/dev/vg/$1" 2>/run/debugfs.err
	[ -e /run/old ] || die "$1 cannot be read: $(cat /run/debugfs.err)"
	[ "$(sha256sum </run/old)" = "$sum" ] || die "$1 does not show what was there"
}

# mount_again: checked, as its journal may have been cut off
mount_again() {
	e2fsck -fy /dev/vg/t >/run/fsck.log 2>&1 || [ $? -eq 1 ] || die "e2fsck: $(cat /run/fsck.log)"
	mount_lv vg t
	[ "$(sha256sum </mnt/t/old)" = "$sum" ] || die "the volume does not show what was there"
}

nothing_held() {
	! dmsetup info -c --noheadings -o name,attr | grep ':..s' || die "something is suspended"
	! compgen -G '/run/vss-guard/held-*' >/dev/null || die "something is held: $(vssctl status)"
}

copy_of() {
	jq -r '.result.Shadows[0].Shadow' "/run/$1.json"
}

# shows NAME: the copy has what was there
shows() {
	vssctl expose --shadow "$(copy_of "$1")" /mnt/copy >/dev/null || die "the copy $1 cannot be exposed"
	[ "$(sha256sum </mnt/copy/old)" = "$sum" ] || die "the copy $1 does not show what was there"
	vssctl unexpose --shadow "$(copy_of "$1")" >/dev/null || die "the copy $1 cannot be unexposed"
}

# fill PATH MIB NAME: until nothing goes any more
fill() {
	timeout 30 dd if=/dev/zero of="$1/$3" bs=1M count="$2" oflag=direct 2>/dev/null || true
}

pool_status() {
	dmsetup status vg-pool-tpool
}

alarm_says() {
	jq -e --arg text "$1" '.Watched[] | select((.Alarm // "") | contains($text))' /run/vss-watch/state/watch
}

# make_scene POOL_OPTION...: the group is full with it; no queue, so that nothing waits for a minute
make_scene() {
	lvcreate -qq -y --type thin-pool -n pool "$@" vg || die "no pool"
	lvchange -qq --errorwhenfull y vg/pool
	make_thin vg pool t 400M ext4
	mount_lv vg t
	head -c 8M /dev/urandom >/mnt/t/old
	sync -f /mnt/t
	sum=$(sha256sum </mnt/t/old)
	lvcreate -qq -y -Wn -Zn -n rest -l 100%FREE vg || die "no filler"
	start_vssd
}

end_scene() {
	vssctl delete shadows --for /mnt/t --all -y >/dev/null 2>&1 || true
	stop vssd
	umount /mnt/t || die "the volume cannot be unmounted"
	lvremove -qq -y vg/pool vg/rest || die "the pool cannot be removed"
}

data() {
	lap "the data of a pool fill up"
	make_scene -L 80M
	makes kept
	vssctl expose --shadow "$(copy_of kept)" /mnt/copy >/dev/null || die "it cannot be exposed" # so that it may not go
	fill /mnt/t 58 more
	wait_for 60 alarm_says "its volume group is full" || die "no alarm: $(cat /run/vss-watch/state/watch) $(pool_status)"
	refused "of the data of its thin pool vg/pool are free"
	fill /mnt/t 60 most
	refused "thin pool vg/pool"
	note "the pool: $(pool_status)"
	keeps t
	lvremove -qq -y vg/rest
	# shellcheck disable=SC2016
	wait_for 90 sh -c '[ "$(lvs --noheadings --units m --nosuffix -o lv_size vg/pool | cut -d. -f1)" -gt 80 ]' ||
		die "the pool is not extended when there is room: $(cat /run/vss-watch/state/watch)"
	wait_for 60 sh -c '! dmsetup status vg-pool-tpool | grep -q out_of_data_space' || die "the pool is still full: $(pool_status)"
	umount /mnt/t || die "the volume cannot be unmounted"
	mount_again # after what the full pool did to the filesystem
	vssctl unexpose --shadow "$(copy_of kept)" >/dev/null || die "it cannot be unexposed"
	shows kept
	makes again
	shows again
	lvcreate -qq -y -Wn -Zn -n rest -L 4M vg
	end_scene
}

# use_metadata BLOCKS: of 4 KiB (the metadata have 1024), by thin devices that LVM knows nothing of
use_metadata() {
	local i

	for ((i = 0; i < $1; i++)); do
		dmsetup message vg-pool-tpool 0 "create_thin $((100000 + made))" 2>/run/message.err || return 1
		made=$((made + 1))
	done
}

metadata() {
	local made=0

	lap "the metadata of a pool fill up"
	make_scene -L 80M --poolmetadatasize 2M
	lvremove -qq -y vg/rest
	lvremove -qq -y vg/lvol0_pmspare 2>/dev/null || true
	lvcreate -qq -y -Wn -Zn -n rest -l 100%FREE vg || die "no filler"
	makes kept
	vssctl expose --shadow "$(copy_of kept)" /mnt/copy >/dev/null || die "it cannot be exposed"
	use_metadata 720 || die "no thin devices: $(cat /run/message.err)"
	wait_for 60 alarm_says "metadata" || die "no alarm: $(cat /run/vss-watch/state/watch) $(pool_status)"
	refused "of the metadata of its thin pool vg/pool are free"
	! use_metadata 400 || die "the metadata do not fill up: $(pool_status)"
	head -c 12M /dev/urandom | timeout 30 dd of=/mnt/t/more bs=1M oflag=direct 2>/dev/null || true
	sync -f /mnt/t || true
	note "the pool: $(pool_status)"
	refused "thin pool vg/pool"
	wait_for 60 alarm_says "read-only" || die "no alarm: $(cat /run/vss-watch/state/watch) $(pool_status)"
	keeps t
	vssctl unexpose --shadow "$(copy_of kept)" >/dev/null || die "it cannot be unexposed"
	vssctl list shadows --for /mnt/t --json | jq -e '.shadows | length == 1' >/dev/null || die "the copy is not listed"

	lap "and is repaired"
	stop vssd
	umount /mnt/t
	wait_for 60 sh -c '! test -e /run/vss-watch/state/watch' || kill "$(jq .Pid /run/vss-watch/state/watch)"
	lvremove -qq -y vg/rest
	lvchange -qq -an vg/pool vg/t || die "the pool cannot be deactivated"
	lvconvert -y --repair vg/pool >/run/repair.log 2>&1 || die "no repair: $(cat /run/repair.log)"
	lvextend -qq -y --poolmetadatasize +8M vg/pool >>/run/repair.log 2>&1 || die "no more metadata: $(cat /run/repair.log)"
	lvchange -qq -ay vg/t || die "the volume cannot be activated again"
	mount_again
	start_vssd
	shows kept
	makes again
	shows again
	lvcreate -qq -y -Wn -Zn -n rest -L 4M vg
	end_scene
}

failed() {
	local size

	lap "a pool fails, and comes back"
	make_scene -L 400M # so that nothing has to be done for room
	lvremove -qq -y vg/rest
	makes kept
	size=$(blockdev --getsz /dev/mapper/vg-pool_tmeta)
	dmsetup table vg-pool_tmeta >/run/tmeta
	dmsetup suspend --noflush vg-pool_tmeta
	dmsetup load vg-pool_tmeta --table "0 $size error"
	dmsetup resume vg-pool_tmeta
	dd if=/dev/zero of=/mnt/t/more bs=1M count=4 oflag=direct 2>/dev/null || true
	sync -f /mnt/t 2>/dev/null || true
	wait_for 60 sh -c 'dmsetup status vg-pool-tpool | grep -q -e Fail -e needs_check' || die "the pool does not fail: $(pool_status)"
	note "the pool: $(pool_status)"
	refused "vg/t has parts that are missing\|thin pool vg/pool has failed"
	dmsetup load vg-pool_tmeta /run/tmeta # it is back, and the pool has failed all the same
	dmsetup suspend --noflush vg-pool_tmeta
	dmsetup resume vg-pool_tmeta
	refused "thin pool vg/pool \(has failed\|needs a check\|is read-only\)"
	wait_for 60 alarm_says "he pool" || die "no alarm: $(cat /run/vss-watch/state/watch)"
	timeout 90 "$BUILD/requestor/vssctl" list shadows --for /mnt/t >/run/out 2>/run/err || die "a list with a failed pool: $(cat /run/err)"
	timeout 60 "$BUILD/requestor/vssctl" status >/run/out || die "no status with a failed pool"
	nothing_held

	stop vssd
	kill "$(jq .Pid /run/vss-watch/state/watch)"
	umount /mnt/t
	lvchange -qq -an vg/pool vg/t || die "the pool cannot be deactivated"
	lvchange -qq -ay vg/pool vg/t >/run/repair.log 2>&1 || {
		lvconvert -y --repair vg/pool >>/run/repair.log 2>&1 || die "no repair: $(cat /run/repair.log)"
		lvchange -qq -ay vg/t || die "the volume cannot be activated again"
	}
	mount_again
	start_vssd
	shows kept
	makes again
	shows again
	assert_healthy vg t
	lvcreate -qq -y -Wn -Zn -n rest -L 4M vg
	end_scene
}

# A pool that promises far more than the group has: nothing is wrong with that as long as there is room.
overprovisioned() {
	local i

	lap "a pool that promises more than there is"
	make_scene -L 400M
	lvremove -qq -y vg/rest
	for i in 1 2 3; do
		make_thin vg pool "o$i" 2G none
	done
	makes first
	shows first
	fill /mnt/t 20 more
	makes second
	shows first
	shows second
	assert_healthy vg t
	for i in 1 2 3; do
		lvremove -qq -y "vg/o$i"
	done
	lvcreate -qq -y -Wn -Zn -n rest -L 4M vg
	end_scene
}

make_vg vg /dev/ubdb
mkdir -p /mnt/copy
start_bus
start_guard
[ $# -gt 0 ] || set -- data metadata failed overprovisioned
for part; do
	"$part"
done
note "full, read-only and failed pools: refused with the rule, and well again when they are"
