#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vss-guard and vssctl's status and release on real filesystems, without vssd and without a bus.
# Usage: test-guard.sh BUILD_DIRECTORY
set -euo pipefail

build=$1
# shellcheck source=tests/system/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$(id -u)" -eq 0 ] || { echo "skipped: needs root"; exit 77; }
[ -e /dev/loop-control ] || { echo "skipped: needs loop devices"; exit 77; }

failures=0
check() {
	local what=$1

	shift
	if "$@" >"$lab/check" 2>&1; then
		lab_note "ok   $what"
	else
		lab_note "FAIL $what ($*)"
		sed 's/^/     /' "$lab/check"
		failures=$((failures + 1))
	fi
}

says() {
	local output

	output=$("${@:2}" 2>&1) || true
	[[ $output == *"$1"* ]] || {
		echo "'$1' is not in: $output"
		return 1
	}
}

exits() {
	local code=0

	"${@:2}" || code=$?
	[ "$code" -eq "$1" ] || {
		echo "exit code $code, not $1"
		return 1
	}
}

not() {
	! "$@"
}

make_filesystem() {
	local kind=$1 device

	truncate -s "$([ "$kind" = xfs ] && echo 320M || echo 128M)" "$lab/$kind.img"
	"mkfs.$kind" -q "$lab/$kind.img" >/dev/null
	device=$(losetup --find --show "$lab/$kind.img")
	lab_defer losetup --detach "$device"
	mkdir "$lab/$kind"
	lab_defer lab_unmount "$lab/$kind"
	mount -t "$kind" "$device" "$lab/$kind"
	places+=("$lab/$kind")
}

vssctl() {
	"$build/requestor/vssctl" "$@"
}

start_guard() {
	"$build/coordinator/guard/vss-guard" --run-directory "$VSS_GUARD_DIRECTORY" >>"$lab/guard.log" 2>&1 </dev/null 8>&- &
	disown
	check "a guard serves" lab_wait 10 guard_serves
}

guard_serves() {
	[ -n "$(releaser)" ] && [ "$(vssctl release --all --json | grep -c '"By": "guard"')" -eq 1 ]
}

releaser() {
	cat "$VSS_GUARD_DIRECTORY/lock" 2>/dev/null || true
}

executors() {
	pgrep --parent "$(releaser)" || true
}

# Nothing may be left frozen, whatever fails.
end_guard() {
	local pid

	for pid in $(executors) $(releaser); do
		kill -s CONT "$pid" 2>/dev/null || true
	done
	kill "$(releaser)" 2>/dev/null || true
	sleep 0.3
	"$build/coordinator/guard/vss-guard" --release --run-directory "$VSS_GUARD_DIRECTORY" || true
}

# hold SECONDS: everything, in the background.
hold() {
	rm -f "$lab/holder.log" "$lab/feed"
	mkfifo "$lab/feed"
	"$build/tests/system/guard-holder" "$VSS_GUARD_DIRECTORY/guard.sock" "$1" "${places[@]}" <"$lab/feed" >"$lab/holder.log" 2>&1 &
	holder=$!
	exec 8>"$lab/feed"
	check "everything is held" lab_wait 10 grep -q '"Held":true' "$lab/holder.log"
	check "and seen to be frozen" is_frozen
}

let_go() {
	exec 8>&-
	wait "$holder" || true
}

is_frozen() {
	local place

	for place in "${places[@]}"; do
		! fsfreeze --freeze "$place" 2>/dev/null || {
			fsfreeze --unfreeze "$place"
			echo "$place was not frozen"
			return 1
		}
	done
}

# Writes go through.
is_free() {
	local place

	for place in "${places[@]}"; do
		timeout 5 touch "$place/file" || return 1
	done
}

list_is_empty() {
	! compgen -G "$VSS_GUARD_DIRECTORY/held-*"
}

lab_begin
unset INVOCATION_ID
export VSS_GUARD_DIRECTORY=$lab/guard VSS_GUARD_PROGRAM=$build/coordinator/guard/vss-guard
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$lab/no-bus
places=()
for kind in ext4 xfs btrfs; do
	make_filesystem "$kind"
done
lab_defer end_guard

lab_note "--- no guard"
check "nothing is held" says "Nothing was held" vssctl release --all
check "status says no more than that vssd cannot be reached" exits 5 vssctl status
check "release wants --all" exits 2 vssctl release

lab_note "--- a guard, and no bus"
start_guard
hold 30
check "status names what is held" says "Held: $lab/xfs, for guard-holder, since 2" vssctl status
check "for programs too" says '"Object": "'"$lab/btrfs" vssctl status --json
check "with what went wrong beside it" says '"name": "NotAvailable"' vssctl status --json
check "nobody but root is told" says "Only root may" setpriv --reuid 65534 --regid 65534 --clear-groups "$build/requestor/vssctl" release --all
check "release --all says what it released" says "Released $lab/ext4" vssctl release --all
check "and it was" is_free
let_go
check "whoever held it hears why" says "administrator's order" cat "$lab/holder.log"
check "the list is empty" list_is_empty
check "a second time nothing is held" says "Nothing was held" vssctl release --all

lab_note "--- everything ends as it should"
hold 30
let_go
check "released" is_free
check "without a complaint" not grep -q '"ok":false' "$lab/holder.log"

# Stopped first: whichever died a moment before the other would still be seen, and everything released.
kill_both() {
	local halves

	halves="$(releaser) $(executors)"
	# shellcheck disable=SC2086 # words
	kill -s STOP $halves
	# shellcheck disable=SC2086
	kill -s KILL $halves
}

lab_note "--- both halves killed"
hold 30
kill_both
check "everything stays frozen" is_frozen
check "status knows it" says "Held: $lab/ext4" vssctl status
check "release goes by the list" says "released what is on its list" vssctl release --all
check "and releases" is_free
check "the list is empty" list_is_empty
let_go

lab_note "--- both halves killed, and a guard started anew"
start_guard
hold 30
kill_both
"$VSS_GUARD_PROGRAM" --run-directory "$VSS_GUARD_DIRECTORY" >>"$lab/guard.log" 2>&1 </dev/null 8>&- &
disown
check "it releases what it finds" lab_wait 5 list_is_empty
check "all of it" is_free
let_go

# Nor does the one that dies last begin a thaw which it could not end.
lab_note "--- one half killed right after the other"
for ((i = $([ "${VSSD_TEST_LEVEL:-default}" = long ] && echo 40 || echo 3); i > 0; i--)); do
	hold 30
	# shellcheck disable=SC2046 # words
	kill -s KILL $(releaser) $(executors)
	start_guard
	check "what they held is free, and can be written to" is_free
	let_go
done

lab_note "--- both halves hang"
hold 30
hanging="$(releaser) $(executors)"
# shellcheck disable=SC2086 # words
kill -s STOP $hanging
check "status knows it" says "Held: $lab/xfs" vssctl status
check "release does not wait for them" says "Released $lab/xfs" vssctl release --all
check "and releases" is_free
kill -s CONT "$(releaser)"
let_go
check "the half that was left goes on" lab_wait 10 guard_serves
check "what it thinks that it held is free" is_free

lab_note "--- the deadline"
hold 4
check "is kept" lab_wait 12 list_is_empty
check "everything is free" is_free
let_go
check "and named" says "HoldWritesTimeout" cat "$lab/holder.log"

lab_note "--- SIGTERM"
hold 30
kill "$(releaser)"
check "releases everything" lab_wait 3 list_is_empty
check "everything is free" is_free
let_go

# btrfs makes itself read-only when whoever thaws it is killed. A guard that stops where the test wants it has the thaw begun.
begin_thaw() {
	rm -f "$GUARD_STEP_DIRECTORY"/*
	hold 30
	half=$(executors)
	echo "thaw 1 before" >"$GUARD_STEP_DIRECTORY/step"
	exec 8>&-
	check "its thaw is begun" lab_wait 5 test -e "$GUARD_STEP_DIRECTORY/reached"
}

lab_note "--- the executor within the thaw of a btrfs"
places=("$lab/btrfs")
export GUARD_STEP_DIRECTORY=$lab/step
mkdir "$GUARD_STEP_DIRECTORY"
check "the guard has ended" lab_wait 5 not guard_serves
"$build/tests/system/guard-stepper" --run-directory "$VSS_GUARD_DIRECTORY" >>"$lab/guard.log" 2>&1 </dev/null &
disown
check "a guard serves" lab_wait 10 guard_serves
begin_thaw
check "an order releases it" says "Released $lab/btrfs" vssctl release --all
check "and does not kill the executor there" kill -s 0 "$half"
check "it is free" is_free
touch "$GUARD_STEP_DIRECTORY/go-on"
check "afterwards it does" lab_wait 3 not kill -s 0 "$half"
wait "$holder" || true
check "the list is empty" lab_wait 3 list_is_empty
begin_thaw
kill -s STOP "$half"
check "one that is stopped" says "Released $lab/btrfs" vssctl release --all
check "is killed at once" lab_wait 3 not kill -s 0 "$half"
wait "$holder" || true
check "it is free" is_free
[ "$failures" -eq 0 ] || lab_die "$failures failures"
