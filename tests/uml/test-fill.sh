#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A store is filled as fast as the machine can, again and again: as long as the volume group has room no copy is lost, and
# each shows what was there; every second time vssd is not there, and vss-watch alone has to see to it. Then what there is no
# room for: the oldest copies that go, the stores that cannot overflow, and what is said of a copy that is lost.
# Usage: test-fill.sh [PART]...: in_time, oldest_goes, guaranteed, space_ends
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

size=$(count 64 128 1024) # of the store, when the copy is made
content=$((size * 5 / 4)) # rewritten while there is a copy: more than the store takes
runs=$(count 1 2 10)
letters=abcdefghijklmnopqrstuvwxyz

lap() {
	note "$* ($SECONDS s)"
}

# rewrite DIRECTORY MIB LETTER: the file there; tells how fast.
rewrite() {
	local begin=${EPOCHREALTIME/./} end

	xfs_io -f -d -c "pwrite -q -S 0x$(printf %x "'$3") -b 4m 0 ${2}m" "$1/file" >/run/write.log 2>&1 ||
		die "$1 cannot be written: $(cat /run/write.log)"
	end=${EPOCHREALTIME/./}
	note "$2 MiB at $(($2 * 1000000 / (end - begin))) MiB/s"
}

# holds DIRECTORY MIB LETTER: nothing else is in the file.
holds() {
	[ "$(head -c $(($2 << 20)) "$1/file" | tr -d "$3" | head -c 100 | wc -c)" = 0 ] || die "$1 does not show what was there"
}

store_mib() {
	dmsetup status "$1" | sed -n 's|.* [0-9]*/\([0-9]*\) .*|\1|p' | awk '{ print int($1 / 2048) }'
}

is_watching() {
	jq -e '.Watched | length > 0' /run/vss-watch/state/watch
}

is_invalid() {
	dmsetup status "$1" | grep -q Invalid
}

# leave_to_watch: vssd is killed, and what watched for it; another one is started as a unit or a rule of udev's would.
leave_to_watch() {
	stop vssd KILL
	kill "$(jq .Pid /run/vss-watch/state/watch)" || die "vss-watch does not run"
	wait_for 30 sh -c '! test -e /run/vss-watch/state/watch' || die "vss-watch does not end"
	spawn watch "$BUILD/coordinator/watch/vss-watch" --worker "$BUILD/coordinator/providers/vss-worker" --linger 3 \
		--config /run/vssd.conf
	wait_for 30 is_watching || die "vss-watch does not watch by itself"
}

copy="" device="" # of:
copy_volume() {
	vssctl create shadow --for "$1" --json >/run/set.json || die "no copy of $1"
	copy=$(jq -r '.result.Shadows[0].Shadow' /run/set.json)
	device=$(jq -r '.result.Shadows[0].Device' /run/set.json)
}

# shows COPY MIB LETTER
shows() {
	mkdir -p /mnt/copy
	vssctl expose --shadow "$1" /mnt/copy >/dev/null || die "the copy cannot be exposed"
	holds /mnt/copy "$2" "$3"
	vssctl unexpose --shadow "$1" >/dev/null || die "the copy cannot be unexposed"
}

fill_one() { # RUN
	local before=${letters:$1:1} after=${letters:$1+1:1} alone=$(($1 % 2)) begin

	vssctl resize shadowstorage --for /mnt/v --on vg --maxsize "${size}MB" >/dev/null || die "no MaxSize"
	copy_volume /mnt/v
	vssctl resize shadowstorage --for /mnt/v --on vg --maxsize unbounded >/dev/null || die "no resize"
	begin=$(store_mib "$device")
	[ "$begin" -le "$((size + 4))" ] || die "the store has $begin MiB already"
	wait_for 30 is_watching || die "nobody watches"
	[ $alone = 0 ] || leave_to_watch
	rewrite /mnt/v "$content" "$after"
	! is_invalid "$device" || die "run $1: the copy is lost, with $(vgs --noheadings -o vg_free vg) free"
	note "run $1$([ $alone = 0 ] || echo ", without vssd"): the store went from $begin to $(store_mib "$device") MiB"
	[ "$(store_mib "$device")" -gt "$begin" ] || die "nothing had to be extended"
	[ $alone = 0 ] || start_vssd
	shows "$copy" "$content" "$before"
	holds /mnt/v "$content" "$after"
	vssctl delete shadows --shadow "$copy" -y >/dev/null || die "the copy cannot be deleted"
	wait_for 30 sh -c '! test -e /run/vss-watch/state/watch' || die "vss-watch goes on with nothing to watch"
}

in_time() {
	local run

	lap "stores of $size MiB are filled"
	make_lv vg v $((content + size / 8 + 32))M ext4
	mount_lv vg v
	rewrite /mnt/v "$content" a
	vssctl add shadowstorage --for /mnt/v --on vg >/dev/null || die "no association"
	for ((run = 0; run < runs; run++)); do
		fill_one "$run"
	done
	assert_healthy vg v
	umount /mnt/v
	lvremove -qq -y vg/v
}

is_gone() {
	! lvs "$1"
}

is_larger() {
	[ "$(store_mib "$1")" -gt "$2" ]
}

oldest_goes() {
	local oldest

	lap "at MaxSize the oldest goes, the newest stays whole"
	rewrite /mnt/w 150 a
	vssctl resize shadowstorage --for /mnt/w --on vg --maxsize 96MB >/dev/null || die "no MaxSize"
	copy_volume /mnt/w
	oldest=$device
	vssctl resize shadowstorage --for /mnt/w --on vg --maxsize 200MB >/dev/null
	copy_volume /mnt/w
	[ -e "$oldest" ] || die "the oldest went before there was need"
	rewrite /mnt/w 65 b # of 96
	wait_for 60 is_gone "${oldest#/dev/}" || die "the oldest is still there: $(dmsetup status)"
	wait_for 60 is_larger "$device" 100 || die "the newest has no more room: $(dmsetup status)"
	rewrite /mnt/w 150 b
	! is_invalid "$device" || die "the newest is lost although the oldest could go"
	[ "$(store_mib "$device")" -le 201 ] || die "the store went above MaxSize: $(store_mib "$device") MiB"
	jq -e '.Events[] | select(.Text | contains("oldest copy"))' /run/vss-watch/state/watch >/dev/null ||
		die "it is not told: $(cat /run/vss-watch/state/watch)"
	shows "$copy" 150 a
	vssctl delete shadows --for /mnt/w --all -y >/dev/null || die "the copies cannot be deleted"
}

guaranteed() {
	local begin

	lap "a guaranteed store takes all that can be written"
	rewrite /mnt/w 150 a
	vssctl resize shadowstorage --for /mnt/w --on vg --guaranteed >/dev/null || die "it cannot be guaranteed"
	copy_volume /mnt/w
	begin=$(store_mib "$device")
	lvcreate -qq -y -Wn -Zn -n rest -l 100%FREE vg || die "no filler" # so that nothing can be extended
	rewrite /mnt/w 150 b
	xfs_io -f -d -c "pwrite -q -S 0x7a -b 4m 0 40m" /mnt/w/more >/dev/null 2>&1 || true # until it is full
	blockdev --flushbufs /dev/vg/w
	! is_invalid "$device" || die "a guaranteed store has overflowed"
	[ "$(store_mib "$device")" = "$begin" ] || die "a guaranteed store had to be extended"
	! jq -e '.Watched[] | select(.Alarm)' /run/vss-watch/state/watch || die "an alarm without need"
	shows "$copy" 150 a
	rm -f /mnt/w/more
	vssctl delete shadows --for /mnt/w --all -y >/dev/null || die "the copy cannot be deleted"
	lvremove -qq -y vg/rest
}

# The group is full, and the store is: it cannot be helped, but it is said, before and after.
space_ends() {
	lap "where space ends the copy is lost, and that is said"
	rewrite /mnt/w 150 a
	vssctl resize shadowstorage --for /mnt/w --on vg --maxsize 64MB >/dev/null || die "no MaxSize"
	copy_volume /mnt/w
	lvcreate -qq -y -Wn -Zn -n rest -l 100%FREE vg || die "no filler"
	vssctl resize shadowstorage --for /mnt/w --on vg --maxsize unbounded >/dev/null || die "no resize"
	rewrite /mnt/w 45 b # of 64
	# shellcheck disable=SC2016
	wait_for 60 sh -c '"$BUILD/requestor/vssctl" status | grep "no more room: the volume group is full"' ||
		die "vssctl status does not tell that the end is near: $(vssctl status)"
	! is_invalid "$device" || die "the copy is lost with $(dmsetup status "$device")"
	shows "$copy" 45 a
	rewrite /mnt/w 150 b
	is_invalid "$device" || die "nothing was lost: $(dmsetup status "$device")"
	# shellcheck disable=SC2016
	wait_for 60 sh -c '"$BUILD/requestor/vssctl" status | grep "has overflowed, the copy is lost"' ||
		die "vssctl status does not tell of the loss: $(vssctl status)"
	vssctl list shadows --for /mnt/w >/run/list || die "no list"
	grep -q "overflowed" /run/list || die "a lost copy passes for a good one: $(cat /run/list)"
	! vssctl expose --shadow "$copy" /mnt/copy >/run/out 2>/run/err || die "a lost copy can be exposed"
	grep -q "overflowed" /run/err || die "it is not said why it cannot be exposed: $(cat /run/err)"
	! vssctl revert shadow --shadow "$copy" -y >/run/out 2>/run/err || die "a volume is reverted to a lost copy"
	grep -q "overflowed" /run/err || die "it is not said why it cannot be reverted to: $(cat /run/err)"
	holds /mnt/w 150 b
	vssctl delete shadows --shadow "$copy" -y >/dev/null || die "the lost copy cannot be deleted"
	lvremove -qq -y vg/rest
	copy_volume /mnt/w
	shows "$copy" 150 b
	vssctl delete shadows --for /mnt/w --all -y >/dev/null || die "the copy cannot be deleted"
}

make_vg vg /dev/ubdb
make_lv vg w 200M ext4
mount_lv vg w
start_all
vssctl add shadowstorage --for /mnt/w --on vg >/dev/null || die "no association"
[ $# -gt 0 ] || set -- in_time oldest_goes guaranteed space_ends
for part; do
	"$part"
done
assert_healthy vg w
