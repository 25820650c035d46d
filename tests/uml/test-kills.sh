#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vssd, a worker and the guard's halves are killed and stopped, one at a time, at each step of sets, reverts and deletions:
# everything is free within the deadline and a second, the writer runs again, the requestor hears a reason, what was there before
# still is, half-made copies go, and the next set works.
# test-kills.sh [VICTIM...]: of vssd worker guard executor revert delete; vssd:STOP is one signal alone, vssd:STOP:arm one step.
# Victims and steps are functions that are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

n=2
deadline=4 # of a hold, in seconds
gate=/run/gate
step=/run/step
work=60    # seconds for what a worker does; a stopped one is waited for so long
pause=1500 # ms that a step is kept open for the kill
cases=0
declare -A outcome=([good]=0 [failed]=0)

# What a failure may name.
declare -A reasons=(
	[vssd]='vssd|Event|in time|[Tt]imed out|went away|held for as long'
	[worker]='worker|provider|did not|timed out|in time'
	[guard]='vss-guard|in time'
	[executor]='vss-guard|in time'
)

# ---- the scene ----

start_gated_guard() {
	mkdir -p /run/vss-guard
	spawn guard "$BUILD/tests/system/guard-stepper"
	wait_for 10 guard_serves || die "vss-guard does not start"
}

guard_serves() {
	vssctl release --all --json 2>/dev/null | grep -q '"By": "guard"'
}

releaser() {
	cat /run/vss-guard/lock
}

executor() {
	pgrep -o -P "$(releaser)"
}

start_app() { # [OPTION...]
	: >/run/app.events
	rm -f /run/log/app.log
	spawn app "$BUILD/writers/test-writer/vss-test-writer" --name App --path /mnt/v1 --freeze-limit 6000 --log /run/app.events "$@"
	wait_for 15 grep -q READY /run/log/app.log || die "the writer does not start"
}

scene() {
	make_vg vg /dev/ubdb
	make_volumes "$n" ext4
	make_lv vg other 48M ext4
	mount_lv vg other
	export GATE_DIRECTORY=$gate GATE_WORKER=$BUILD/coordinator/providers/vss-worker GUARD_STEP_DIRECTORY=$step
	mkdir -p "$gate" "$step"
	printf '[Coordinator]\nMachineId=%s\n[Limits]\nFreeze=6\nEvent=6\nCut=%d\nPrepareCopies=%d\nFinishCopies=%d\nRemoveCopies=%d\n' \
		"$(machine_id)" "$deadline" "$work" "$work" "$work" >/run/vssd.conf
	start_bus
	start_gated_guard
	start_gated_vssd
	start_app
	start_writer
	create_set /run/before.json || die "no set: $(cat /run/create.err)"
	before_set=$(jq -r .result.Set /run/before.json)
}

start_gated_vssd() {
	start_vssd --worker "$BUILD/tests/system/gate-worker"
}

# ---- what has to be so ----

now() {
	echo "${EPOCHREALTIME/./}"
}

is_free() {
	local i

	for ((i = 1; i <= n; i++)); do
		[ "$(dmsetup info -c --noheadings -o suspended "vg-v$i")" = Active ] || return 1
		timeout 2 touch "/mnt/v$i/.writable" || return 1
	done
}

# The writer's last Freeze was followed by a Thaw or an Abort.
app_runs() {
	awk '$6 == "begin" && $3 == "Freeze" { frozen = 1 }
		$6 == "begin" && ($3 == "Thaw" || $3 == "Abort") { frozen = 0 }
		END { exit frozen }' /run/app.events
}

none_half_made() {
	vssctl list shadows >/dev/null 2>&1 || true
	! lvs -a --noheadings -o lv_tags vg | grep -q vss.state=preparing
}

has_before() {
	local volume

	vssctl list shadows --json >/run/list.json || return 1
	for volume in "${volumes[@]}"; do
		jq -e --arg id "$(copy_of /run/before.json "$volume")" '.shadows[] | select(.Shadow == $id)' /run/list.json >/dev/null ||
			return 1
	done
}

delete_others() {
	local set

	vssctl list shadows --json | jq -r --arg before "$before_set" '[.shadows[].Set] | unique[] | select(. != $before)' >/run/sets
	while read -r set; do
		vssctl delete shadows --set "$set" -y >/run/delete.log 2>&1 || die "$what: the set $set cannot be deleted: $(cat /run/delete.log)"
	done </run/sets
}

# ---- steps: each is brought about by arrange_*, and has been reached when reached_* says so ----

arrange() { # STEP [ACTION OF THE GATE]
	rm -f "${gate:?}"/* "${step:?}"/*
	case $1 in
	window:*) tr : ' ' <<<"${1#window:}" >"$step/step" ;;
	Freeze) app_does "Freeze=once:late:$pause" ;;
	*) echo "${2:-delay $pause}" >"$gate/$1" ;;
	esac
	[ "$1" != flush ] || app_does PrepareSnapshot=once:late:5000 # what it wrote meanwhile is flushed
}

app_does() {
	stop app KILL
	start_app --on "$1"
}

reached() {
	case $1 in
	window:*) [ -e "$step/reached" ] ;;
	Freeze) grep -q ' Freeze .* begin' /run/app.events ;;
	*) [ -e "$gate/$1.done" ] ;;
	esac
}

ended() {
	! kill -0 "$1" 2>/dev/null
}

# Not forgotten by the shell: its code is still to come.
requestor_ended() {
	ended "$requestor" || grep -q '^State:.*Z' "/proc/$requestor/status"
}

# After the kill: PID SIGNAL WHO
aftermath() {
	local pid=$1 signal=$2 who=$3 killed

	killed=$(now)
	wait_for $((deadline + 1)) is_free || die "$what: held for more than $((deadline + 1)) s: $(dmsetup info -c)"
	took=$((($(now) - killed) / 1000))
	if [ "$who" = vssd ]; then
		# By itself, where vssd is stopped: its limit after its answer, which came late.
		wait_for 14 app_runs || die "$what: the writer stays frozen: $(cat /run/app.events)"
		start_again "$pid" "$signal" "$who"
	fi
	[ "$signal" != STOP ] || [ "$who" != vssd ] || kill -s CONT "$pid"
	wait_for 40 requestor_ended || die "$what: the requestor is not answered"
	if wait "$requestor"; then
		outcome[good]=$((outcome[good] + 1))
		result=good
	else
		outcome[failed]=$((outcome[failed] + 1))
		result=$(tail -n 1 /run/create.err)
		grep -Eq "${reasons[$who]}" /run/create.err || die "$what: the failure has no reason: $(cat /run/create.err)"
	fi
	is_free || die "$what: something is held after the set"
	wait_for 8 app_runs || die "$what: the writer stays frozen: $(cat /run/app.events)"
}

# What systemd would do: the watchdog kills what has stopped, and whatever has ended is started.
start_again() { # PID SIGNAL WHO
	case $3 in
	vssd)
		[ "${pid_of[vssd]}" = "$1" ] && ended "$1" || return 0
		stop vssd
		start_gated_vssd
		;;
	guard)
		kill -s KILL "$1" 2>/dev/null || true
		# An executor that was left starts another one; where the window had ended there was none.
		wait_for 2 guard_serves || start_gated_guard
		;;
	executor) [ "$2" != STOP ] || ended "$1" || kill -s CONT "$1" ;;
	esac
}

all_is_well() {
	wait_for 30 none_half_made || die "$what: half-made copies remain: $(lvs -a -o lv_name,lv_tags vg)"
	wait_for 10 has_before || die "$what: the copies made before are gone: $(cat /run/list.json)"
	create_set /run/after.json || die "$what: no set afterwards: $(cat /run/create.err)"
	[ "$(jq -r .result.Instant /run/after.json)" = set ] || die "$what: the set afterwards is not one instant"
	delete_others
	cases=$((cases + 1))
	note "ok $what: ${took:+free after $took ms; }$result"
}

# kill_at STEP WHO SIGNAL: vssd and the guard's halves.
kill_at() {
	local pid

	what="$2:$3 at $1" took=""
	arrange "$1"
	create_set /run/set.json &
	requestor=$!
	wait_for 15 reached "$1" || die "$what: not reached: $(cat /run/create.err)"
	case $2 in
	vssd) pid=${pid_of[vssd]} ;;
	guard) pid=$(releaser) ;;
	executor)
		wait_for 5 executor || die "$what: there is none"
		pid=$(executor)
		;;
	esac
	kill -s "$3" "$pid" || die "$what: there is nobody"
	touch "$step/go-on"
	aftermath "$pid" "$3" "$2"
	start_again "$pid" "$3" "$2"
	rm -f "${step:?}"/*
	all_is_well
}

# gate_at OP ACTION: the worker, which the gate kills or stops in the midst of its op.
gate_at() {
	what="worker: $2 at $1" took=""
	arrange "$1" "$2"
	create_set /run/set.json &
	requestor=$!
	wait_for 15 test -e "$gate/$1.done" || die "$what: not reached: $(cat /run/create.err)"
	aftermath 0 KILL worker
	all_is_well
}

# ---- sets ----

steps=(prepare flush Freeze arm window:freeze:1:after window:suspend:2:after window:cut:1:after window:resume:1:before
	window:thaw:1:after open seal)

kills_of() { # VICTIM[:SIGNAL[:STEP]]
	local victim=${1%%:*} rest signal where

	rest=${1#"$victim"}
	for signal in KILL STOP; do
		for where in "${steps[@]}"; do
			[[ ":$signal:$where:" != "${rest:-":$signal"}":* ]] || kill_at "$where" "$victim" "$signal"
		done
	done
}

kills_of_worker() {
	local op action

	for op in resolve prepare flush arm open seal; do
		for action in "kill" "kill-in 20" "kill-after" "stop-in 20"; do
			gate_at "$op" "$action"
		done
	done
}

# ---- reverts and deletions ----

is_merged() {
	! vssctl query reverts | grep -q Volume
}

# Whatever became of it: the volume shows what it was or what the copy holds, and the revert can be had in the end.
revert_is_well() {
	local shown

	wait_for 30 is_merged || die "$what: still merging: $(vssctl query reverts)"
	mount_lv vg other
	shown=$(cat /mnt/other/file)
	[ "$shown" = old ] || [ "$shown" = new ] || die "$what: the volume shows '$shown'"
	umount /mnt/other
	if vssctl list shadows --json | grep -q "$copy"; then
		vssctl revert shadow --shadow "$copy" -y >/run/out 2>&1 || die "$what: no revert afterwards: $(cat /run/out)"
		wait_for 30 is_merged || die "$what: still merging: $(vssctl query reverts)"
	fi
	mount_lv vg other
	[ "$(cat /mnt/other/file)" = old ] || die "$what: reverted, and it shows '$(cat /mnt/other/file)'"
	note "ok $what: $shown at first"
	cases=$((cases + 1))
}

revert_under() { # WHO ACTION
	what="$1: $2 at revert"
	echo old >/mnt/other/file
	sync -f /mnt/other
	copy=$(vssctl create shadow --json --for /mnt/other | jq -r '.result.Shadows[0].Shadow')
	echo new >/mnt/other/file
	umount /mnt/other
	rm -f "${gate:?}"/*
	[ "$1" = worker ] && echo "$2" >"$gate/revert" || echo "delay $pause" >"$gate/revert"
	vssctl revert shadow --shadow "$copy" -y >/run/create.err 2>&1 &
	requestor=$!
	wait_for 15 test -e "$gate/revert.done" || die "$what: not reached: $(cat /run/create.err)"
	if [ "$1" = vssd ]; then
		kill -s "$2" "${pid_of[vssd]}"
		sleep 2
		kill -s CONT "${pid_of[vssd]}" 2>/dev/null || true
	fi
	start_again "${pid_of[vssd]}" "$2" vssd
	wait_for 60 requestor_ended || die "$what: the requestor is not answered"
	wait "$requestor" || grep -Eq "${reasons[$1]}" /run/create.err || die "$what: the failure has no reason: $(cat /run/create.err)"
	revert_is_well
}

is_gone() {
	vssctl list shadows --json | jq -e --arg set "$1" 'any(.shadows[]; .Set == $set) | not' >/dev/null && none_half_made
}

# Deleted, or still there as a whole; deleting it again works.
delete_under() { # WHO ACTION
	local set

	what="$1: $2 at remove" took=""
	create_set /run/set.json || die "$what: no set: $(cat /run/create.err)"
	set=$(jq -r .result.Set /run/set.json)
	rm -f "${gate:?}"/*
	[ "$1" = worker ] && echo "$2" >"$gate/remove" || echo "delay $pause" >"$gate/remove"
	vssctl delete shadows --set "$set" -y >/run/create.err 2>&1 &
	requestor=$!
	wait_for 15 test -e "$gate/remove.done" || die "$what: not reached: $(cat /run/create.err)"
	[ "$1" != vssd ] || kill -s "$2" "${pid_of[vssd]}"
	sleep 2
	[ "$1" != vssd ] || kill -s CONT "${pid_of[vssd]}" 2>/dev/null || true
	start_again "${pid_of[vssd]}" "$2" vssd
	wait_for 60 requestor_ended || die "$what: the requestor is not answered"
	wait "$requestor" && result=good || result=$(tail -n 1 /run/create.err)
	wait_for 20 is_gone "$set" || vssctl delete shadows --set "$set" -y >/run/out 2>&1 || die "$what: cannot be deleted: $(cat /run/out)"
	wait_for 10 is_gone "$set" || die "$what: it remains: $(lvs -a -o lv_name,lv_tags vg)"
	all_is_well
}

revert_kills() {
	local action

	for action in "kill" "kill-in 30" "kill-after" "stop-in 30"; do
		revert_under worker "$action"
	done
	revert_under vssd KILL
	revert_under vssd STOP
}

delete_kills() {
	local action

	for action in "kill" "kill-in 30" "kill-after" "stop-in 30"; do
		delete_under worker "$action"
	done
	delete_under vssd KILL
	delete_under vssd STOP
}

case "$*" in
vssd* | guard* | executor*) ;;
*) work=10 ;;
esac
scene
[ $# -gt 0 ] || set -- executor guard worker vssd revert delete
for who in "$@"; do
	case $who in
	worker) kills_of_worker ;;
	revert) revert_kills ;;
	delete) delete_kills ;;
	*) kills_of "$who" ;;
	esac
done
what="the end"
create_set /run/last.json || die "no set: $(cat /run/create.err)"
check_set /run/last.json
delete_others
stop_writer
delete_set /run/before.json
for ((i = 1; i <= n; i++)); do
	assert_healthy vg "v$i"
done
[ "$(lvs -a --noheadings -o lv_name vg | wc -l)" -eq $((n + 1)) ] || die "volumes are left: $(lvs -a vg)"
note "$cases kills; of the sets under way ${outcome[good]} were made, ${outcome[failed]} failed with a reason"
