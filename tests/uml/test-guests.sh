#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests whose disks lie on logical volumes: one is the volume itself (thin), one a file on an XFS, one a qcow2 on one volume
# whose backing file is on another, one is off. Their files are resolved to the host's volumes, one set copies all of them at one
# instant, and what each guest would find in its copy needs no replay. A guest is a real agent with a filesystem on the disk,
# attached by loop, or by qemu-nbd, which opens disks with QEMU's own code.
# Usage: test-guests.sh [PART...]: functions at the end of this file
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

readonly offset=$((1 << 20)) # where the filesystem begins on a disk that somebody partitioned
readonly guests="raw file chain"
volumes="/dev/vg/raw /mnt/files /mnt/base /mnt/top /dev/vg/off"
code=0

# try ARGUMENT...: of vssctl; $code, /run/out, /run/err
try() {
	code=0
	vssctl "$@" >/run/out 2>/run/err || code=$?
}

works() {
	try "$@"
	[ "$code" -eq 0 ] || die "vssctl $*: $(cat /run/err)"
}

says() {
	grep -q -e "$1" "${2:-/run/out}" || die "'$1' is not in: $(cat "${2:-/run/out}")"
}

# create_set [OPTION...]: of all volumes
create_set() {
	local volume arguments=()

	for volume in $volumes; do
		arguments+=(--for "$volume")
	done
	try create shadow --json "${arguments[@]}" "$@"
}

result() {
	jq -r ".result | $1" /run/out
}

# ---- guests ----

# make_guest NAME DEVICE: its filesystem
make_guest() {
	mkfs.ext4 -q -F "$2"
	mkdir -p "/mnt/inside/$1"
	mount "$2" "/mnt/inside/$1" || die "$1 has no filesystem"
}

# start_guest NAME: its agent, which sees its filesystem alone (a thaw is for all that it sees), and a program that counts
start_guest() {
	rm -rf "/run/agents/$1" "/run/agents/$1.sock"
	mkdir -p "/run/agents/$1"
	# shellcheck disable=SC2016
	spawn "agent-$1" unshare --mount --propagation private sh -c '
		findmnt -rn -o TARGET -t ext4,xfs | while read -r mounted; do [ "$mounted" = "$1" ] || umount "$mounted"; done
		shift
		exec env PATH=/run:$PATH "$@"' sh "/mnt/inside/$1" qemu-ga -m unix-listen -p "/run/agents/$1.sock" -t "/run/agents/$1" \
		-f "/run/agents/$1/pid" -b "guest-fsfreeze-freeze${2:+,$2}"
	wait_for 20 test -S "/run/agents/$1.sock" || die "qemu-ga does not start"
	# shellcheck disable=SC2016
	spawn "load-$1" bash -c '
		for ((i = 1; ; i++)); do
			printf "%012d\n" $i | dd of="$1/first" conv=fsync,notrunc status=none
			printf "%012d\n" $i | dd of="$1/second" conv=fsync,notrunc status=none
		done' sh "/mnt/inside/$1"
	wait_for 20 test -s "/mnt/inside/$1/second" || die "nothing is written in $1"
}

make_disks() {
	local directory

	make_vg vg /dev/ubdb /dev/ubdc
	make_pool vg pool 120M
	make_thin vg pool raw 64M none
	make_lv vg files 400M xfs
	make_lv vg base 100M ext4
	make_lv vg top 100M ext4
	make_lv vg off 16M none
	for directory in files base top; do
		mount_lv vg "$directory"
	done
	truncate -s 48M /mnt/files/disk.img /mnt/base/base.img
	qemu-img create -q -f qcow2 -F raw -b ../base/base.img /mnt/top/disk.qcow2
	modprobe -d /run/modules nbd max_part=0
}

is_connected() {
	[ "$(blockdev --getsize64 "$1")" -gt 0 ]
}

# connect DEVICE FILE FORMAT [OPTION...]: as QEMU has it open, with its locks and its cache
connect() {
	spawn "${1#/dev/}" qemu-nbd --persistent --cache=writeback --discard=unmap --connect="$1" --format="$3" "${@:4}" "$2"
	wait_for 20 is_connected "$1" || die "qemu-nbd does not connect $1"
}

start_guests() {
	connect /dev/nbd0 /mnt/top/disk.qcow2 qcow2
	connect /dev/nbd1 /dev/vg/raw raw --offset=$offset
	make_guest raw /dev/nbd1
	make_guest file "$(losetup --find --show --offset $offset /mnt/files/disk.img)"
	make_guest chain /dev/nbd0
	start_guest raw
	start_guest file guest-exec
	start_guest chain
}

start_writer() {
	local guest

	mkdir -p /run/notes
	{
		printf '[QEMU]\nLibvirt=no\nAgentLimit=8s\nFreezeLimit=10s\n'
		for guest in $guests; do
			printf '[Guest %s]\nAgent=/run/agents/%s.sock\nFilesystems=/mnt/inside/%s\n' "$guest" "$guest" "$guest"
			case $guest in
			raw) echo RawDisks=/dev/vg/raw ;;
			file) echo RawDisks=/mnt/files/disk.img ;;
			chain) echo Disks=/mnt/top/disk.qcow2 ;;
			esac
		done
		printf '[Guest off]\nAgent=/run/agents/off.sock\nRawDisks=/dev/vg/off\n'
	} >/run/qemu.conf
	RUNTIME_DIRECTORY=/run/notes spawn writer "$BUILD/writers/qemu/vss-qemu-writer" --config /run/qemu.conf
	wait_for 20 writer_is_there || die "the writer does not register"
}

writer_is_there() {
	vssctl list writers --json | jq -e '.writers[] | select(.Name == "QEMU Guest Writer" and .Present)'
}

load() {
	local guest

	for guest in $guests; do
		kill -s "$1" "${pid_of[load-$guest]}"
	done
}

counts_on() {
	[ "$(cat "/mnt/inside/$1/second")" != "$2" ]
}

no_notes() {
	[ -z "$(ls /run/notes)" ]
}

# Every guest runs: what it counts goes on.
all_run() {
	local guest

	for guest in $guests; do
		wait_for 20 counts_on "$guest" "$(cat "/mnt/inside/$guest/second")" || die "$guest does not run"
	done
	wait_for 20 no_notes || die "notes stay: $(ls /run/notes)"
}

# ---- copies ----

# flat GUEST: /run/flat, its disk's filesystem out of the copies
flat() {
	case $1 in
	raw) dd if="$(device_of /dev/vg/raw)" of=/run/flat bs=1M skip=1 status=none ;;
	file) dd if=/mnt/copy/files/disk.img of=/run/flat bs=1M skip=1 status=none ;;
	chain) qemu-img convert -U -O raw /mnt/copy/top/disk.qcow2 /run/flat ;;
	esac
}

device_of() {
	result ".Shadows[] | select(.Volume == \"$1\") | .Device"
}

# expose_all: each copy, as the host's tree has it; of volumes with a guest's disk the device.
expose_all() {
	local shadow volume

	result '.Shadows[] | "\(.Shadow) \(.Volume)"' >/run/shadows
	while read -r shadow volume; do
		case $volume in
		/mnt/*)
			mkdir -p "/mnt/copy/${volume##*/}"
			vssctl expose --shadow "$shadow" "/mnt/copy/${volume##*/}" >/run/expose 2>&1 || die "$volume: $(cat /run/expose)"
			;;
		*) [ -b "$(device_of "$volume")" ] || lvchange -qq -ay -K "$(device_of "$volume")" ;;
		esac
	done </run/shadows
}

delete_all() {
	local directory

	for directory in /mnt/copy/*; do
		umount "$directory" 2>/dev/null || true
	done
	vssctl delete shadows --set "$(result .Set)" -y >/run/delete 2>&1 || die "$(cat /run/delete)"
}

needs_recovery() {
	dumpe2fs -h /run/flat 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery'
}

# What a program inside would see: the second file is never ahead, and no more than one round behind. It is mounted as it is.
is_good() {
	local first second

	! needs_recovery || die "the disk of $1 needs a replay"
	e2fsck -fn /run/flat >/run/fsck 2>&1 || die "the disk of $1 needs repair: $(cat /run/fsck)"
	mkdir -p /mnt/flat
	mount -o loop,ro,noload /run/flat /mnt/flat || die "the disk of $1 cannot be mounted"
	first=$(cat /mnt/flat/first) second=$(cat /mnt/flat/second)
	umount /mnt/flat
	note "  $1: $first $second"
	((10#$first == 10#$second || 10#$first == 10#$second + 1)) || die "what $1 counted does not agree: $first, $second"
}

good_set() {
	local guest

	[ "$code" -eq 0 ] || die "no set: $(cat /run/err)"
	load STOP # the machine is slow
	[ "$(result '.Consistency + .ConsistencyReason + " " + .Instant + .InstantReason')" = "application set" ] ||
		die "the label is $(result '"\(.Consistency) \(.ConsistencyReason) \(.Instant) \(.InstantReason)"')"
	expose_all
	for guest in $guests; do
		flat "$guest"
		is_good "$guest"
	done
	cmp "$(device_of /dev/vg/off)" /dev/vg/off || die "the guest that is off was not copied as it is"
	delete_all
	load CONT
	all_run
}

# ---- cases ----

resolved() {
	local volumes="/mnt/top" guest

	note "disks are resolved to the volumes of the host"
	works verify --for /dev/vg/raw --for /mnt/files --for /mnt/base --for /mnt/top --for /dev/vg/off
	for guest in $guests off; do
		says "\[ok\] $guest: disks: .* all on volumes of the set"
	done
	says "\[ok\] chain: disks: 2 files"
	says "\[ok\] off: agent: not needed"
	create_set
	[ "$code" -ne 0 ] || die "a chain without its base is copied"
	says "/mnt/base" /run/err
	all_run
}

control() {
	local guest dirty=0

	note "control: without the writer"
	create_set --exclude-writer "QEMU Guest Writer"
	[ "$code" -eq 0 ] || die "no set: $(cat /run/err)"
	load STOP
	expose_all
	for guest in $guests; do
		flat "$guest"
		! needs_recovery || dirty=$((dirty + 1))
	done
	[ "$dirty" -eq 3 ] || die "of three disks $dirty need a replay"
	delete_all
	load CONT
}

sets() {
	local i

	for ((i = 0; i < $(count 1 2 20); i++)); do
		note "set $i"
		create_set
		good_set
	done
}

# As one that has just been made by qemu-img, which leaves it to the kernel to write it out.
off() {
	note "a guest that is off: what was written into its volume a moment ago is in the copy"
	dd if=/dev/urandom of=/dev/vg/off bs=1M count=16 status=none
	create_set
	good_set
}

# storage_is VERDICT WORDS: of the guest on the thin volume
storage_is() {
	try verify --for /mnt/files --for /mnt/base --for /mnt/top --for /dev/vg/raw --for /dev/vg/off
	grep -q "\[$1\] raw: shadow storage: $2" /run/out
}

# The machine is its own guest here: its agents run vssctl, which tells of this machine's copies.
storage() {
	local verdict

	note "shadow storage of the guests, told by vssctl in them, and judged"
	ln -sf "$BUILD/requestor/vssctl" /run/vssctl
	wait_for 60 storage_is ok "none" || die "vssctl in it does not tell: $(cat /run/out)"
	says "\[unknown\] file: shadow storage: guest-exec is disabled"
	for verdict in "ubdb:ok" "ubdc:bad"; do
		works add shadowstorage --for /mnt/base --on "/dev/${verdict%:*}"
		wait_for 60 storage_is "${verdict#*:}" "\(each\|copies\)" || die "another verdict than $verdict: $(cat /run/out)"
		grep "raw: shadow storage" /run/out
		works delete shadowstorage --for /mnt/base -y
	done
}

failing() {
	note "one agent stands still: the guest is named, nothing stays held, the next set works"
	kill -s STOP "${pid_of[agent-chain]}"
	create_set
	[ "$code" -eq 75 ] || die "exit code $code: $(cat /run/err)"
	says "chain: the guest: its agent does not answer" /run/err
	kill -s CONT "${pid_of[agent-chain]}"
	all_run
	note "the host's side fails: it is said so, and the guests run"
	lvcreate -qq -y -Wn -Zn -n rest -l 100%FREE vg 2>/dev/null
	create_set
	[ "$code" -ne 0 ] || die "copies are made without room"
	! grep -q "the guest" /run/err || die "the guest's side is blamed: $(cat /run/err)"
	note "  $(head -n 1 /run/err)"
	all_run
	lvremove -qq -y vg/rest
	create_set
	good_set
}

for tool in qemu-ga qemu-nbd qemu-img; do
	command -v $tool >/dev/null || { note "skipped: needs $tool"; exit 77; }
done
make_disks
start_all
start_guests
start_writer
parts=("$@")
[ $# -gt 0 ] || parts=(resolved control off sets failing storage)
for part in "${parts[@]}"; do
	$part
done
for guest in $guests; do
	stop "load-$guest"
	stop "agent-$guest"
	wait_for 20 umount "/mnt/inside/$guest" || die "the filesystem of $guest cannot be unmounted" # dd may still be at work
done
losetup -D
wait_for 20 umount /mnt/files || die "/mnt/files stays in use"
mount_lv vg files
assert_healthy vg files
