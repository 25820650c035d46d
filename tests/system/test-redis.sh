#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A real Redis server under load: sets on btrfs, restored on a second server, and every acknowledged write counted; then its bad
# days: it hangs, dies, refuses, its pause expires, the writer is killed while it is held.
# Usage: test-redis.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/redis.sh
. "$(dirname "$0")/redis.sh"

# good_set WAY FROM-EVENT OPTION...: made, restored, counted. FROM-EVENT: since when nothing may be missing.
good_set() {
	local way=$1 from=$2 to

	shift 2
	: >"$lab/Clock.events"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	set=$(scene_result .Set)
	to=$(scene_when Clock Thaw)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	check "the copy says which way it went" equal "$(document .Way)" "$way"
	check "and how it is restored" contains <(document .Restore) "put the files back"
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$(scene_result '.Shadows[0].Shadow')" "$lab/exposed" >/dev/null
	cp -a "$lab/exposed/redis" "$lab/s/restored"
	vssctl unexpose --shadow "$(scene_result '.Shadows[0].Shadow')" >/dev/null
	redis_server restored "$lab/s/restored" "$@"
	check "every promise is kept" redis_promises "${from:-$(scene_when Clock Freeze)}" "$to" restored
	lab_stop restored
	rm -r "$lab/s/restored"
	check "the server is writable" is_writable
	vssctl delete shadows --set "$set" -y >/dev/null
	seen "restored"
}

has_rewritten() {
	redis_ask main INFO persistence | grep -q "aof_rewrite_in_progress:0"
}

restart() {
	kill -KILL "$(redis_pid)"
	wait "${lab_pid[main]}" 2>/dev/null || true
	redis_server main "$volume/redis" --appendonly yes
}

kill_writer() {
	kill -KILL "${lab_pid[writer]}"
}

# Sets of another server than the one that the ledger writes to.
older() {
	begin "Redis before 6.2"
	lab_spawn older python3 "$(dirname "$0")/older-server.py" redis "$lab/s/older.sock" "$lab/s/main.sock" 6.0.16
	lab_wait 10 test -S "$lab/s/older.sock"
	redis_first=older redis_writer
	try create shadow --for "$volume"
	fails "PrepareSnapshot: .*The server, version 6\.0\.16, cannot hold its writes alone (CLIENT PAUSE WRITE), as Redis before 6\.2"
	check "trying again is not suggested" equal "$code" 1
	lab_stop older

	begin "a server without some of its commands"
	install -d -o "$redis_user" -g "$redis_group" "$volume/bare"
	redis_server bare "$volume/bare" --rename-command CLIENT ""
	redis_writer "Socket=$lab/s/bare.sock"
	try create shadow --for "$volume"
	fails "PrepareSnapshot: .*CLIENT PAUSE: ERR unknown command.*rename-command"
	check "trying again is not suggested" equal "$code" 1
	lab_stop bare
}

bad_days() {
	begin "the server hangs before Freeze"
	during flush kill -STOP "$(redis_pid)"
	kill -CONT "$(redis_pid)"
	fails "Freeze: .*CLIENT PAUSE: the server does not answer within the limit"
	check "it is writable" is_writable

	begin "the server hangs while the copies are made"
	during cut kill -STOP "$(redis_pid)"
	kill -CONT "$(redis_pid)"
	fails "Thaw: .*the server does not answer within the limit"
	check "it is writable at once" is_writable

	begin "the server is killed before Freeze"
	during flush restart
	fails "Freeze: .*the server ended the connection"
	begin "the server is killed while the copies are made"
	during cut restart
	fails "Thaw: .*the server ended the connection"
	check "it is writable" is_writable

	begin "the pause is ended by somebody else while the copies are made"
	during cut redis_ask main CLIENT UNPAUSE >/dev/null
	fails "Thaw: .*somebody else ended the pause"

	begin "the pause expires"
	redis_writer PauseLimit=200ms
	during cut true
	fails "Thaw: .*PauseLimit"
	check "it is writable at once" is_writable

	begin "the writer is killed while the server is held"
	redis_writer PauseLimit=3s
	during cut kill_writer
	check "the set fails" differ "$code" 0
	check "the server is writable within the limit" lab_wait 4 is_writable 2>/dev/null
	wait "${lab_pid[writer]}" 2>/dev/null || true
	unset "lab_pid[writer]"

	begin "a wrong password"
	redis_ask main CONFIG SET requirepass right >/dev/null
	echo wrong >"$lab/password"
	mkdir -p "$lab/etc"
	printf 'port 0\nunixsocket %s\ndir %s\n' "$lab/s/main.sock" "$volume/redis" >"$lab/etc/main.conf"
	redis_writer "PasswordFile=$lab/password"
	try create shadow --for "$volume"
	fails "PrepareSnapshot: .*AUTH: WRONGPASS.*correct User="
	echo right >"$lab/password"
	redis_writer "PasswordFile=$lab/password"
	try create shadow --for "$volume"
	check "and with the right one the set is made" equal "$code" 0
	redis_ask main -a right --no-auth-warning CONFIG SET requirepass "" >/dev/null

	older

	begin "the server does not run"
	lab_stop ledger
	lab_stop main
	redis_writer
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	check "of the files as they are" equal "$(document .Way)" offline
}

scene_start "$1" redis-server redis-cli setpriv
[ -x "$build/writers/redis/vss-redis-writer" ] || scene_skip "the writer is not built"
redis_begin
install -d -o "$redis_user" -g "$redis_group" "$volume/redis"
redis_server main "$volume/redis" --appendonly yes --appendfsync everysec
scene_configure PrepareSnapshot=5s Freeze=5s Event=20s
scene_gated_vssd
redis_writer
# It is the last to prepare, so that there is a flush to be kept from.
scene_writer Clock --all-volumes --on PrepareSnapshot=delay:400
redis_ledger
sleep 0.5
for ((round = 1; round <= $(scene_level 1 1 20); round++)); do
	for policy in everysec always; do
		begin "append-only file, fsync $policy, round $round"
		redis_ask main CONFIG SET appendfsync "$policy" >/dev/null
		good_set "append-only file" "" --appendonly yes
	done
	begin "dump, round $round"
	redis_ask main CONFIG SET appendonly no >/dev/null
	since=$(scene_now)
	good_set dump "$since"
	redis_ask main CONFIG SET appendonly yes >/dev/null
	lab_wait 10 has_rewritten
done
bad_days
lab_note "$entries entries were found again"
scene_done
