# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For scripts that run vssd on a bus and on volumes of their own: source it, call lab_begin. Everything that is made
# through it lies in one temporary directory, $lab, and is undone when the script ends, in whatever way but SIGKILL.

lab=""
declare -A lab_pid=()  # name -> pid of what lab_spawn started
declare -a lab_undo=() # commands, undone last first

lab_note() {
	printf '%s\n' "$*"
}

lab_die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# lab_defer COMMAND...: run it at the end.
lab_defer() {
	local words

	printf -v words '%q ' "$@"
	lab_undo+=("$words")
}

lab_end() {
	local code=$? i

	trap '' INT TERM HUP
	trap - EXIT
	set +e
	lab_stop_all
	for ((i = ${#lab_undo[@]} - 1; i >= 0; i--)); do
		eval "${lab_undo[i]}"
	done
	exit "$code"
}

# lab_begin: makes $lab. Needs root, as loop devices and mounts do.
lab_begin() {
	[ "$(id -u)" -eq 0 ] || lab_die "needs root, for loop devices and mounts"
	trap lab_end EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	lab=$(mktemp -d "${TMPDIR:-/tmp}/vss-lab.XXXXXX")
	lab_defer rm -rf --one-file-system "$lab"
}

# lab_run COMMAND...: like COMMAND, but a signal to the script ends it at once instead of waiting for it.
lab_run() {
	local code=0

	"$@" &
	lab_pid[run]=$!
	wait "${lab_pid[run]}" || code=$?
	unset 'lab_pid[run]'
	return "$code"
}

# lab_spawn NAME COMMAND...: in the background, its output in $lab/NAME.log.
lab_spawn() {
	local name=$1

	shift
	"$@" >"$lab/$name.log" 2>&1 </dev/null &
	lab_pid[$name]=$!
}

# lab_alone MOUNT_POINT COMMAND...: for lab_spawn alone: in a mount namespace in which of all filesystems on loop devices this one is
# mounted. A guest agent thaws whatever it sees, other tests' filesystems as well.
lab_alone() {
	# shellcheck disable=SC2016
	exec unshare --mount --propagation private sh -c '
		findmnt --raw --noheadings --output TARGET,SOURCE | while read -r mounted source; do
			case $source in
			/dev/loop*) [ "$mounted" = "$1" ] || umount --lazy "$mounted" ;;
			esac
		done
		shift
		exec "$@"' sh "$@"
}

lab_alive() {
	kill -0 "${lab_pid[$1]}" 2>/dev/null
}

# lab_stop NAME [SIGNAL]: and waits; after 10 s it is killed.
lab_stop() {
	local pid=${lab_pid[$1]:-} i

	[ -n "$pid" ] || return 0
	kill -s "${2:-TERM}" "$pid" 2>/dev/null || true
	for ((i = 0; i < 200; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	kill -s KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	unset "lab_pid[$1]"
}

lab_stop_all() {
	local name

	# vssd before its writers, so that nobody is asked anything any more; the bus last.
	for name in run vssd "${!lab_pid[@]}"; do
		[ "$name" = bus ] || lab_stop "$name"
	done
	lab_stop bus
}

# lab_wait SECONDS COMMAND...: until COMMAND succeeds.
lab_wait() {
	local i seconds=$1

	shift
	for ((i = 0; i < seconds * 20; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	return 1
}

# A bus of our own, at $DBUS_SYSTEM_BUS_ADDRESS.
lab_start_bus() {
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
		    <allow receive_sender="*"/>
		  </policy>
		</busconfig>
	CONFIG
	export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$lab/bus"
	lab_spawn bus dbus-daemon --config-file="$lab/bus.conf" --nofork --nopidfile
	lab_wait 10 test -S "$lab/bus" || lab_die "dbus-daemon does not start: $(cat "$lab/bus.log")"
}

lab_unmount() {
	mountpoint -q "$1" || return 0
	umount "$1" 2>/dev/null || {
		sleep 1 # whoever has just been killed may still be letting go
		umount "$1" || umount --lazy "$1"
	}
}

# lab_make_btrfs NAME SIZE: a btrfs on a loop device, mounted at $lab/NAME.
lab_make_btrfs() {
	local name=$1 device

	truncate -s "$2" "$lab/$name.img"
	mkfs.btrfs --quiet --label "lab-$name" "$lab/$name.img" >/dev/null # its advice on defaults
	device=$(losetup --find --show "$lab/$name.img")
	lab_defer losetup --detach "$device"
	mkdir "$lab/$name"
	lab_defer lab_unmount "$lab/$name"
	mount -t btrfs "$device" "$lab/$name"
}

# A machine of its own, so that the copies of this vssd and of others on the same machine are foreign to each other: each
# removes left-over copies of its own when it starts, wherever they are mounted.
lab_configure_vssd() {
	[ ! -e "$lab/vssd.conf" ] || return 0
	printf '[Coordinator]\nMachineId=%s\n' "$(tr -d - </proc/sys/kernel/random/uuid)" >"$lab/vssd.conf"
}

# lab_start_vssd BUILD_DIRECTORY [ARGUMENT...]: and waits until it can be called.
lab_start_vssd() {
	local build=$1

	shift
	mkdir -p "$lab/run" "$lab/manifests"
	lab_configure_vssd
	lab_spawn vssd "$build/coordinator/vssd" --runtime-dir "$lab/run" --manifests "$lab/manifests" \
		--config "$lab/vssd.conf" --worker "$build/coordinator/providers/vss-worker" "$@"
	lab_wait 10 "$build/requestor/vssctl" status || lab_die "vssd does not start: $(cat "$lab/vssd.log")"
}
