#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Measures vssd against named baselines, on a bus and a loop btrfs of its own; for docs/measurements.md.
#   tests/bench/run.sh [--build DIR] [--rounds N] [--check] [create|durability|fanout|list|idle|applications|freeze]...
# DIR is a build directory with -Dbench=true (and --buildtype=release, for figures). With --check a missed target ends it
# with 1; without, only what does not work does. Needs root; snapper for two of the baselines.
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/system/lib.sh
. "$source/tests/system/lib.sh"

# Others' mounts shall not wake this vssd, nor these mounts theirs; /etc/snapper is covered in here alone.
if [ "${VSSD_BENCH_PRIVATE:-}" != yes ]; then
	VSSD_BENCH_PRIVATE=yes exec unshare --mount --propagation private "$0" "$@"
fi

build=$source/build
rounds=30
check=no
missed=0
names=()

usage() {
	sed -n '4,7s/^# *//p' "$0" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--build) build=${2:?} && shift ;;
	--rounds) rounds=${2:?} && shift ;;
	--check) check=yes ;;
	create | durability | fanout | list | idle | applications | freeze) names+=("$1") ;;
	*) usage ;;
	esac
	shift
done
[ ${#names[@]} -gt 0 ] || names=(create durability fanout list idle)

vssctl() {
	"$build/requestor/vssctl" "$@"
}

# judge COMMAND...: one that prints a verdict and ends with 0 (met) or 1 (missed).
judge() {
	local code=0

	"$@" || code=$?
	[ "$code" -le 1 ] || lab_die "$1 did not work"
	missed=$((missed + code))
}

# judge_numbers TITLE VALUE LIMIT UNIT
judge_numbers() {
	local verdict=met

	[ "$2" -le "$3" ] || { verdict=MISSED && missed=$((missed + 1)); }
	printf '  %-62s %10d %s, target %d: %s\n' "$1" "$2" "$4" "$3" "$verdict"
}

# ---- the lab ----

# The new mount namespace began with whatever others had mounted for their tests: in here it would only keep their loop
# devices busy, and wake vssd when it goes.
forget_others() {
	local target

	findmnt --raw --noheadings --output TARGET,SOURCE | awk '$2 ~ "^/dev/loop" || $1 ~ "/vss-lab" { print $1 }' | tac |
		while read -r target; do
			umount --lazy "$target" || true
		done
}

start_bus() {
	cat >"$lab/bus.conf" <<-CONFIG
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		  <type>system</type>
		  <listen>unix:path=$lab/bus</listen>
		  <auth>EXTERNAL</auth>
		  <policy context="default">
		    <allow user="*"/>
		    <allow own="*"/>
		    <allow send_destination="*"/>
		    <allow send_type="method_call"/>
		    <allow receive_sender="*"/>
		  </policy>
		  <limit name="max_completed_connections">20000</limit>
		  <limit name="max_incomplete_connections">4000</limit>
		  <limit name="max_connections_per_user">20000</limit>
		  <limit name="max_replies_per_connection">50000</limit>
		  <limit name="max_match_rules_per_connection">50000</limit>
		  <limit name="max_names_per_connection">50000</limit>
		  <limit name="auth_timeout">60000</limit>
		</busconfig>
	CONFIG
	export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$lab/bus"
	lab_spawn bus dbus-daemon --config-file="$lab/bus.conf" --nofork --nopidfile
	lab_wait 10 test -S "$lab/bus" || lab_die "dbus-daemon does not start: $(cat "$lab/bus.log")"
}

start_vssd() {
	# As /run is: what vssd keeps there must not wait for a disk.
	mkdir "$lab/run"
	mount -t tmpfs tmpfs "$lab/run"
	lab_defer lab_unmount "$lab/run"
	printf '[Coordinator]\nMachineId=%s\nIdleTimeoutSec=0\n[Copies]\nMaxCopiesPerVolume=2000\n' \
		"$(tr -d - </proc/sys/kernel/random/uuid)" >"$lab/vssd.conf"
	lab_start_vssd "$build"
}

# Only where it is measured: its subvolumes lie in the volume, and vssd names them to whoever makes a copy.
configure_snapper() {
	mkdir -p "$lab/snapper/configs"
	touch "$lab/snapper.default"
	mount --bind "$lab/snapper" /etc/snapper
	lab_defer lab_unmount /etc/snapper
	mount --bind "$lab/snapper.default" /etc/default/snapper
	lab_defer umount /etc/default/snapper
	snapper --no-dbus create-config "$volume"
}

# It ends by itself when nobody has asked for a minute.
start_snapper() {
	command -v snapper >/dev/null && command -v snapperd >/dev/null || return 1
	[ -d "$lab/snapper" ] || configure_snapper
	[ -n "${lab_pid[snapperd]:-}" ] && lab_alive snapperd && return 0
	lab_spawn snapperd snapperd --stdout
	lab_wait 10 snapper list || lab_die "snapperd does not start: $(cat "$lab/snapperd.log")"
}

# ---- the benchmarks ----

bench_create() {
	judge "$build/tests/bench/compare" --rounds "$rounds" --target 2.0 --settle "$lab/btrfs" \
		"create, an idle volume, whole processes" \
		:: "vssctl create shadow" "$build/requestor/vssctl" create shadow --for "$volume" \
		:: "btrfs subvolume snapshot -r ++ side file with fsyncs" \
		btrfs -q subvolume snapshot -r "$volume" "$plain/cli-@" ++ "$build/tests/bench/plain-snapshot" "$plain/cli-@.json"
	judge "$build/tests/bench/compare" --rounds "$rounds" --target 0 --settle "$lab/btrfs" \
		"create, against the bare system calls" \
		:: "vssctl create shadow" "$build/requestor/vssctl" create shadow --for "$volume" \
		:: "one C program: snapshot ioctl, side file, fsyncs" \
		"$build/tests/bench/plain-snapshot" "$volume" "$plain/ioctl-@" "$plain/ioctl-@.json"
	start_snapper || { lab_note "  (snapper is not here: its baseline is left out)" && return; }
	judge "$build/tests/bench/compare" --rounds "$rounds" --target 1.0 --settle "$lab/btrfs" \
		"create, an idle volume, daemons warm" \
		:: "vssctl create shadow" "$build/requestor/vssctl" create shadow --for "$volume" \
		:: "snapper create" snapper create
}

first_responder=""

start_responders() {
	first_responder=""
	rm -f "$lab/responders.log" # of those before
	lab_spawn responders "$build/tests/bench/responders" "$1"
	lab_wait 60 grep -q '^[0-9]' "$lab/responders.log" || lab_die "the writers do not start: $(cat "$lab/responders.log")"
	first_responder=$(cat "$lab/responders.log")
}

no_writers() {
	[ "$(vssctl list writers --json | grep -c '"InstanceId"')" -eq 0 ]
}

stop_responders() {
	lab_stop responders KILL
	lab_wait 30 no_writers || lab_die "vssd still knows the writers that went"
}

bench_fanout() {
	local n

	for n in 1 10 100 1000; do
		start_responders "$n"
		judge "$build/tests/bench/fanout" "$rounds" "$volume"
		[ "$n" -lt 1000 ] || judge "$build/tests/bench/fanout" "$rounds" "$volume" "$first_responder"
		stop_responders
	done
}

bench_list() {
	local i kill

	kill=$(type -P kill)
	start_responders 1000
	judge "$build/tests/bench/compare" --rounds "$rounds" --target 1.5 "list writers, 1000 of them" \
		:: "one hangs" "$kill" -STOP "$first_responder" +- "$build/requestor/vssctl" list writers \
		:: "none hangs" "$kill" -CONT "$first_responder" +- "$build/requestor/vssctl" list writers
	stop_responders
	start_snapper || { lab_note "  (snapper is not here: list shadows is left out)" && return; }
	for ((i = $(vssctl list shadows --for "$volume" --json | grep -c '"Shadow":'); i < 500; i++)); do
		vssctl create shadow --for "$volume" >/dev/null 2>&1
	done
	for ((i = $(snapper list --columns number | grep -c '[1-9]'); i < 500; i++)); do
		snapper create
	done
	judge "$build/tests/bench/compare" --rounds "$rounds" --target 1.0 "list, 500 copies" \
		:: "vssctl list shadows" "$build/requestor/vssctl" list shadows \
		:: "snapper list" snapper list
}

# Power cut: all that the device has been given is there, nothing else. What is written without a sync shows that it is one.
bench_durability() {
	local i id kept=0 lost=0 tries=5

	printf '\ndurability, a power cut right after the command has returned\n'
	for ((i = 0; i < tries; i++)); do
		lab_make_btrfs "power$i" 512M >/dev/null 2>&1
		btrfs -q subvolume create "$lab/power$i/volume"
		echo before >"$lab/power$i/volume/file"
		sync --file-system "$lab/power$i"
		id=$(vssctl create shadow --for "$lab/power$i/volume" | sed -n 's/.*Shadow Copy ID: {\(.*\)}/\1/p')
		cp --sparse=always "$lab/power$i.img" "$lab/cut.img"
		echo after >"$lab/power$i/volume/unsynced"
		cp --sparse=always "$lab/power$i.img" "$lab/cut-later.img"
		umount "$lab/power$i" # the same filesystem twice would be one to the kernel
		btrfs -q device scan --forget
		survived "$lab/cut.img" ".vss/$id/record.json" ".vss/$id/copy/file" && kept=$((kept + 1))
		survived "$lab/cut-later.img" volume/unsynced || lost=$((lost + 1))
	done
	printf '  %-62s %10d of %d\n' "copies that were there afterwards, and whole" "$kept" "$tries"
	printf '  %-62s %10d of %d\n' "files lost that nobody had synced (the control)" "$lost" "$tries"
	[ "$kept" -eq "$tries" ] && [ "$lost" -eq "$tries" ] || missed=$((missed + 1))
}

# survived IMAGE FILE...: mounts it as after a restart.
survived() {
	local image=$1 device file code=0

	shift
	device=$(losetup --find --show "$image")
	mkdir -p "$lab/after"
	mount -t btrfs "$device" "$lab/after"
	for file in "$@"; do
		[ -s "$lab/after/$file" ] || code=1
	done
	umount "$lab/after"
	losetup --detach "$device"
	btrfs -q device scan --forget
	return "$code"
}

# Each sleep is one; to be preempted is not.
switches() {
	awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }' "/proc/${lab_pid[vssd]}"/task/*/status
}

bench_idle() {
	local i before after pid=${lab_pid[vssd]}

	for ((i = 0; i < rounds; i++)); do
		vssctl create shadow --for "$volume" >/dev/null 2>&1
		vssctl list shadows >/dev/null
	done
	start_responders 100
	vssctl list writers --probe >/dev/null 2>&1
	stop_responders
	sleep 3
	before=$(switches)
	sleep 15
	after=$(switches)
	printf '\nidle, after %d copies, their lists and 100 writers\n' "$rounds"
	judge_numbers "VmRSS" "$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")" 8192 KiB
	printf '  %-62s %10d KiB\n' "Pss" "$(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup")"
	judge_numbers "wake-ups in 15 s, no watchdog asked for" $((after - before)) 0 times
}

# Servers at work on a btrfs, a bus and a vssd of their own.
bench_applications() {
	judge "$source/tests/bench/applications-btrfs.sh" "$build" "$rounds" 2 postgresql mariadb redis
}

# Mounts of its own, frozen by vssctl freeze and by qemu-ga in turn.
bench_freeze() {
	command -v qemu-ga >/dev/null || { lab_note "  (qemu-ga is not here: freeze is left out)" && return; }
	judge "$source/tests/bench/freeze.sh" "$build" "$rounds" ext4
}

main() {
	local name

	[ -x "$build/tests/bench/compare" ] || lab_die "$build lacks the programs: meson configure -Dbench=true, and build"
	forget_others
	lab_begin
	ulimit -n "$(ulimit -Hn)"
	lab_make_btrfs btrfs 4G >/dev/null 2>&1
	volume=$lab/btrfs/volume plain=$lab/btrfs/plain
	btrfs -q subvolume create "$volume"
	mkdir "$plain"
	dd if=/dev/urandom of="$volume/data" bs=1M count=50 status=none
	sync --file-system "$lab/btrfs"
	start_bus
	start_vssd
	for name in "${names[@]}"; do
		"bench_$name"
	done
	[ "$missed" -eq 0 ] || printf '\n%d of the targets were missed\n' "$missed"
	[ "$check" = no ] || [ "$missed" -eq 0 ]
}

volume="" plain=""
main
