#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# How long filesystems take to be frozen by vssctl freeze (first FIFREEZE to the last one's return, as the guard records it), against
# qemu-ga's guest-fsfreeze-freeze-list of the same mounts (command to answer); for docs/measurements.md. Called by run.sh, in a
# mount namespace of its own.
#   tests/bench/freeze.sh BUILD_DIRECTORY ROUNDS [ext4|xfs [N...]]
# Ends with 1 if a target was missed. It writes to /sys/kernel/rcu_expedited, as vss-guard does: 0 at the beginning, since whoever
# expedites RCU for everybody does so for the baseline, too; what was there at the end.
set -euo pipefail
# shellcheck source=tests/system/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/lib.sh"
# shellcheck source=tests/bench/figures.sh
. "$(dirname "${BASH_SOURCE[0]}")/figures.sh"

# What does not work is no missed target.
lab_die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 2
}
set -E
trap 'exit 2' ERR

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1 rounds=$2 type=${3:-ext4}
shift $(($# < 3 ? $# : 3))
[ $# -gt 0 ] || set -- 1 8 32
target=20 # times, from 8 mounts on
expedited=/sys/kernel/rcu_expedited
mounts=() missed=0

# grow N: as many mounts as that.
grow() {
	local device name

	while [ ${#mounts[@]} -lt "$1" ]; do
		name=m$((${#mounts[@]} + 1))
		truncate -s "$([ "$type" = xfs ] && echo 320M || echo 32M)" "$lab/$name.img"
		"mkfs.$type" -q "$lab/$name.img" >/dev/null
		device=$(losetup --find --show "$lab/$name.img")
		lab_defer losetup --detach "$device"
		mkdir "$lab/$name"
		lab_defer lab_unmount "$lab/$name"
		mount -t "$type" "$device" "$lab/$name"
		lab_defer thaw "$lab/$name"
		mounts+=("$lab/$name")
		echo "$lab/$name" >&"$watchdog"
	done
}

thaw() {
	fsfreeze --unfreeze "$1" 2>/dev/null || true
}

# Thaws the mounts that it has been told of when this script has not been heard of for a minute, or has ended in whatever way. It runs
# from no filesystem that is ever frozen here.
start_watchdog() {
	# shellcheck disable=SC2016
	mkfifo "$lab/alive"
	setsid bash -c '
		mounts=()
		while read -r -t 60 word; do
			[ "$word" = alive ] || mounts+=("$word")
		done
		for mount in "${mounts[@]}"; do
			fsfreeze --unfreeze "$mount"
		done' <"$lab/alive" >/dev/null 2>&1 &
	exec {watchdog}>"$lab/alive"
}

end_guard() {
	"$build/requestor/vssctl" release --all >/dev/null 2>&1 || true
	kill "$(cat "$VSS_GUARD_DIRECTORY/lock")" 2>/dev/null || true
}

start_guard() {
	unset INVOCATION_ID
	export VSS_GUARD_DIRECTORY=$lab/guard VSS_GUARD_PROGRAM=$build/coordinator/guard/vss-guard
	"$VSS_GUARD_PROGRAM" --run-directory "$VSS_GUARD_DIRECTORY" >"$lab/guard.log" 2>&1 </dev/null &
	disown
	lab_defer end_guard
	lab_wait 10 test -S "$VSS_GUARD_DIRECTORY/guard.sock" || lab_die "vss-guard does not start: $(cat "$lab/guard.log")"
}

start_agent() {
	mkdir "$lab/qga"
	lab_spawn qga qemu-ga -m unix-listen -p "$lab/qga.sock" -t "$lab/qga"
	lab_wait 10 test -S "$lab/qga.sock" || lab_die "qemu-ga does not start: $(cat "$lab/qga.log")"
}

plain_rcu() {
	before=$(cat $expedited)
	lab_defer eval "echo $before >$expedited"
	echo 0 >$expedited || lab_die "$expedited cannot be written"
}

vssctl_freeze() {
	local mount arguments=()

	for mount in "${mounts[@]:0:$n}"; do
		arguments+=(--for "$mount")
	done
	"$build/requestor/vssctl" freeze --json "${arguments[@]}" -- /bin/true >"$lab/freeze.json" 2>"$lab/freeze.err" ||
		lab_die "no freeze: $(cat "$lab/freeze.err")"
	sed -n 's/.*"FreezeUsec": *\([0-9]*\).*/\1/p' "$lab/freeze.json" >>"$lab/ours"
}

agent_freeze() {
	python3 -B "$here/ask-agent.py" "$lab/qga.sock" freeze "${mounts[@]:0:$n}" >"$lab/answer" || lab_die "qemu-ga failed"
	head -n 1 "$lab/answer" >>"$lab/theirs"
	tail -n 1 "$lab/answer" >>"$lab/nothing"
}

# Between two, 100 ms pass on synced filesystems; and nobody else's guard has left grace periods expedited.
settle_down() {
	echo alive >&"$watchdog"
	for mount in "${mounts[@]:0:$n}"; do
		sync --file-system "$mount"
	done
	sleep 0.1
	[ "$(cat $expedited)" = 0 ] || echo 0 >$expedited
}

measure() {
	local first second i

	n=$1
	vssctl_freeze # warm
	agent_freeze
	rm "$lab/ours" "$lab/theirs" "$lab/nothing"
	for ((i = 1; i <= rounds; i++)); do
		first=vssctl_freeze second=agent_freeze
		((i % 2)) || first=agent_freeze second=vssctl_freeze
		settle_down
		"$first"
		settle_down
		"$second"
	done
	[ "$(wc -l <"$lab/ours")" -eq "$rounds" ] || lab_die "a freeze without its time: $(cat "$lab/freeze.json")"
	printf '  %-62s %s ms\n' "vssctl freeze" "$(summary "$lab/ours")" "qemu-ga" "$(summary "$lab/theirs")" \
		"a command of qemu-ga that does nothing" "$(summary "$lab/nothing")"
	[ "$n" -lt 8 ] && target_here=0 || target_here=$target
	verdict "$lab/theirs" "$lab/ours" "$target_here" least | sed 's/^/  /' | tee "$lab/verdict"
	! grep -q MISSED "$lab/verdict" || missed=$((missed + 1))
}

lab_begin
start_watchdog
lab_start_bus
start_guard
lab_start_vssd "$build" --guard "$VSS_GUARD_DIRECTORY/guard.sock"
start_agent
plain_rcu
for count in "$@"; do
	printf '\nfreeze, %d %s, %d processors\n' "$count" "$type" "$(nproc)"
	grow "$count"
	measure "$count"
done
for mount in "${mounts[@]}"; do
	timeout 10 touch "$mount/file" || lab_die "$mount is left frozen"
done
exit $((missed > 0))
