#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Redis servers that are several, replicas, full, out of connections or busy, in each phase of a set: the server runs on, the writer's
# words say why, the next set works; and what a rehearsal says of them.
# Usage: test-redis-failures.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/redis.sh
. "$(dirname "$0")/redis.sh"

# The other half of the cases, before a release.
thorough() {
	[ -n "$(scene_level "" "" yes)" ]
}

next_set_works() {
	check "it is writable" is_writable
	try create shadow --for "$volume" --json
	check "the next set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	set=$(scene_result .Set)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	check "its way" equal "$(document '."redis/main".Way')" "${1:-append-only file}"
	vssctl delete shadows --set "$set" -y >/dev/null
	seen "over"
}

# A rehearsal: its text is in $lab/out, its document in $lab/json, its exit code in $code.
rehearse() {
	vssctl verify --for "$volume" --json >"$lab/json" 2>/dev/null || true
	try verify --for "$volume"
}

# says VERDICT COMPONENT CHECK WORDS: the last rehearsal does, as text and as JSON.
says() {
	check "verify says $3 of $2" contains "$lab/out" "\\[$1\\] $2: $3: .*$4"
	check "and so does its document" contains <(jq -r '.. | objects | select(.Check?) | "\(.Verdict) \(.Object) \(.Check): \(.Text)"' "$lab/json") \
		"^$1 $2 $3: .*$4"
}

components() {
	scene_row Redis '[.Components[].Name] | sort | join(" ")'
}

# ---- several ----

config() { # NAME PORT ADDRESS
	mkdir -p "$lab/etc"
	printf '# %s\nport %s\nbind %s\ndir %s\n' "$1" "$2" "$3" "$volume/$1" >"$lab/etc/$1.conf"
}

spawn_two() {
	redis_server two "$volume/two" --port "$port" --bind 127.0.0.2 --protected-mode no --appendonly yes
}

several() {
	begin "two servers on one port of two addresses"
	port=$((20000 + RANDOM % 10000))
	install -d -o "$redis_user" -g "$redis_group" "$volume/one" "$volume/two"
	redis_server one "$volume/one" --port "$port" --bind 127.0.0.1 --appendonly yes
	spawn_two
	config one "$port" 127.0.0.1
	config two "$port" "127.0.0.2 -::1"
	printf 'port 26379\ndir /tmp\nsentinel monitor main 127.0.0.1 6379 1\n' >"$lab/etc/sentinel.conf"
	redis_writer "Socket=$lab/s/one.sock" # and by its configuration
	check "they are two, beside the first" equal "$(components)" "127.0.0.2:$port $port main"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	check "of three servers" equal "$(document .RunId | wc -l)" 3
	check "each of its files" equal "$(document ".\"redis/127.0.0.2:$port\".Files[0].Path")" "$volume/two"
	check "and of no other's" equal "$(document ".\"redis/$port\".Files[0].Path")" "$volume/one"
	if thorough; then
		redis_writer "Socket=$lab/s/one.sock;$lab/s/two.sock"
		check "by their sockets they are the same two" equal "$(components)" "127.0.0.2:$port $port main"
		redis_writer
	fi

	begin "one of several does not run"
	lab_stop two
	rehearse
	says ok "redis/127.0.0.2:$port" server "does not run: the files are copied as they are"
	says ok "redis/$port" server "answers, version"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	check "the one that runs is held" equal "$(document ".\"redis/$port\".Way")" "append-only file"
	check "the other's files are copied as they are" equal "$(document ".\"redis/127.0.0.2:$port\".Way")" offline
	check "which is said" contains <(document ".\"redis/127.0.0.2:$port\".Restore") "^The server did not run\."
	during cut spawn_two
	fails "redis/127.0.0.2:$port: The server was started while the copies were made" Thaw

	if thorough; then one_hangs; fi
	impostor
	lab_stop one
	lab_stop two
	rm "$lab/etc/"*.conf
}

one_hangs() {
	begin "one of several hangs"
	kill -STOP "$(redis_pid two)"
	try create shadow --for "$volume"
	fails "redis/127.0.0.2:$port: INFO: the server does not answer within the limit" PrepareSnapshot
	check "the others are not blamed" refuse grep -q "redis/$port: \|redis/main: " "$lab/err"
	rehearse
	check "a rehearsal fails" equal "$code" 1
	says bad "redis/127.0.0.2:$port" server "does not answer within the limit"
	try create shadow --for "$volume" --on-writer-failure=degrade --json
	check "whoever takes less gets a copy" equal "$code" 0
	check "which is not called consistent for it" contains <(scene_result '.Consistency + ": " + .ConsistencyReason') \
		"^filesystem: .*redis/127.0.0.2:$port: "
	check "the others are writable" is_writable one
	kill -CONT "$(redis_pid two)"
	check "so is it" is_writable two
	next_set_works
}

# What a process calls itself is not known to be true.
impostor() {
	local title

	begin "a process that calls itself a server is not told the password of all"
	port=$((port + 1)) title="redis-server 127.0.0.1:$((port))"
	(exec -a "$title" /usr/bin/python3 -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client = listener.accept()[0]
    print(client.recv(65536), flush=True)
    client.close()' "$port") >"$lab/heard" 2>&1 &
	lab_pid[impostor]=$!
	echo secret >"$lab/password"
	printf '[Redis]\nSocket=%s\nProcesses=yes\nPasswordFile=%s\n' "$lab/s/one.sock" "$lab/password" >"$lab/seen.conf"
	lab_wait 5 heard "" seen.conf
	check "it is told nothing" refuse grep -q secret "$lab/heard"
	printf '[Server redis/%s]\nPasswordFile=%s\n' "$port" "$lab/password" >>"$lab/seen.conf"
	check "unless the administrator says so" heard secret seen.conf
	lab_stop impostor
}

heard() { # WORD CONFIGURATION
	"$build/writers/redis/vss-redis-writer" --config "$lab/$2" --check >"$lab/check" && grep -q "$1" "$lab/heard"
}

# ---- what a rehearsal says ----

rehearsal() {
	begin "a rehearsal"
	rehearse
	check "it succeeds" equal "$code" 0
	says ok redis/main role "master, without replicas"
	says ok redis/main pausable "its writes can be held"
	says ok redis/main "append-only file" "on, fsync everysec"
	says ok redis/main files "all on volumes of the set"
	check "its document keeps to the schema" python3 "$(dirname "$0")/../bus/check-schema.py" \
		"$(dirname "$0")/../../docs/vssctl.schema.json" "$lab/json"
	redis_ask main CONFIG SET appendonly no >/dev/null
	rehearse
	says ok redis/main "append-only file" "off: a dump is saved before the copy"
	redis_ask main CONFIG SET appendonly yes >/dev/null
	lab_wait 10 has_rewritten
}

has_rewritten() {
	redis_ask main INFO persistence | grep -q "aof_rewrite_in_progress:0"
}

# ---- replicas ----

is_connected() {
	redis_ask replica INFO replication | grep -q master_link_status:up
}

replica_of_main() {
	local begin to

	begin "a replica"
	install -d -o "$redis_user" -g "$redis_group" "$volume/replica"
	port=$((20000 + RANDOM % 10000))
	lab_stop main
	redis_server main "$volume/redis" --port "$port" --appendonly yes --repl-diskless-sync-delay 0 --enable-debug-command yes
	redis_server replica "$volume/replica" --replicaof "127.0.0.1 $port" --appendonly yes
	check "it is connected" lab_wait 20 is_connected
	redis_writer "Socket=$lab/s/replica.sock"
	check "it is a component of its own" equal "$(components)" "$port replica"
	rehearse
	says ok redis/replica role "replica of 127.0.0.1:$port, connected to it"
	says ok "redis/$port" role "master, 1 replica"
	says ok redis/replica pausable "its writes can be held"
	: >"$lab/Clock.events"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	begin=$(scene_when Clock Freeze) to=$(scene_when Clock Thaw)
	check "both roles are in its document" equal "$(document .Role | tr '\n' ' ')" "master replica "
	check "with its master" equal "$(document '."redis/replica" | objects | "\(.Master) \(.Connected) \(.Held) \(.Way)"')" \
		"127.0.0.1:$port true true append-only file"
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$(scene_result '.Shadows[0].Shadow')" "$lab/exposed" >/dev/null
	cp -a "$lab/exposed/redis" "$lab/s/restored"
	cp -a "$lab/exposed/replica" "$lab/s/restored-replica"
	vssctl unexpose --shadow "$(scene_result '.Shadows[0].Shadow')" >/dev/null
	redis_server restored "$lab/s/restored" --appendonly yes
	check "the master is restored" redis_promises "$begin" "$to" restored
	lab_stop restored
	redis_server restored "$lab/s/restored-replica" --appendonly yes
	# It has what its master had sent it by then, without a hole.
	check "the replica is restored" redis_promises 0 "$to" restored
	check "with what was there" differ "$(redis_ask restored ZCARD ledger:1)" 0
	lab_stop restored
	check "it takes its master's writes again" lab_wait 5 is_in_step

	if thorough; then master_goes; fi
	lab_stop replica
	rm -r "$lab/s/restored" "$lab/s/restored-replica"
	lab_stop main
	redis_server main "$volume/redis" --appendonly yes --enable-debug-command yes
	redis_writer
}

master_goes() {
	begin "a replica whose master has gone"
	redis_ask main CONFIG SET masterauth "" >/dev/null
	redis_ask replica REPLICAOF 127.0.0.1 1 >/dev/null
	rehearse
	says ok redis/replica role "replica of 127.0.0.1:1, not connected to it"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	check "and says so" equal "$(document '."redis/replica" | objects | "\(.Connected) \(.Master)"')" "false 127.0.0.1:1"
}

is_in_step() {
	redis_ask main SET step "$RANDOM$RANDOM" >/dev/null
	sleep 0.1
	[ "$(redis_ask main GET step)" = "$(redis_ask replica GET step)" ]
}

# ---- full disk ----

# room KIB: takes all but that of the filesystem.
room() {
	local left size

	while left=$(df --output=avail "$lab/v" | tail -n 1) && [ "$left" -gt "$1" ]; do
		size=$((left - $1))
		until fallocate -l "${size}K" "$volume/fill.$RANDOM$RANDOM" 2>/dev/null; do
			size=$((size / 2))
			[ "$size" -ge 128 ] || return 0
		done
	done
}

# For the server, by a quota: vssd itself makes no copy where there is no room for its record.
fill() {
	quota 1M
	check "the server refuses writes" lab_wait 15 is_full
}

# By the top's directory: the subvolume itself cannot even be told when it is full.
quota() {
	btrfs qgroup limit "$1" "0/$(btrfs inspect-internal rootid "$volume")" "$lab/v"
}

is_full() {
	redis_ask main SET probe 1 2>&1 | grep -q MISCONF
}

make_room() {
	rm -f "$volume"/fill.*
	quota none
	btrfs filesystem sync "$lab/v" # only then is it free
	check "the server takes writes again by itself" lab_wait 15 is_writable 2>/dev/null
}

full_disk() {
	begin "the disk is full before the set"
	btrfs quota enable "$lab/v"
	fill
	try create shadow --for "$volume"
	fails "cannot write its append-only file, and refuses writes: is there room in $volume/redis" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	rehearse
	says bad redis/main "append-only file" "The server cannot write its append-only file"
	make_room
	next_set_works

	thorough || return 0
	begin "the disk becomes full before Freeze"
	during flush fill
	fails "cannot write its append-only file, and refuses writes" Freeze
	make_room
	next_set_works

	begin "the disk becomes full while the copies are made"
	during cut quota 1M # its writes are held: nobody is refused
	check "the set is made" equal "$code" 0
	make_room
	next_set_works

	begin "no room for a dump"
	redis_ask main CONFIG SET appendonly no >/dev/null
	redis_ask main CONFIG SET save "3600 1" >/dev/null
	head -c 16M /dev/urandom | redis_ask main -x SET big >/dev/null
	check "a dump is there" equal "$(redis_ask main SAVE)" OK
	room 8192
	try create shadow --for "$volume"
	fails "BGSAVE: $volume/redis has room for .* KiB, and the last dump had" PrepareSnapshot
	check "the server is not made to refuse writes" is_writable
	make_room
	next_set_works dump
	redis_ask main CONFIG SET save "" >/dev/null
	redis_ask main CONFIG SET appendonly yes >/dev/null
	lab_wait 10 has_rewritten
}

# ---- connections ----

# A connection that is there before the others run out.
no_connection() {
	begin "no connection is free"
	mkfifo "$lab/keep"
	redis-cli -s "$lab/s/main.sock" <"$lab/keep" >"$lab/keep.log" 2>&1 &
	lab_pid[keep]=$!
	exec {keep}>"$lab/keep"
	connections 2
	check "nobody else comes in" lab_wait 5 is_refused
	try create shadow --for "$volume"
	fails "INFO: ERR max number of clients reached: raise maxclients, or see who has the connections" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	connections 1000
	check "others come in" lab_wait 5 redis_answers main
	next_set_works

	if thorough; then
		begin "no connection is free from Freeze on"
		during flush connections_run_out
		check "the set is made: the writer has one" equal "$code" 0
		connections 1000
		check "others come in" lab_wait 5 redis_answers main
		next_set_works
	fi
	exec {keep}>&-
	lab_stop keep
}

connections() {
	echo "CONFIG SET maxclients $1" >&"$keep"
}

connections_run_out() {
	connections 2
	check "nobody else comes in" lab_wait 5 is_refused
}

is_refused() {
	redis_ask main PING 2>&1 | grep -q "max number of clients"
}

# ---- slow commands ----

# A script that only reads runs in a pause as well. It says when it has begun.
script() { # SECONDS
	redis_ask main CONFIG SET busy-reply-threshold 50 >/dev/null
	redis-cli -s "$lab/s/main.sock" EVAL_RO "local function now() local t = redis.call('TIME') return t[1] + t[2] / 1000000 end
		local e = now() + $1 while now() < e do end return 1" 0 >"$lab/script.log" 2>&1 &
	lab_pid[script]=$!
	lab_wait 5 is_busy || lab_die "the script does not run"
}

is_busy() {
	redis_ask main PING 2>&1 | grep -q BUSY
}

script_ends() {
	redis_ask main SCRIPT KILL >/dev/null 2>&1 || true
	lab_stop script
}

slow_commands() {
	local busy="BUSY Redis is busy running a script.*: a script or function is in the way: wait for its end, or end it with SCRIPT KILL"

	# Else its writes would be held until PauseLimit.
	begin "a script is in the way of Thaw"
	since=$SECONDS
	during cut script 3.5
	fails "redis/main: INFO: $busy" Thaw
	check "it is writable as soon as the script has ended" lab_wait 5 is_writable 2>/dev/null
	check "not only when the pause is over" at_most $((SECONDS - since)) 30
	lab_stop script
	next_set_works

	thorough || return 0
	begin "a short script is waited for"
	script 0.5
	try create shadow --for "$volume"
	check "the set is made" equal "$code" 0
	lab_stop script

	begin "a script is in the way before the set"
	script 60
	try create shadow --for "$volume"
	fails "redis/main: INFO: $busy" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	rehearse
	says bad redis/main server "$busy"
	script_ends
	next_set_works

	begin "a script is in the way of Freeze"
	during flush script 60
	fails "redis/main: CLIENT PAUSE: $busy" Freeze
	script_ends
	next_set_works

	begin "a slow command is in the way, in each phase"
	sleeps 4
	try create shadow --for "$volume"
	fails "redis/main: INFO: the server does not answer within the limit (CommandLimit=): it hangs, or a slow command" PrepareSnapshot
	lab_stop sleeper
	lab_wait 5 redis_answers main
	next_set_works
	during flush sleeps 4
	fails "redis/main: CLIENT PAUSE: the server does not answer within the limit" Freeze
	lab_wait 5 redis_answers main
	next_set_works
	during cut sleeps 4
	fails "redis/main: INFO: the server does not answer within the limit" Thaw
	lab_wait 5 redis_answers main
	next_set_works
}

sleeps() {
	redis-cli -s "$lab/s/main.sock" DEBUG SLEEP "$1" >/dev/null 2>&1 &
	lab_pid[sleeper]=$!
	sleep 0.2
}

scene_start "$1" redis-server redis-cli setpriv fallocate python3
[ -x "$build/writers/redis/vss-redis-writer" ] || scene_skip "the writer is not built"
redis_begin
install -d -o "$redis_user" -g "$redis_group" "$volume/redis"
redis_server main "$volume/redis" --appendonly yes --appendfsync everysec --enable-debug-command yes
scene_configure PrepareSnapshot=5s Freeze=5s Event=20s
scene_gated_vssd
redis_writer
# It is the last to prepare, so that there is a flush to be kept from.
scene_writer Clock --all-volumes --level system --on PrepareSnapshot=delay:400
redis_ledger
several
rehearsal
replica_of_main
full_disk
no_connection
slow_commands
scene_done
