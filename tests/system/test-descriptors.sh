#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What vssd, its workers and a writer hold open, and how much memory vssd takes, does not grow with what they do: sets that
# succeed, sets that fail in every phase, requestors that die, lists, copies that are exposed.
# Usage: test-descriptors.sh BUILD_DIRECTORY
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

rounds=$(scene_level 3 10 50)

descriptors() {
	find "/proc/$1/fd" -mindepth 1 | wc -l
}

# The idle workers of vssd, by role, each with its descriptors.
worker_descriptors() {
	local pid

	for pid in $(pgrep -P "${lab_pid[vssd]}"); do
		printf '%s=%s\n' "$(tr '\0' ' ' <"/proc/$pid/cmdline" | awk '{ print $NF }')" "$(descriptors "$pid")"
	done | sort | tr '\n' ' '
}

mounts() {
	wc -l <"/proc/${lab_pid[vssd]}/mountinfo"
}

memory() {
	awk '/^VmRSS/ { print $2 }' "/proc/${lab_pid[vssd]}/status"
}

everything() {
	local shadow pid

	try backup --for "$volume" -- true
	[ "$code" -eq 0 ] || lab_die "a backup failed: $(cat "$lab/err")"
	try create shadow --for "$volume" --json
	shadow=$(jq -r '.. | objects | .Shadow? // empty' "$lab/out" | head -n 1)
	mkdir -p "$lab/exposed"
	try expose --shadow "$shadow" "$lab/exposed"
	try list shadows
	try unexpose --shadow "$shadow"
	try delete shadows --for "$volume" --all -y
	try list volumes
	try list writers --probe
	try verify --for "$volume"
	try create shadow --for "$volume" --require-writer Nobody
	try create shadow --for /proc
	try backup --for "$volume" -- false
	# Its writer fails, and its requestor is killed.
	try create shadow --for "$volume" --include-writer Bad
	"$build/requestor/vssctl" backup --for "$volume" -- sleep 60 >/dev/null 2>&1 </dev/null &
	pid=$!
	sleep 0.3
	kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null || true
	lab_wait 10 is_quiet || lab_die "vssd does not come to rest: $(vssctl list sessions; vssctl list shadows --for "$volume")"
}

is_quiet() {
	[ "$(vssctl list sessions --json | jq '.sessions | length')" -eq 0 ] &&
		[ "$(vssctl list shadows --for "$volume" --json | jq '.shadows | length')" -eq 0 ]
}

measure() {
	sleep 0.5
	echo "vssd=$(descriptors "${lab_pid[vssd]}") writer=$(descriptors "${lab_pid[Good]}") mounts=$(mounts) $(worker_descriptors)"
}

scene_start "$1"
scene_vssd
scene_writer Good --path "$volume"
scene_writer Bad --path /nonexistent --on Freeze=fail:non-retryable

begin "as much is open after $rounds rounds more as after the first two"
everything
everything
before=$(measure)
memory_before=$(memory)
for ((i = 0; i < rounds; i++)); do
	everything
done
after=$(measure)
lab_note "    $after"
check "nothing more is open" equal "$after" "$before"
lab_note "    memory: $memory_before KiB, then $(memory) KiB"
# Under a sanitizer freed memory is kept; otherwise what malloc keeps for later comes and goes.
if ! grep -q libasan "/proc/${lab_pid[vssd]}/maps"; then
	check "memory does not grow" at_most "$(memory)" $((memory_before + 2048 + 32 * rounds))
fi
scene_done
