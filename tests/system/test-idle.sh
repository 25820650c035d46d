#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vssd with nothing to do: ends by itself, serves whoever calls in that moment, and until then wakes up for nothing and
# takes little.
# Usage: test-idle.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

ended() {
	! kill -0 "${lab_pid[vssd]}" 2>/dev/null || [[ "$(awk '{ print $3 }' "/proc/${lab_pid[vssd]}/stat")" = Z ]]
}

ends_by_itself() {
	local pid

	begin "with nothing to do it ends by itself"
	scene_configure IdleTimeoutSec=1
	scene_vssd
	check "it ends" lab_wait 5 ended
	code=0
	wait "${lab_pid[vssd]}" || code=$?
	unset 'lab_pid[vssd]'
	check "without an error" equal "$code" 0
	check "and says so" contains "$lab/vssd.log" "nothing to do"

	begin "it stays while a writer is registered, or a session is open"
	scene_vssd
	scene_writer Good --path "$volume"
	sleep 3
	check "with a writer" refuse ended
	scene_end_writer Good
	scene_steps one
	scene_step one 'new {}'
	check "a session is open" scene_ok
	sleep 3
	check "with a session" refuse ended
	scene_step one free
	scene_steps_end one
	check "and ends then" lab_wait 5 ended
	lab_stop vssd
}

# A bus that starts vssd when it is called; each with directories of its own.
start_activating_bus() {
	local dir=$lab/bus$1

	mkdir -p "$dir/services" "$dir/run" "$dir/manifests"
	printf '[Coordinator]\nMachineId=%s\nIdleTimeoutSec=1\n' "$(tr -d - </proc/sys/kernel/random/uuid)" >"$dir/vssd.conf"
	cat >"$dir/vssd" <<-PROGRAM
		#!/bin/sh
		export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$dir/bus"
		exec "$build/coordinator/vssd" --runtime-dir "$dir/run" --manifests "$dir/manifests" --config "$dir/vssd.conf" \\
			--worker "$build/coordinator/providers/vss-worker" 2>>"$dir/vssd.log"
	PROGRAM
	chmod +x "$dir/vssd"
	printf '[D-BUS Service]\nName=org.vssd\nExec=%s\n' "$dir/vssd" >"$dir/services/org.vssd.service"
	sed -e "s|unix:path=$lab/bus|unix:path=$dir/bus|" -e '/<type>/d' \
		-e "s|<auth>|<servicedir>$dir/services</servicedir>\n&|" "$lab/bus.conf" >"$dir/bus.conf"
	lab_spawn "bus$1" dbus-daemon --config-file="$dir/bus.conf" --nofork --nopidfile
	lab_wait 10 test -S "$dir/bus" || lab_die "dbus-daemon does not start: $(cat "$lab/bus$1.log")"
}

served_in_that_moment() {
	local i buses tries

	buses=16 tries=$(scene_level 3 13 60)
	begin "$((buses * tries)) calls in the moment in which it ends: each is served"
	for ((i = 0; i < buses; i++)); do
		start_activating_bus "$i"
	done
	for ((i = 0; i < buses; i++)); do
		DBUS_SYSTEM_BUS_ADDRESS=unix:path=$lab/bus$i/bus lab_spawn "caller$i" "$build/tests/system/idle-caller" "$tries"
	done
	for ((i = 0; i < buses; i++)); do
		code=0
		wait "${lab_pid[caller$i]}" || code=$?
		unset "lab_pid[caller$i]"
		cp "$lab/caller$i.log" "$lab/err"
		check "bus $i" equal "$code" 0
	done
	seen "$(cat "$lab"/caller*.log | awk '{ a += $1; s += $5 } END { print a " calls found it, " s " started it" }')"
	sleep 2.5 # the last ones end by themselves
	for ((i = 0; i < buses; i++)); do
		lab_stop "bus$i"
	done
}

takes_little() {
	local i pid before after rss

	begin "idle, it takes little and sleeps"
	scene_configure IdleTimeoutSec=180
	mkdir -p "$lab/run"
	# In a mount namespace of its own: others mount and unmount on this machine, which is news to it.
	lab_spawn vssd unshare --mount --propagation private "$build/coordinator/vssd" --runtime-dir "$lab/run" \
		--manifests "$lab/manifests" --config "$lab/vssd.conf" --worker "$build/coordinator/providers/vss-worker"
	lab_wait 10 vssctl status || lab_die "vssd does not start: $(cat "$lab/vssd.log")"
	pid=${lab_pid[vssd]}
	check "it is vssd" equal "$(cat "/proc/$pid/comm")" vssd
	for ((i = 0; i < 5; i++)); do
		try create shadow --for "$volume"
		check "a set" equal "$code" 0
		try list shadows --for "$volume"
	done
	scene_clear
	sleep 3
	# Whoever removes a directory that is a mount point here too still reaches in: one quiet time of three is enough.
	for ((i = 0; i < 3; i++)); do
		before=$(switches "$pid")
		sleep 10
		after=$(switches "$pid")
		[ "$after" != "$before" ] || break
	done
	check "no wake-up in ten seconds" equal "$after" "$before"
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	grep -q libasan "/proc/$pid/maps" || check "resident at most 8 MiB" at_most "$rss" 8192
	seen "$rss KiB resident, $((after - before)) wake-ups in ten seconds"
}

switches() {
	awk '/^voluntary_ctxt/ { n += $2 } END { print n }' /proc/"$1"/task/*/status
}

scene_start "$1"
ends_by_itself
served_in_that_moment
takes_little
scene_done
