# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What the system tests stand on besides lib.sh: a scene of a bus, a vssd with short limits and a machine id of its own
# (so that it never takes another one's copies for its own), one btrfs filesystem with the volume $volume, and writers
# that do what they are told. A check that fails is told and counted; the test goes on and fails at its end.
# shellcheck source=tests/system/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=""
volume="" # the member of most sets: a subvolume of the filesystem at $lab/v
scene_case="" scene_begun=0 scene_failures=0 scene_checks=0
answer="" # of the last scene_step
code=0 # exit code of the last `try`; its output is in $lab/out and $lab/err

vssctl() {
	"$build/requestor/vssctl" "$@"
}

# scene_level FAST DEFAULT LONG: the one that VSSD_TEST_LEVEL asks for.
scene_level() {
	case ${VSSD_TEST_LEVEL:-default} in
	fast) echo "$1" ;;
	default) echo "$2" ;;
	long) echo "$3" ;;
	*) lab_die "VSSD_TEST_LEVEL is fast, default or long" ;;
	esac
}

scene_skip() {
	lab_note "skipped: $*"
	exit 77
}

# scene_start BUILD_DIRECTORY [TOOL...]: everything but vssd, so that its configuration and manifests can be changed.
scene_start() {
	local tool

	build=$1
	shift
	[ "$(id -u)" -eq 0 ] || scene_skip "needs root"
	for tool in mkfs.btrfs btrfs losetup jq dbus-daemon unshare "$@"; do
		command -v "$tool" >/dev/null || scene_skip "needs $tool"
	done
	if [ ! -e /dev/loop-control ] || ! grep -qw btrfs /proc/filesystems; then
		scene_skip "needs loop devices and btrfs"
	fi
	lab_begin
	scene_configure
	mkdir "$lab/manifests"
	lab_start_bus
	lab_make_btrfs v 512M 2>/dev/null
	volume=$lab/v/data
	btrfs --quiet subvolume create "$volume"
}

# scene_configure [KEY=VALUE...]: vssd.conf, with keys of [Limits] that are added to or replace the short ones.
scene_configure() {
	local entry
	declare -A limits=([Identify]=1s [PrepareBackup]=1s [PrepareSnapshot]=1s [Freeze]=1s [Event]=1s)

	scene_machine=${scene_machine:-$(tr -d - </proc/sys/kernel/random/uuid)}
	for entry in "$@"; do
		limits[${entry%%=*}]=${entry#*=}
	done
	{
		printf '[Coordinator]\nMachineId=%s\n' "$scene_machine"
		[ -z "${limits[IdleTimeoutSec]:-}" ] || printf 'IdleTimeoutSec=%s\n' "${limits[IdleTimeoutSec]}"
		unset 'limits[IdleTimeoutSec]'
		printf '[Limits]\n'
		for entry in "${!limits[@]}"; do
			printf '%s=%s\n' "$entry" "${limits[$entry]}"
		done
	} >"$lab/vssd.conf"
}

# scene_uuid NAME: always the same for a name.
scene_uuid() {
	md5sum <<<"$1" | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/'
}

# scene_expect NAME [PATH]: a manifest; to be written before vssd starts.
scene_expect() {
	printf '[Writer]\nId=%s\nName=%s\nUnit=%s.service\n' "$(scene_uuid "$1")" "$1" "${1,,}" >"$lab/manifests/$1.writer"
	[ $# -lt 2 ] || printf 'Paths=%s\n' "$2" >>"$lab/manifests/$1.writer"
}

# scene_vssd [ARGUMENT...]
scene_vssd() {
	lab_start_vssd "$build" "$@"
}

# scene_writer NAME [OPTION...]: a test writer that logs its events to $lab/NAME.events.
scene_writer() {
	local name=$1

	shift
	rm -f "$lab/$name.log" # an earlier one's READY
	: >"$lab/$name.events"
	lab_spawn "$name" "$build/writers/test-writer/vss-test-writer" --name "$name" --id "$(scene_uuid "$name")" \
		--instance "$(scene_uuid "instance of $name")" --log "$lab/$name.events" "$@"
	lab_wait 15 grep -q READY "$lab/$name.log" || lab_die "writer $name does not start: $(cat "$lab/$name.log" "$lab/vssd.log")"
}

# scene_end_writer NAME...: whatever state they are in.
scene_end_writer() {
	local name

	for name in "$@"; do
		[ -n "${lab_pid[$name]:-}" ] || continue
		kill -s KILL "${lab_pid[$name]}" 2>/dev/null || true
		wait "${lab_pid[$name]}" 2>/dev/null || true
		unset "lab_pid[$name]"
		lab_wait 5 scene_is_absent "$name" || true
	done
}

scene_is_absent() {
	[ "$(scene_row "$1" .Present)" != true ]
}

# ---- cases and checks ----

begin() {
	scene_case=$*
	scene_begun=$(date +%s%N)
	lab_note "--- $*"
}

# check WHAT COMMAND...
check() {
	local what=$1

	shift
	scene_checks=$((scene_checks + 1))
	if "$@"; then
		return 0
	fi
	scene_failures=$((scene_failures + 1))
	lab_note "FAILED: $scene_case: $what"
	lab_note "    command: $*"
	[ ! -s "$lab/err" ] || sed 's/^/    err: /' "$lab/err"
	tail -n 8 "$lab/vssd.log" | sed 's/^/    vssd: /'
	return 0
}

refuse() {
	! "$@"
}

# seen WHAT: says a figure that somebody may want to read.
seen() {
	lab_note "    $* ($((($(date +%s%N) - scene_begun) / 1000000)) ms)"
}

scene_done() {
	lab_note "$scene_checks checks, $scene_failures failed"
	[ "$scene_failures" -eq 0 ] || exit 1
	exit 0
}

equal() {
	[ "$1" = "$2" ] || {
		lab_note "    found \"$1\", expected \"$2\""
		return 1
	}
}

differ() {
	[ "$1" != "$2" ] || {
		lab_note "    found \"$1\""
		return 1
	}
}

contains() {
	grep -q -e "$2" "$1" || {
		lab_note "    \"$2\" is not in ${1##*/}:"
		sed 's/^/    | /' "$1"
		return 1
	}
}

at_most() {
	[ "$1" -le "$2" ] || {
		lab_note "    found $1, of $2 that may be"
		return 1
	}
}

# try ARGUMENT...: vssctl, its exit code in $code.
try() {
	code=0
	vssctl "$@" >"$lab/out" 2>"$lab/err" </dev/null || code=$?
}

# ---- requestors and workers that are held in a phase ----

# scene_background NAME ARGUMENT...: vssctl, in a process group of its own, and minding SIGINT, which shells without job
# control have their background ignore. Its exit code comes from scene_ended.
scene_background() {
	local name=$1

	shift
	lab_spawn "$name" setsid env --default-signal=INT "$build/requestor/vssctl" "$@"
}

# scene_ended NAME [SECONDS]: waits for it; its exit code in $code, 124 if it does not end.
scene_ended() {
	local pid=${lab_pid[$1]} i

	code=124
	for ((i = 0; i < ${2:-10} * 20; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		[[ "$(awk '{ print $3 }' "/proc/$pid/stat" 2>/dev/null)" != Z ]] || break
		sleep 0.05
	done
	if [ "$i" -lt $((${2:-10} * 20)) ]; then
		code=0
		wait "$pid" 2>/dev/null || code=$?
		unset "lab_pid[$1]"
	fi
	cp "$lab/$1.log" "$lab/err"
}

# scene_gate OP ACTION: what the worker will do at its next OP; vssd has to be started with scene_gated_vssd.
scene_gate() {
	rm -f "$lab/gate/$1.done"
	printf '%s\n' "$2" >"$lab/gate/$1"
}

scene_at_gate() {
	[ -e "$lab/gate/$1.done" ]
}

scene_gated_vssd() {
	mkdir -p "$lab/gate"
	export GATE_DIRECTORY=$lab/gate GATE_WORKER=$build/coordinator/providers/vss-worker
	scene_vssd --worker "$build/tests/system/gate-worker" "$@"
}

# scene_steps NAME: a requestor that goes in single steps; scene_step NAME WORDS... has its answer in $answer.
scene_steps() {
	mkfifo "$lab/$1.in" "$lab/$1.out"
	"$build/tests/system/step-requestor" <"$lab/$1.in" >"$lab/$1.out" 2>"$lab/$1.log" &
	lab_pid[$1]=$!
	eval "exec {scene_${1}_in}>\"$lab/$1.in\" {scene_${1}_out}<\"$lab/$1.out\""
	rm "$lab/$1.in" "$lab/$1.out"
}

scene_step_begin() {
	local in=scene_${1}_in

	shift
	printf '%s\n' "$*" >&"${!in}"
}

scene_step_end() {
	local from=scene_${1}_out

	answer=""
	IFS= read -r -t "${2:-30}" answer <&"${!from}" || true
}

scene_step() {
	scene_step_begin "$@"
	scene_step_end "$1"
}

# scene_steps_end NAME [SIGNAL]
scene_steps_end() {
	eval "exec {scene_${1}_in}>&- {scene_${1}_out}<&-"
	lab_stop "$1" "${2:-TERM}"
}

scene_ok() {
	[[ $answer == '{"ok":true'* ]] || {
		lab_note "    answer: $answer"
		return 1
	}
}

# ---- what is known of writers, sessions and copies ----

# scene_row WRITER FILTER: of its row in `list writers`
scene_row() {
	vssctl list writers --json | jq -r --arg n "$1" ".writers[] | select(.Name == \$n) | $2"
}

# scene_result FILTER: of what `create shadow --json` printed
scene_result() {
	jq -r ".result | $1" "$lab/out"
}

scene_sessions() {
	vssctl list sessions --json | jq -r ".sessions | length"
}

scene_no_session() {
	[ "$(scene_sessions)" = 0 ]
}

scene_state() {
	vssctl list sessions --json | jq -r ".sessions[0].State"
}

scene_is_in() {
	[ "$(scene_state)" = "$1" ]
}

scene_now() {
	awk '{ printf "%.0f\n", $1 * 1000000 }' /proc/uptime
}

# scene_when WRITER EVENT: when it last began, in monotonic microseconds; nothing if it did not.
scene_when() {
	awk -v e="$2" '$3 == e && $6 == "begin" { t = $1 } END { if (t) print t }' "$lab/$1.events"
}

scene_heard() {
	[ -n "$(scene_when "$1" "$2")" ]
}

# scene_runs_again WRITER: when it was let go: its first Thaw or Abort.
scene_runs_again() {
	awk '($3 == "Thaw" || $3 == "Abort") && $6 == "begin" { print $1; exit }' "$lab/$1.events"
}

# soon EARLIER LATER MILLISECONDS
soon() {
	if [ -z "$1" ] || [ -z "$2" ] || [ $((($2 - $1) / 1000)) -gt "$3" ]; then
		lab_note "    from ${1:-never} to ${2:-never} is more than $3 ms"
		return 1
	fi
}

# scene_copies [FILESYSTEM]: what is below .vss, seen from the top of the filesystem over a private mount.
scene_copies() {
	local device

	device=$(findmnt --noheadings --first-only --output SOURCE --mountpoint "$lab/${1:-v}")
	mkdir -p "$lab/look"
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -c '
		mount -t btrfs -o subvolid=5 "$1" "$2" && cd "$2" && [ ! -d .vss ] || find .vss -mindepth 1 -maxdepth 2 | sort' \
		sh "${device%%\[*}" "$lab/look"
}

# Every copy is complete: mark, record and snapshot, and nothing else.
scene_all_whole() {
	local found expected copy

	found=$(scene_copies "$@")
	expected=$(sed -n 's|^\.vss/\([^/]*\)$|\1|p' <<<"$found" | while read -r copy; do
		printf '.vss/%s\n' "$copy" "$copy/copy" "$copy/record.json" "$copy/sealed"
	done)
	equal "$found" "$expected"
}

scene_no_copies() {
	equal "$(scene_copies "$@")" ""
}

# Mounts that concern this scene, of this mount namespace.
scene_mounts() {
	local devices

	devices=$(losetup --list --noheadings --output NAME,BACK-FILE | awk -v l="$lab/" 'index($2, l) == 1 { printf "|%s", $1 }')
	grep -E -e "$lab/${devices:+$devices }" /proc/self/mountinfo | awk '{ print $5 }' | sort
}

# scene_clear [PATH...]: deletes the copies of these volumes alone.
scene_clear() {
	local path

	for path in "${@:-$volume}"; do
		vssctl delete shadows --for "$path" --all -y >/dev/null 2>&1 || true
	done
}
