#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vssctl freeze on real filesystems: what COMMAND sees, and every way in which it ends.
# Usage: test-freeze.sh BUILD_DIRECTORY
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

make_filesystem() {
	local kind=$1 device

	truncate -s "$([ "$kind" = xfs ] && echo 320M || echo 128M)" "$lab/$kind.img"
	"mkfs.$kind" -q "$lab/$kind.img" >/dev/null
	device=$(losetup --find --show "$lab/$kind.img")
	lab_defer losetup --detach "$device"
	mkdir "$lab/$kind"
	lab_defer lab_unmount "$lab/$kind"
	mount -t "$kind" "$device" "$lab/$kind"
	places+=("--for" "$lab/$kind")
}

vssctl() {
	timeout 60 "$build/requestor/vssctl" "$@"
}

is_free() {
	local kind

	for kind in ext4 xfs btrfs; do
		timeout 10 touch "$lab/$kind/file" || return 1
	done
}

it_runs() {
	pgrep --full "^/bin/bash $lab/sleeps" && "$lab/is-frozen"
}

it_has_ended() {
	! pgrep --full "^/bin/bash $lab/sleeps"
}

end_guard() {
	"$build/requestor/vssctl" release --all >/dev/null 2>&1 || true
	kill "$(cat "$VSS_GUARD_DIRECTORY/lock")" 2>/dev/null || true
}

lab_begin
unset INVOCATION_ID
export VSS_GUARD_DIRECTORY=$lab/guard VSS_GUARD_PROGRAM=$build/coordinator/guard/vss-guard
places=()
for kind in ext4 xfs btrfs; do
	make_filesystem "$kind"
done
cat >"$lab/is-frozen" <<-SCRIPT
	#!/bin/bash
	for kind in ext4 xfs btrfs; do
		fsfreeze --freeze $lab/\$kind 2>/dev/null && { fsfreeze --unfreeze $lab/\$kind; exit 9; }
	done
	exit 0
SCRIPT
printf '#!/bin/bash\nsleep 30\n' >"$lab/sleeps"
chmod +x "$lab/is-frozen" "$lab/sleeps"
cp /bin/true "$lab/ext4/true"
printf '#!%s\n' "$lab/ext4/true" >"$lab/script"
chmod +x "$lab/script"
lab_start_bus
lab_start_vssd "$build" --guard "$VSS_GUARD_DIRECTORY/guard.sock"

lab_note "--- no guard"
check "is refused" says "vss-guard is not running: start vss-guard.service" vssctl freeze "${places[@]}" -- "$lab/is-frozen"
check "and frees everything" is_free

lab_note "--- a guard"
"$VSS_GUARD_PROGRAM" --run-directory "$VSS_GUARD_DIRECTORY" >"$lab/guard.log" 2>&1 </dev/null &
disown
lab_defer end_guard
lab_wait 10 test -S "$VSS_GUARD_DIRECTORY/guard.sock" || lab_die "the guard does not start"
check "COMMAND finds everything frozen" exits 0 vssctl freeze "${places[@]}" -- "$lab/is-frozen"
check "and afterwards it is not" is_free
check "its exit code is passed on" exits 7 vssctl freeze "${places[@]}" -- sh -c "exit 7"
check "and its output" says "a word" vssctl freeze "${places[@]}" -- echo "a word"
check "one that is not there is 127" exits 127 vssctl freeze "${places[@]}" -- /nonexistent/command
check "btrfs is warned of" says "is btrfs: a snapshot that btrfs itself makes of it waits" vssctl freeze "${places[@]}" -- true
check "for programs" says '"exitCode": 3' vssctl freeze --json "${places[@]}" -- sh -c "exit 3"
check "says how long it took" says "frozen within" vssctl freeze -v "${places[@]}" -- true
check "everything is free" is_free

lab_note "--- COMMAND would wait for its own end"
check "as it lies there" says "lies on $lab/ext4, which is to be frozen" vssctl freeze "${places[@]}" -- "$lab/ext4/true"
check "as its interpreter does" says "its interpreter $lab/ext4/true lies on" vssctl freeze "${places[@]}" -- "$lab/script"
check "as the working directory does" says "the working directory lies on" sh -c "cd $lab/btrfs && exec $build/requestor/vssctl freeze --for $lab/btrfs -- true"
check "as its output does" exits 1 sh -c "exec $build/requestor/vssctl freeze --for $lab/xfs -- true >$lab/xfs/out"
check "everything is free" is_free

lab_note "--- COMMAND takes too long"
begin=$SECONDS
check "is killed" exits 75 vssctl freeze --limit 2 "${places[@]}" -- "$lab/sleeps"
check "in time" [ $((SECONDS - begin)) -lt 15 ]
check "everything is free" is_free
check "nothing of it runs" it_has_ended

lab_note "--- vssctl is killed"
vssctl freeze --limit 30 "${places[@]}" -- "$lab/sleeps" >/dev/null 2>&1 &
check "everything is held" lab_wait 10 it_runs
pkill -KILL --full "vssctl freeze --limit 30 --for $lab/"
check "everything is free" lab_wait 5 is_free
check "COMMAND has ended with it" lab_wait 5 it_has_ended

lab_note "--- the bus hangs while all is held"
vssctl freeze --limit 20 "${places[@]}" -- sh -c "touch $lab/begun; sleep 2" >"$lab/freeze.log" 2>&1 &
freeze=$!
check "everything is held" lab_wait 10 test -e "$lab/begun"
kill -STOP "${lab_pid[bus]}"
check "and is free when COMMAND has ended" lab_wait 10 is_free
kill -CONT "${lab_pid[bus]}"
check "with success" wait "$freeze"

lab_note "--- somebody thaws meanwhile"
check "is a failure that says so" says "$lab/ext4 was thawed by somebody else while held" vssctl freeze "${places[@]}" -- fsfreeze --unfreeze "$lab/ext4"
check "everything is free" is_free
[ "$failures" -eq 0 ] || lab_die "$failures failures"
