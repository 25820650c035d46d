#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Shadow storage of logical volumes: associations and their rules, stores that are extended before they fill, MaxSize, full
# pools, disks that fail; virtual disks, which keep their own copies and nobody else's.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

code=0

lap() {
	note "$* ($SECONDS s)"
}

# try ARGUMENT...: of vssctl; $code, /run/out, /run/err
try() {
	code=0
	vssctl "$@" >/run/out 2>/run/err || code=$?
}

# works ARGUMENT...
works() {
	try "$@"
	[ "$code" -eq 0 ] || die "vssctl $*: $(cat /run/err)"
}

# fails WORDS ARGUMENT...: and says them
fails() {
	local words=$1

	shift
	try "$@"
	[ "$code" -ne 0 ] || die "vssctl $* succeeds"
	grep -q "$words" /run/err || die "vssctl $* fails with other words than '$words': $(cat /run/err)"
}

# storage PATH FILTER: of the association of the volume at PATH
storage() {
	vssctl list shadowstorage --for "$1" --json | jq -r ".shadowstorage[0] | $2"
}

# copy_device PATH: a copy is made, and this is its device
copy_device() {
	works create shadow --for "$1" --json
	jq -r '.result.Shadows[0].Device' /run/out
}

# watched DEVICE FILTER: what vss-watch says of the copy on it
watched() {
	jq -r --arg d "$(dmsetup info -c --noheadings -o name "$1")" '.Watched[] | select(.Device == $d) | '"$2" \
		/run/vss-watch/state/watch
}

is_watching() {
	[ -e /run/vss-watch/state/watch ]
}

is_watched() {
	[ -n "$(watched "$1" .Device)" ]
}

# alarm DEVICE: what vss-watch says of it, or "none"
alarm() {
	watched "$1" '.Alarm // "none"'
}

is_invalid() {
	dmsetup status "$1" | grep -q Invalid
}

forget_copies() {
	works delete shadows --for "$1" --all -y
}

# fill PATH MIB: as fast as it goes
fill() {
	dd if=/dev/zero of="$1/fill" bs=1M count="$2" conv=notrunc,fsync 2>/dev/null
}

rules() {
	lap "associations and their rules"
	fails "own volume group" add shadowstorage --for /mnt/a --on other
	fails "at least 32 MiB" add shadowstorage --for /mnt/a --on vg --maxsize 31MB
	fails "is not a size" add shadowstorage --for /mnt/a --on vg --maxsize 1XB
	works add shadowstorage --for /mnt/a --on /dev/ubdb --maxsize 25%
	[ "$(storage /mnt/a '[.OnName, .Max == (.Size / 100 | floor) * 25, .Explicit] | join(" ")')" = "/dev/ubdb true true" ] ||
		die "the association is $(storage /mnt/a .)"
	fails "already" add shadowstorage /for=/dev/vg/a /on=vg
	fails "not on vg" resize shadowstorage --for /mnt/a --on vg --maxsize 64MB
	works delete shadowstorage --for /mnt/a -y
	works add shadowstorage --for /mnt/a --on /mnt/a --maxsize 64MB
	works create shadow --for /mnt/a
	[ "$(storage /mnt/a '[.Allocated, .Copies] | join(" ")')" = "$((64 << 20)) 1" ] || die "$(storage /mnt/a .)"
	fails "holds 1 copies" delete shadowstorage --for /mnt/a -y
	works create shadow --for /mnt/a
	[ "$(storage /mnt/a .Copies)" = 1 ] || die "the oldest copy did not make room"
	works resize shadowstorage --for /mnt/a --on vg --maxsize 200MB
	works create shadow --for /mnt/a
	[ "$(storage /mnt/a '[.Copies, .Allocated <= .Max] | join(" ")')" = "2 true" ] || die "$(storage /mnt/a .)"
	works resize shadowstorage --for /mnt/a --on vg --maxsize 150MB
	[ "$(storage /mnt/a .Copies)" = 1 ] || die "a smaller size did not cost the oldest copy"
	forget_copies /mnt/a
	[ "$(storage /mnt/a .Explicit)" = true ] || die "an explicit association went with its last copy"
	works resize shadowstorage --for /mnt/a --on vg --guaranteed
	works create shadow --for /mnt/a
	[ "$(storage /mnt/a '.Allocated >= 167772160')" = true ] || die "a guaranteed store has $(storage /mnt/a .Allocated) bytes"
	forget_copies /mnt/a
	works resize shadowstorage --for /mnt/a --on vg
}

# store_size DEVICE: of a copy, in sectors
store_size() {
	dmsetup status "$1" | sed -n 's|.*/\([0-9]*\) .*|\1|p'
}

is_larger() {
	[ "$(store_size "$1")" -gt "$2" ]
}

in_time() {
	local copy sum

	lap "stores are extended before they fill"
	sum=$(sha256sum </mnt/a/fill)
	works resize shadowstorage --for /mnt/a --on vg --maxsize 64MB
	copy=$(copy_device /mnt/a)
	wait_for 10 is_watched "$copy" || die "vssd does not start vss-watch, or that does not see the copy"
	[ "$(alarm "$copy")" = none ] || die "there is an alarm without need: $(alarm "$copy")"
	works resize shadowstorage --for /mnt/a --on vg
	wait_for 40 is_larger "$copy" 200000 || die "a small store is not extended"
	fill /mnt/a 100
	! is_invalid "$copy" || die "the store has overflowed"
	[ "$(alarm "$copy")" = none ] || die "there is an alarm: $(alarm "$copy")"
	mount_readonly vg "${copy##*/}" /mnt/copy
	[ "$(sha256sum </mnt/copy/fill)" = "$sum" ] || die "the copy does not hold what was there"
	umount /mnt/copy
	forget_copies /mnt/a
	wait_for 20 sh -c '! test -e /run/vss-watch/state/watch' || die "vss-watch goes on with nothing to watch"
}

at_max() {
	local oldest newest allocated

	lap "at MaxSize the oldest copy goes, but none in use"
	works resize shadowstorage --for /mnt/a --on vg --maxsize 200MB
	oldest=$(copy_device /mnt/a) # as large as its volume, so that it needs no room itself
	allocated=$(storage /mnt/a .Allocated)
	works resize shadowstorage --for /mnt/a --on vg --maxsize $((allocated + (64 << 20)))
	newest=$(copy_device /mnt/a)
	[ "$(storage /mnt/a .Copies)" = 2 ] || die "there are $(storage /mnt/a .Copies) copies"
	mount_readonly vg "${oldest##*/}" /mnt/copy
	fill /mnt/a 44 # of 64 MiB: more than may be used without an alarm, however fast or slow that was
	# shellcheck disable=SC2016
	wait_for 30 sh -c '"$BUILD/requestor/vssctl" status | grep "no more room"' || die "vssctl status does not tell: $(vssctl status)"
	[ -e "$oldest" ] || die "a copy went that is in use"
	umount /mnt/copy
	wait_for 40 sh -c "! lvs vg/${oldest##*/}" || die "the oldest copy does not go"
	wait_for 20 is_larger "$newest" 131072 || die "the newest store is not extended"
	! is_invalid "$newest" || die "the newest store has overflowed"
	forget_copies /mnt/a
	works resize shadowstorage --for /mnt/a --on vg
}

pools() {
	local copy before

	lap "a thin pool that holds copies keeps a floor"
	make_pool vg pool 64M
	make_thin vg pool t 200M ext4
	mount_lv vg t
	dd if=/dev/zero of=/mnt/t/old bs=1M count=8 conv=fsync 2>/dev/null
	fails "own pool" add shadowstorage --for /mnt/t --on vg
	fails "only UNBOUNDED" add shadowstorage --for /mnt/t --on vg/pool --maxsize 1GB
	copy=$(copy_device /mnt/t)
	before=$(blockdev --getsize64 /dev/mapper/vg-pool)
	wait_for 10 is_watching || die "vssd does not start vss-watch"
	fill /mnt/t 48
	wait_for 40 sh -c "[ \$(lvs --noheadings --units b --nosuffix -o lv_size vg/pool) -gt $before ]" || die "the pool is not extended"
	fill /mnt/t 120
	[ "$(dmsetup status vg-pool-tpool | grep -c out_of_data_space)" -eq 0 ] || die "the pool was full"
	forget_copies /mnt/t
	umount /mnt/t
	lvremove -qq -y vg/pool
	[ -n "$copy" ]
}

full_group() {
	local copy

	lap "where the volume group is full the oldest copies go, then there is an alarm"
	make_pool other pool 120M
	make_thin other pool u 400M ext4
	mount_lv other u
	works create shadow --for /mnt/u
	copy=$(copy_device /mnt/u)
	fill /mnt/u 60
	works create shadow --for /mnt/u
	dd if=/dev/zero of=/mnt/u/more bs=1M count=60 conv=fsync 2>/dev/null || true
	# shellcheck disable=SC2016
	wait_for 60 sh -c '[ "$("$BUILD/requestor/vssctl" list shadows --for /mnt/u --json | jq ".shadows | length")" -lt 3 ]' ||
		die "no copy goes: $(cat /run/vss-watch/state/watch)"
	jq -e '.Events[] | select(.Text | contains("oldest copy"))' /run/vss-watch/state/watch >/dev/null ||
		die "it is not told: $(cat /run/vss-watch/state/watch)"
	vssctl delete shadows --for /mnt/u --all -y >/dev/null 2>&1 || true # all may have gone
	umount /mnt/u
	lvremove -qq -y other/pool
	[ -n "$copy" ]
}

make_vg vg /dev/ubdb
make_vg other /dev/ubdc
make_lv vg a 160M ext4
mount_lv vg a
head -c 100M /dev/zero | tr "\0" a >/mnt/a/fill
start_all
rules
in_time
if [ "$VSSD_TEST_LEVEL" = long ]; then # minutes each
	at_max
	pools
	full_group
fi
assert_healthy vg a
