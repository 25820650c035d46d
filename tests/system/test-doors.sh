#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `vssctl hook` and the hooks made of it: whoever snapshots from outside gets writers that hold still until its thaw, or a
# failure; nobody stays held. The hypervisors' side is a real guest agent, and what drives scripts as the others do.
# Usage: test-doors.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"
peers=$(dirname "$0")/hypervisors

hook() {
	local verb=$1

	shift
	try hook "$verb" --runtime-dir "$lab/hook" "$@"
}

writers() {
	scene_end_writer Front Back
	scene_writer Front --path "$volume" --level front-end
	scene_writer Back --path "$lab/elsewhere" --level back-end "$@"
}

before() {
	local first second

	first=$(scene_when "$1" "$2") second=$(scene_when "$3" "$4")
	[ -n "$first" ] && [ -n "$second" ] && [ "$first" -lt "$second" ]
}

is_frozen() {
	scene_heard "$1" Freeze && ! scene_heard "$1" Thaw && ! scene_heard "$1" Abort
}

none_frozen() {
	! is_frozen Front && ! is_frozen Back
}

# keeps FILTER: what it printed keeps to the schema, and to FILTER.
keeps() {
	python3 "$(dirname "$0")/../bus/check-schema.py" "$(dirname "$0")/../../docs/vssctl.schema.json" "$lab/out" &&
		jq --exit-status "$1" "$lab/out" >/dev/null
}

held() {
	check "both hold still" is_frozen Front
	check "both hold still" is_frozen Back
	check "the session holds" scene_is_in Holding
}

let_go() {
	check "all run again" lab_wait "${1:-2}" none_frozen
	check "no session remains" lab_wait 3 scene_no_session
}

# Of a writer that hangs nothing can be seen.
front_let_go() {
	check "the other runs again" lab_wait 3 scene_heard Front Abort
	check "no session remains" lab_wait 10 scene_no_session
	seen "no session any more"
}

next_works() {
	hook freeze
	check "the next freeze works" equal "$code" 0
	hook thaw
	check "the next thaw works" equal "$code" 0
	check "no session remains" lab_wait 3 scene_no_session
}

plain() {
	begin "freeze and thaw"
	writers
	hook freeze
	check "freeze" equal "$code" 0
	check "says who is held" contains "$lab/out" "^2 writers held, for .* at most"
	held
	check "in order" before Front Freeze Back Freeze
	check "root's alone" equal "$(stat -c %a "$lab/hook" "$lab/hook/hook")" "700
600"
	sleep 1
	hook thaw
	check "thaw" equal "$code" 0
	check "says how long" contains "$lab/out" "^2 writers held without a break, for 1[0-9]*\.[0-9] ms"
	check "in reverse" before Back Thaw Front Thaw
	let_go
	hook thaw
	check "a thaw without a freeze is no failure" equal "$code" 0
	check "and says so" contains "$lab/out" "Nothing is held"
	hook freeze --for "$volume"
	check "for a volume" equal "$code" 0
	check "only who has data there" contains "$lab/out" "^1 writer held"
	hook freezeFail
	check "freezeFail" equal "$code" 0
	check "it was called off" scene_heard Front Abort
	let_go
	hook freeze --json
	check "a document" keeps '.held.Writers | length == 2'
	hook thaw --json
	check "each by name" keeps '[.released.Writers[] | select(.Unbroken) | .Name] | sort == ["Back", "Front"]'
}

second() {
	begin "a second freeze while one is held"
	writers
	hook freeze
	hook freeze
	check "fails, and may work later" equal "$code" 75
	check "says who holds" contains "$lab/err" "'hook' holds the writers already, for [0-9]* s"
	held
	hook freeze --name other --wait 0
	check "of another name, too" equal "$code" 75
	held
	hook thaw --name other
	check "whose thaw has nothing to let go" equal "$code" 0
	held
	hook thaw
	check "the first is not disturbed" equal "$code" 0
	let_go
	hook freeze --name ../x
	check "a name is no path" equal "$code" 1
	begin "notes that cannot be trusted"
	ln -sf "$lab/other-note" "$lab/hook/linked"
	hook freeze --name linked
	check "a link" equal "$code" 1
	check "is not followed" refuse test -e "$lab/other-note"
	echo "no session" >"$lab/hook/hook"
	chmod 777 "$lab/hook"
	hook freeze
	check "a directory where others may write" equal "$code" 1
	check "in words" contains "$lab/err" "others may write there"
	chmod 700 "$lab/hook"
	hook thaw
	check "nonsense holds nothing" equal "$code" 0
	next_works
}

# The writers serve one set at a time; whoever comes second waits as long as --wait allows, or fails and says for whom.
other_set() {
	begin "a freeze while a set is made, and a set while writers are held"
	writers
	scene_gate cut "delay 3000"
	scene_background set create shadow --for "$volume"
	lab_wait 10 scene_at_gate cut || lab_die "no freeze"
	hook freeze --wait 0
	check "a freeze that may not wait" equal "$code" 75
	check "says for whom" contains "$lab/err" "create shadow"
	hook thaw
	check "nothing was held" contains "$lab/out" "Nothing is held"
	hook freeze
	check "one that may comes after the set" equal "$code" 0
	check "after its thaw" before Front Thaw Front Freeze
	scene_ended set
	check "the set is made" equal "$code" 0
	check "it holds" is_frozen Back
	check "the session holds" scene_is_in Holding
	try create shadow --for "$volume" --wait 0
	check "a set that may not wait" equal "$code" 75
	check "says for whom" contains "$lab/err" "hook freeze"
	check "nobody was let go by that" is_frozen Back
	scene_background set create shadow --for "$volume"
	lab_wait 5 scene_is_waiting || true
	check "one that may waits" is_frozen Back
	hook thaw
	check "thaw" equal "$code" 0
	scene_ended set
	check "and is made then" equal "$code" 0
	lab_wait 3 scene_no_session || true
	scene_clear
}

scene_is_waiting() {
	vssctl list sessions --json | jq -e '[.sessions[].State] | any(test("Waiting"))'
}

no_thaw() {
	begin "thaw does not come"
	writers
	hook freeze --limit 2
	check "freeze" equal "$code" 0
	check "all run again by themselves" lab_wait 6 none_frozen
	hook thaw
	check "a thaw that comes too late is a failure" equal "$code" 75
	check "in words" contains "$lab/err" "Release did not come within the time"
	let_go
	writers
	hook freeze
	vssctl abort --all >/dev/null
	hook thaw
	check "a hold that an administrator ended is a failure" equal "$code" 75
	check "in words" contains "$lab/err" "The writers were let go before this thaw, which came [0-9]* s after the freeze"
	let_go
	hook thaw
	check "and is told once" equal "$code" 0
	writers
	hook freeze --limit 1
	check "all run again by themselves" lab_wait 6 none_frozen
	next_works
}

bad_freeze() {
	begin "a writer fails"
	writers --on 'Freeze=once:fail:non-retryable:its disk is full'
	hook freeze
	check "freeze fails" equal "$code" 1
	check "with the writer's words" contains "$lab/err" "'Back' failed at Freeze.*its disk is full"
	let_go
	hook thaw
	check "nothing was held" equal "$code" 0
	next_works
	writers --on 'Freeze=once:fail:retryable:just now'
	hook freeze
	check "a retryable failure" equal "$code" 75
	writers --on 'Freeze=fail:retryable:just now'
	hook freeze --on-writer-failure degrade
	check "by policy it is a warning" equal "$code" 0
	check "in words" contains "$lab/err" "warning: .*just now"
	check "the other holds" is_frozen Front
	hook thaw
	check "thaw" equal "$code" 0
	writers --on Freeze=hang
	hook freeze --timeout 2
	check "a hook has its own limit" equal "$code" 75
	check "in words" contains "$lab/err" "hook freeze was not done within --timeout"
	front_let_go
}

broken() {
	begin "a hold that breaks"
	writers --on 'Freeze=once:break'
	hook freeze
	hook thaw
	check "thaw fails" differ "$code" 0
	check "names the writer" contains "$lab/err" "'Back' failed at Thaw"
	let_go
	writers
	hook freeze
	scene_end_writer Back
	check "the other runs again" lab_wait 5 scene_heard Front Abort
	hook thaw
	check "a writer that died is a failure" differ "$code" 0
	check "in words" contains "$lab/err" "Writer 'Back' failed at Thaw: Not responding"
	check "no session remains" lab_wait 3 scene_no_session
}

killed() {
	begin "the hook is killed"
	writers --on 'Freeze=delay:2000'
	lab_spawn freeze "$build/requestor/vssctl" hook freeze --runtime-dir "$lab/hook"
	lab_wait 5 scene_heard Front Freeze || lab_die "no freeze"
	lab_stop freeze KILL
	let_go 5
	hook thaw
	check "there is nothing to let go, and that is a failure" equal "$code" 1
	writers
	next_works
	begin "thaw while freeze is under way"
	writers --on 'Freeze=delay:1000'
	lab_spawn freeze "$build/requestor/vssctl" hook freeze --runtime-dir "$lab/hook"
	lab_wait 5 scene_heard Front Freeze || lab_die "no freeze"
	hook thaw
	check "waits for it, and lets go" equal "$code" 0
	check "after the freeze" before Back Freeze Back Thaw
	let_go
}

vssd_ends() {
	begin "vssd is killed while it holds"
	writers
	hook freeze
	lab_stop vssd KILL
	scene_vssd
	check "all run again" lab_wait 5 none_frozen
	hook thaw
	check "the hold was broken" differ "$code" 0
	lab_wait 10 test "$(scene_row Front .Present)" = true
	next_works
	begin "vssd hangs"
	writers
	hook freeze
	kill -s STOP "${lab_pid[vssd]}"
	hook thaw --timeout 4
	check "thaw ends" differ "$code" 0
	hook freeze --timeout 4
	check "freeze ends" differ "$code" 0
	check "neither took long" at_most "$((($(date +%s%N) - scene_begun) / 1000000000))" 20
	kill -s CONT "${lab_pid[vssd]}"
	hook thaw
	check "a second thaw lets go what was held all the time" equal "$code" 0
	let_go
	next_works
}

# ---- who snapshots from outside ----

wrapper_environment() {
	export VSSCTL=$build/requestor/vssctl VSS_HOOK_OPTIONS="--runtime-dir $lab/hook --limit 30"
	doors=$build/requestor/doors
}

vmware() {
	begin "VMware Tools' backup scripts"
	mkdir "$lab/scripts"
	install -m 755 "$doors/vmware-backup-script" "$lab/scripts/zz-vssd"
	# shellcheck disable=SC2016
	printf '#!/bin/sh\necho "$1" >>%s/other\n' "$lab" >"$lab/scripts/10-other"
	chmod 755 "$lab/scripts/10-other"
	writers
	code=0
	# shellcheck disable=SC2016
	"$peers/vmware-scripts.py" "$lab/scripts" sh -c 'grep Freeze "$1" >"$2"; ! grep Thaw "$1"' sh "$lab/Back.events" \
		"$lab/seen" >"$lab/out" 2>"$lab/err" || code=$?
	check "a quiesced snapshot" equal "$code" 0
	check "made while all held still" test -s "$lab/seen"
	let_go
	check "the others' order" equal "$(paste -sd ' ' "$lab/other")" "freeze thaw"
	"$peers/vmware-scripts.py" "$lab/scripts" false >"$lab/out" 2>"$lab/err" || code=$?
	check "a snapshot that fails" equal "$code" 2
	let_go
	check "is told as such" scene_heard Back Abort
	writers --on 'Freeze=once:fail:non-retryable:no'
	code=0
	: >"$lab/other"
	"$peers/vmware-scripts.py" "$lab/scripts" touch "$lab/made" >"$lab/out" 2>"$lab/err" || code=$?
	check "a writer's failure is the snapshot's" equal "$code" 1
	check "and it is not made" refuse test -e "$lab/made"
	check "those before it are told" equal "$(paste -sd ' ' "$lab/other")" "freeze freezeFail"
	let_go
	writers --on 'Freeze=once:break'
	"$peers/vmware-scripts.py" "$lab/scripts" true >"$lab/out" 2>"$lab/err" || code=$?
	check "a broken hold is one" equal "$code" 3
	let_go
}

# Whose writers hang: its own limit ends the hook before the framework gives up to wait.
azure_hang() {
	writers --on Freeze=hang
	jq '.timeoutInSeconds = 5 | .preScriptParams[1] = "3"' "$lab/azure/plugin.json" >"$lab/azure/short.json"
	code=0
	"$peers/azure-scripts.py" "$lab/azure/short.json" true >"$lab/out" 2>"$lab/err" || code=$?
	check "a writer that hangs is no backup" equal "$code" 1
	check "and is not what its framework gave up to wait for" refuse grep -q "timed out" "$lab/out"
	front_let_go
}

azure() {
	begin "Azure Backup's script framework"
	install -D -m 700 -t "$lab/azure" "$doors/azure-pre-script" "$doors/azure-post-script"
	jq --arg d "$lab/azure" --arg r "$lab/hook" '.preScriptLocation = $d + "/azure-pre-script"
		| .postScriptLocation = $d + "/azure-post-script" | .preScriptParams += ["--runtime-dir", $r]
		| .postScriptParams += ["--runtime-dir", $r]' "$doors/VMSnapshotScriptPluginConfig.json" >"$lab/azure/plugin.json"
	writers
	code=0
	# shellcheck disable=SC2016
	"$peers/azure-scripts.py" "$lab/azure/plugin.json" sh -c 'grep -q Freeze "$1" && ! grep -q Thaw "$1"' sh \
		"$lab/Back.events" >"$lab/out" 2>"$lab/err" || code=$?
	check "application consistent" equal "$code" 0
	let_go
	writers --on 'Freeze=once:fail:non-retryable:no'
	"$peers/azure-scripts.py" "$lab/azure/plugin.json" touch "$lab/made" >"$lab/out" 2>"$lab/err" || code=$?
	check "a writer's failure is no backup" equal "$code" 1
	check "and it is not made" refuse test -e "$lab/made"
	let_go
	writers
	code=0
	"$build/requestor/vssctl" hook freeze --name azure --runtime-dir "$lab/hook" --bad >/dev/null 2>&1 || code=$?
	check "wrong usage of vssctl" equal "$code" 2
	code=0
	sh "$lab/azure/azure-pre-script" --bad >/dev/null 2>&1 || code=$?
	check "is no mere warning there" equal "$code" 1
	[ "$(scene_level short short long)" = short ] || azure_hang
}

qga() {
	"$peers/qga.py" "$lab/qga" "$@" >"$lab/out" 2>"$lab/err"
}

# Should the test end in between: what is frozen cannot be unmounted.
thaw_mine() {
	fsfreeze --unfreeze "$lab/frozen" 2>/dev/null || true
}

freeze_mine() {
	qga guest-fsfreeze-freeze-list "{\"mountpoints\": [\"$lab/frozen\"]}"
}

# In a mount namespace of its own, and with nothing that it could freeze but what is named to it.
start_agent() {
	printf '[general]\nfsfreeze-hook=%s\n' "${1:-$lab/fsfreeze-hook}" >"$lab/qga.conf"
	lab_spawn qga lab_alone "$lab/frozen" env QGA_CONF="$lab/qga.conf" qemu-ga -m unix-listen -p "$lab/qga" -t "$lab/qga-state" \
		-f "$lab/qga-state/pid" -b guest-fsfreeze-freeze
	lab_wait 10 qga guest-ping || lab_die "qemu-ga does not start: $(cat "$lab/qga.log")"
}

# As the stock agent is not better at it: a hook that hangs holds up the agent, which freezes when nobody waits any more;
# and an agent that is killed leaves the filesystem frozen, until another one thaws it.
qemu_hard() {
	begin "a writer that hangs"
	writers --on Freeze=hang
	VSS_HOOK_OPTIONS="--runtime-dir $lab/hook --timeout 3" start_agent
	check "the agent answers in time" refuse freeze_mine
	check "as its hook did" contains "$lab/out" "GenericError.*fsfreeze hook has failed with status 75"
	qga guest-fsfreeze-status || true
	check "nothing is frozen" contains "$lab/out" '"return": "thawed"'
	front_let_go
	lab_stop qga
	begin "the agent is killed while all is frozen"
	writers
	VSS_HOOK_OPTIONS="--runtime-dir $lab/hook --limit 2" start_agent
	check "the agent freezes" freeze_mine
	held
	lab_stop qga KILL
	check "all run again by themselves" lab_wait 6 none_frozen
	start_agent
	check "the next one's thaw tells that the hold broke" refuse qga guest-fsfreeze-thaw
	check "as its hook did" contains "$lab/out" "GenericError.*fsfreeze hook has failed with status 75"
	qga guest-fsfreeze-status || true
	check "nothing stays frozen" contains "$lab/out" '"return": "thawed"'
	lab_stop qga
}

# The distribution's dispatcher, as it is, with vssd's hook among those that it runs: all are held, but it forgets exit codes.
qemu_dispatcher() {
	begin "QEMU's guest agent, with its distribution's dispatcher"
	if [ ! -e /etc/qemu/fsfreeze-hook ]; then
		lab_note "skipped: this distribution has none"
		return 0
	fi
	mkdir -p "$lab/etc/fsfreeze-hook.d"
	sed "s|^LOGFILE=.*|LOGFILE=$lab/dispatcher.log|" /etc/qemu/fsfreeze-hook >"$lab/etc/fsfreeze-hook"
	install -m 755 "$doors/fsfreeze-hook" "$lab/etc/fsfreeze-hook.d/vssd"
	chmod 755 "$lab/etc/fsfreeze-hook"
	start_agent "$lab/etc/fsfreeze-hook"
	writers
	check "the agent freezes" freeze_mine
	held
	check "the agent thaws" qga guest-fsfreeze-thaw
	check "all have thawed" scene_heard Front Thaw
	let_go
	writers --on 'Freeze=once:fail:non-retryable:no'
	check "a writer's failure is not the agent's: it freezes" freeze_mine
	check "the log alone has it" contains "$lab/dispatcher.log" "finished with status=1"
	check "nobody is held" none_frozen
	check "the agent thaws" qga guest-fsfreeze-thaw
	lab_stop qga
}

qemu() {
	begin "QEMU's guest agent"
	if ! command -v qemu-ga mkfs.ext4 >/dev/null; then
		lab_note "skipped: needs qemu-ga and mkfs.ext4"
		return 0
	fi
	truncate -s 64M "$lab/frozen.img"
	mkfs.ext4 -q "$lab/frozen.img"
	mkdir "$lab/frozen" "$lab/qga-state"
	mount -o loop "$lab/frozen.img" "$lab/frozen"
	lab_defer lab_unmount "$lab/frozen"
	lab_defer thaw_mine
	install -m 755 "$doors/fsfreeze-hook" "$lab/fsfreeze-hook"
	start_agent
	writers
	check "the agent freezes" freeze_mine
	check "one filesystem" contains "$lab/out" '"return": 1'
	seen "frozen after"
	held
	check "the agent thaws" qga guest-fsfreeze-thaw
	check "all have thawed" scene_heard Front Thaw
	let_go
	check "thaw without freeze" qga guest-fsfreeze-thaw
	begin "a writer's failure reaches the hypervisor"
	writers --on 'Freeze=once:fail:non-retryable:no'
	check "the agent fails" refuse freeze_mine
	check "as its hook did" contains "$lab/out" "GenericError.*fsfreeze hook has failed with status 1"
	qga guest-fsfreeze-status || true
	check "nothing is frozen" contains "$lab/out" '"return": "thawed"'
	let_go
	begin "a hold that broke reaches the hypervisor"
	writers --on 'Freeze=once:break'
	check "the agent freezes" freeze_mine
	check "its thaw fails" refuse qga guest-fsfreeze-thaw
	check "as its hook did" contains "$lab/out" "GenericError.*fsfreeze hook has failed"
	qga guest-fsfreeze-status || true
	check "but nothing stays frozen" contains "$lab/out" '"return": "thawed"'
	let_go
	begin "the hypervisor is gone while all is frozen"
	writers
	check "the agent freezes" freeze_mine
	sleep 0.2
	check "writers have their limit" is_frozen Back
	check "thaw" qga guest-fsfreeze-thaw
	let_go
	lab_stop qga
	qemu_dispatcher
	[ "$(scene_level short short long)" = short ] || qemu_hard
}

# ---- their hooks, as writers ----

# A foreign hook in $lab/foreign/DIRECTORY that logs and may fail.
put_foreign() {
	mkdir -p "$lab/foreign/$1"
	# shellcheck disable=SC2016
	printf '#!/bin/sh\necho "%s ${1:-}" >>%s\n%s\n' "$2" "$lab/hooks.log" "${3:-}" >"$lab/foreign/$1/$2"
	chmod 700 "$lab/foreign/$1/$2"
}

foreign_log() {
	sort "$lab/hooks.log" | paste -sd ,
	: >"$lab/hooks.log"
}

foreign_writers_there() {
	equal "$(vssctl list writers --json | jq -r '.writers[] | select(.Present) | .Name' | grep -c -e Agent -e VMware -e Azure)" 3 >/dev/null
}

foreign() {
	local format examples
	declare -A places=([qemu-hooks]=/etc/qemu/fsfreeze-hook.d [vmware-scripts]=/etc/vmware-tools/backupScripts.d
		[azure-plugin]=/etc/azure/VMSnapshotScriptPluginConfig.json)

	begin "foreign hooks as writers, by the example configurations"
	if [ ! -x "$build/writers/script/vss-script-writer" ]; then
		lab_note "skipped: built without script writers"
		return 0
	fi
	examples=$(dirname "$0")/../../writers/script/examples
	scene_end_writer Front Back
	put_foreign qemu-hooks one
	put_foreign qemu-hooks two
	put_foreign vmware-scripts a
	put_foreign vmware-scripts b
	put_foreign azure pre
	put_foreign azure post
	jq -n --arg d "$lab/foreign/azure" '{ pluginName: "ScriptRunner", preScriptLocation: ($d + "/pre"),
		postScriptLocation: ($d + "/post"), continueBackupOnFailure: true, timeoutInSeconds: 10 }' >"$lab/foreign/azure-plugin"
	for format in "${!places[@]}"; do
		check "the example names the usual place" grep -q "=${places[$format]}\$" "$examples/$format.conf"
		sed "s|${places[$format]}|$lab/foreign/$format|" "$examples/$format.conf" >"$lab/$format.conf"
	done
	lab_spawn foreign "$build/writers/script/vss-script-writer" --runtime-dir "$lab/foreign-run" \
		"$lab"/{qemu-hooks,vmware-scripts,azure-plugin}.conf
	lab_wait 10 foreign_writers_there || lab_die "$(cat "$lab/foreign.log")"
	: >"$lab/hooks.log"
	try create shadow --for "$volume" --json
	check "a set" equal "$code" 0
	check "is application consistent" equal "$(scene_result .Consistency)" application
	check "all were called" equal "$(foreign_log)" \
		"a freeze,a thaw,b freeze,b thaw,one freeze,one thaw,post ,pre ,two freeze,two thaw"
	put_foreign qemu-hooks two 'echo no >&2; [ "$1" = thaw ]'
	try create shadow --for "$volume"
	check "an exit code counts" equal "$code" 1
	check "in the hook's words" contains "$lab/err" "QEMU Guest Agent Hooks' failed at Freeze: .*no"
	check "no copy" scene_one_copy
	put_foreign qemu-hooks two
	put_foreign azure pre 'exit 1'
	try create shadow --for "$volume" --json
	check "continueBackupOnFailure goes on" equal "$code" 0
	check "with a lower label" equal "$(scene_result .Consistency)" filesystem
	check "and the reason" contains "$lab/out" "pre ended with exit code 1"
	hook freeze
	check "through a door" equal "$code" 0
	: >"$lab/hooks.log"
	hook freezeFail
	check "freezeFail" equal "$code" 0
	lab_wait 3 scene_no_session || true
	check "reaches them" contains "$lab/hooks.log" "^b freezeFail"
	lab_stop foreign
	scene_clear
}

scene_one_copy() {
	equal "$(vssctl list shadows --for "$volume" --json | jq '.shadows | length')" 1
}

scene_start "$1" python3
scene_configure Freeze=30s PrepareBackup=5s PrepareSnapshot=5s Event=5s
mkdir "$lab/elsewhere"
scene_gated_vssd
wrapper_environment
for part in ${DOORS_PARTS:-plain second other_set no_thaw bad_freeze broken killed vssd_ends vmware azure qemu foreign}; do
	"$part"
done
scene_done
