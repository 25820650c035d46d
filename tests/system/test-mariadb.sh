#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A real MariaDB server under load: sets on btrfs, restored, every acknowledged write counted; and its bad days: refused, hanging,
# killed, statements in the way. The server runs on, the writer's words say why, the next set works.
# Usage: test-mariadb.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/mariadb.sh
. "$(dirname "$0")/mariadb.sh"

restored() {
	local copy

	begin "under load, round $1"
	good_set || return 0
	copy=$(scene_result '.Shadows[0].Shadow')
	check "the copy names its way" equal "$(maria_document .Way)" backup-stage
	check "and its place in the binlog" contains <(maria_document '"\(.BinlogFile) \(.BinlogPosition) \(.GtidBinlogPos)"') "^binlog\.[0-9]* [0-9]* 0-7-[0-9]*$"
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$copy" "$lab/exposed" >/dev/null
	btrfs --quiet subvolume snapshot "$lab/exposed" "$lab/d/restored/a"
	vssctl unexpose --shadow "$copy" >/dev/null
	maria_data[restored]=$lab/d/restored/a/mysql
	cp "$lab/main.cnf" "$lab/restored.cnf"
	check "a server starts on the copy" maria_start restored
	maria_sql restored "SELECT thread, count(*), max(number) FROM test.ledger WHERE thread < 90 GROUP BY thread" >"$lab/rows" || true
	check "every promise is kept" maria_promises "$(scene_when Clock Freeze)" "$(scene_when Clock Thaw)" "$lab/rows"
	# The clock is frozen after the server and thawed before it. Each thread may note late what came in time.
	check "nothing was acknowledged while it was held" at_most "$(maria_acknowledged "$(scene_when Clock Freeze)" "$(scene_when Clock Thaw)")" 4
	check "its tables are in order" contains <(maria_sql restored "CHECK TABLE test.ledger, test.old") "status.OK"
	check "no table is damaged" refuse grep -qi 'error\|crashed' <(maria_sql restored "CHECK TABLE test.ledger")
	check "the binlog ends where the copy says" equal "$(maria_sql restored "SELECT @@gtid_binlog_pos")" "$(maria_document .GtidBinlogPos)"
	lab_stop restored KILL
	seen "restored"
	btrfs --quiet subvolume delete "$lab/d/restored/a"
	drop
}

server_is_harmed() {
	begin "the server crashes before Freeze"
	during flush crash
	fails "the server ended the connection" Freeze
	next_set_works

	begin "the server crashes while it is held"
	during cut crash
	fails "the server ended the connection" Thaw
	next_set_works

	begin "somebody kills the connection while it is held"
	during cut kill_holder
	fails "the server ended the connection" Thaw
	next_set_works

	begin "the server hangs before Freeze"
	during flush hang
	kill -CONT "${lab_pid[main]}"
	fails "the server does not answer within the limit" Freeze
	next_set_works

	begin "the server hangs before the set"
	hang
	try create shadow --for "$data"
	kill -CONT "${lab_pid[main]}"
	fails "Connecting: the server does not answer within the limit" PrepareSnapshot
	next_set_works
}

kill_holder() {
	maria_sql main "KILL CONNECTION $(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Sleep' AND USER = 'mysql' AND DB IS NULL")"
}

statement_in_the_way() {
	local sleeper

	begin "a long statement stands in the way"
	(as_mysql mariadb --no-defaults -u mysql -S "$lab/s/main.sock" -e "UPDATE test.old SET number = 3 WHERE SLEEP(12) = 0") >/dev/null 2>&1 &
	sleeper=$!
	lab_wait 5 is_sleeping
	try create shadow --for "$data"
	fails "holds it up\|does not answer within the limit"
	check "trying again may help" equal "$code" 75
	maria_sql main "KILL QUERY $(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE test.old%'")" || true
	wait "$sleeper" || true
	next_set_works
}

is_sleeping() {
	maria_sql main "SELECT STATE FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE test.old%'" | grep -q sleep
}

server_refuses() {
	begin "a user that does not exist"
	printf '[client]\nuser=nobody_here\npassword=Secret4711\n' >"$lab/s/client.cnf"
	maria_rewriter "OptionFile=$lab/s/client.cnf"
	try create shadow --for "$data"
	fails "The server cannot be connected to: Access denied for user 'nobody_here'" PrepareSnapshot
	check "trying again is not suggested" equal "$code" 1
	check "the password is nowhere" refuse grep -q Secret4711 "$lab/writer.log" "$lab/err" "$lab/vssd.log"

	begin "a user that may not"
	maria_sql main "CREATE USER limited@localhost IDENTIFIED BY 'Secret4711'"
	printf '[client]\nuser=limited\npassword=Secret4711\n' >"$lab/s/client.cnf"
	try create shadow --for "$data"
	fails "Access denied; you need" PrepareSnapshot

	begin "no connection is free"
	maria_sql main "GRANT ALL ON *.* TO limited@localhost; ALTER USER limited@localhost WITH MAX_USER_CONNECTIONS 1"
	(as_mysql mariadb --no-defaults -u limited -pSecret4711 -S "$lab/s/main.sock" -e "SELECT SLEEP(20)") >/dev/null 2>&1 &
	lab_wait 5 limited_is_there
	try create shadow --for "$data"
	fails "The server cannot be connected to: .*max_user_connections" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	maria_sql main "KILL CONNECTION $(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'limited'")"
	maria_rewriter
	next_set_works
}

# older VERSION: a server of such a version, in front of the real one.
older() {
	lab_stop older
	rm -f "$lab/s/older.sock"
	lab_spawn older setpriv --reuid=mysql --regid=mysql --clear-groups -- /usr/bin/python3 "$(dirname "$0")/older-server.py" mysql \
		"$lab/s/older.sock" "$lab/s/main.sock" "$1"
	lab_wait 10 test -S "$lab/s/older.sock" || lab_die "no older server: $(cat "$lab/older.log")"
}

server_is_another() {
	begin "MySQL"
	older 8.0.35
	maria_rewriter "Socket=$lab/s/older.sock"
	try create shadow --for "$data"
	fails "The server, version 8\.0\.35, has no BACKUP STAGE, as MySQL and MariaDB before 10\.4\.1: .*Stop it for the copy" PrepareSnapshot
	check "trying again is not suggested" equal "$code" 1
	try verify --for "$data"
	check "a rehearsal says so, too" contains "$lab/out" "bad. mariadb/.*: hold: it has no BACKUP STAGE"
	try create shadow --for "$data" --on-writer-failure=degrade --json
	check "whoever takes less gets a copy" equal "$code" 0
	check "which is not called consistent for it" differ "$(scene_result .Consistency)" application
	check "and why" contains <(scene_result .ConsistencyReason) "8\.0\.35, has no BACKUP STAGE"
	set=$(scene_result .Set)
	drop

	begin "MySQL, where a server may fail"
	maria_rewriter "Socket=$lab/s/older.sock" "OnFailure=degrade"
	try create shadow --for "$data" --json
	check "the set is made" equal "$code" 0
	set=$(scene_result .Set)
	check "the copy is not called consistent for it" equal "$(scene_result .Consistency)" filesystem
	check "and why" contains <(scene_result .ConsistencyReason) "is in the copy as it ran: PrepareSnapshot failed: .*8\.0\.35, has no BACKUP STAGE"
	drop
	maria_rewriter "Socket=$lab/s/older.sock"

	begin "MariaDB before 10.4.1"
	older 5.5.5-10.3.39-MariaDB-log
	try create shadow --for "$data"
	fails "The server, version 10\.3\.39-MariaDB-log, has no BACKUP STAGE" PrepareSnapshot
	lab_stop older
	maria_rewriter
}

limited_is_there() {
	[ -n "$(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'limited'")" ]
}

writer_goes() {
	begin "the writer is killed while the server is held"
	during cut lab_stop writer KILL
	check "the set fails" differ "$code" 0
	maria_writer
	next_set_works

	begin "the writer stands still while the server is held"
	maria_rewriter "HoldLimit=2s"
	scene_gate cut "delay 3000"
	scene_background set create shadow --for "$data"
	check "the set comes to the cut" lab_wait 20 scene_at_gate cut
	kill -STOP "${lab_pid[writer]}"
	check "the server lets commits go by itself" lab_wait 10 maria_runs
	kill -CONT "${lab_pid[writer]}"
	scene_ended set 30
	check "the set fails" differ "$code" 0
	maria_rewriter
	next_set_works
}

two_volumes() {
	local both=(--for "$data" --for "$lab/v/redo") reason="'MariaDB' has data on these volumes and is not running"

	begin "the redo log on another filesystem"
	lab_stop main
	install -d -o mysql -g mysql "$lab/v/redo/log"
	mv "${maria_data[main]}"/ib_logfile* "$lab/v/redo/log/"
	echo "innodb_log_group_home_dir=$lab/v/redo/log" >>"$lab/main.cnf"
	try create shadow --for "$data"
	fails "its redo log is not in" PrepareSnapshot
	maria_start main
	try create shadow --for "$data"
	check "it is refused without the other" differ "$code" 0
	check "which is named" contains "$lab/err" "'MariaDB': Inconsistent shadow copy.*$lab/v/redo"
	try create shadow "${both[@]}"
	check "it is refused with both, which are not one instant" equal "$code" 1
	check "they are named" contains "$lab/err" "not copied at one instant: .*$lab/[dv]/.*, $lab/[dv]/"
	check "the record" equal "$(scene_row MariaDB .LastError)" "Inconsistent shadow copy"
	check "the server takes writes" maria_runs

	begin "the same without the writer"
	lab_stop writer
	check "vssd has noticed" lab_wait 5 scene_is_absent MariaDB
	try create shadow "${both[@]}" --json
	check "copies are made" equal "$code" 0
	set=$(scene_result .Set)
	check "they are not called consistent" equal "$(scene_result '.Consistency + " " + .Instant')" "filesystem volume"
	check "and why" contains <(scene_result .ConsistencyReason) "$reason"
	check "so say the records of both" equal "$(maria_records '.Record | "\(.Consistency) \(.Instant) \(.ConsistencyReason)"' | grep -c "^filesystem volume .*$reason")" 2
	drop
}

offline() {
	begin "a server that does not run"
	lab_stop ledger
	lab_stop main
	good_set || return 0
	check "it was copied as it was" equal "$(maria_document .Way)" offline
	drop
}

maria_scene "$1"
scene_gated_vssd
maria_writer
# It is the last to be prepared, so that volumes are flushed once more: a phase in which the server is prepared and not held.
scene_writer Clock --all-volumes --level system --on PrepareSnapshot=delay:500
maria_ledger
for ((round = 1; round <= $(scene_level 1 2 20); round++)); do
	# 0 acknowledges what is not in the redo log yet: the copy has it all the same.
	maria_sql main "SET GLOBAL innodb_flush_log_at_trx_commit = $((round % 2))"
	restored "$round"
done
maria_sql main "SET GLOBAL innodb_flush_log_at_trx_commit = 1"
server_refuses
server_is_another
statement_in_the_way
server_is_harmed
writer_goes
offline
begin "MariaDB that calls itself MySQL"
maria_start main --version=8.0.35
good_set
drop
maria_as=root
maria_rewriter
two_volumes
lab_note "${entries:-0} entries were found again"
scene_done
