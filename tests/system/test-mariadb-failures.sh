#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# MariaDB's bad days, in each phase of a set: servers that are killed, hang, are restarted, take no connection, refuse the password,
# have statements in the way or no space on their disk. The server runs on and nothing of it stays locked, the writer's words say
# why, and the next set works.
# Usage: test-mariadb-failures.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/mariadb.sh
. "$(dirname "$0")/mariadb.sh"

password=Secret4711

# ---- others' statements ----

# occupy SQL: a connection that does this for a minute, in $occupier.
occupy() {
	lab_spawn occupier setpriv --reuid=mysql --regid=mysql --clear-groups -- mariadb --no-defaults -u mysql \
		-S "$lab/s/main.sock" -e "$1"
	check "there is another connection: $1" lab_wait 10 is_occupied
}

is_occupied() {
	is_listed "STATE = 'User sleep'"
}

vacate() {
	lab_stop occupier KILL
	maria_sql main "KILL $(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'")" 2>/dev/null || true
}

is_listed() {
	[ -n "$(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND $1")" ]
}

# ---- the phases ----

# reach PHASE HARM...: a set of $data, and the harm when it is in that phase.
reach() {
	local phase=$1

	shift
	case $phase in
	PrepareSnapshot)
		occupy "BACKUP STAGE START; SELECT SLEEP(60)"
		scene_background set create shadow --for "$data"
		waits_then "BACKUP STAGE START" "$@"
		;;
	"before Freeze") during flush "$@" ;;
	Freeze)
		scene_gate flush "delay 3000"
		scene_background set create shadow --for "$data"
		check "the set comes to flush" lab_wait 20 scene_at_gate flush
		occupy "CREATE TABLE test.slow SELECT SLEEP(60)"
		waits_then "BACKUP STAGE BLOCK_DDL" "$@"
		;;
	Thaw) during cut "$@" ;;
	PostSnapshot) during open "$@" ;;
	esac
}

waits_then() {
	check "the writer waits in $1" lab_wait 10 is_listed "INFO = '$1'"
	shift
	"$@"
	scene_ended set 30
}

restart() {
	lab_stop main
	maria_start main
}

# In the phase nobody can tell whether the server answers late or never.
goes_on() {
	kill -CONT "${lab_pid[main]}" 2>/dev/null || true
	vacate
}

server_is() {
	local harm=$1 words=$2 phase

	for phase in PrepareSnapshot "before Freeze" Freeze Thaw; do
		begin "the server is subject to $harm: $phase"
		reach "$phase" "$harm"
		check "the other writer was let go" lab_wait 5 runs_again "$phase"
		goes_on
		fails "$words" "${phase#before }"
		next_set_works
	done
	begin "the server is subject to $harm after Thaw"
	reach PostSnapshot "$harm"
	goes_on
	check "that is no matter of the copies" equal "$code" 0
	check "the server takes writes" lab_wait 10 maria_runs
	vssctl delete shadows --for "$data" --all -y >/dev/null
}

runs_again() {
	[ "$1" != Thaw ] || [ -n "$(scene_runs_again Clock)" ]
}

# ---- connections ----

is_full() {
	[[ "$(maria_sql main "SELECT 1" 2>&1 || true)" == *"Too many connections"* ]]
}

# All that there are, and the one that the server keeps for administrators.
exhaust() {
	local i

	for ((i = 1; i <= 12; i++)); do
		lab_spawn "guest$i" setpriv --reuid=mysql --regid=mysql --clear-groups -- mariadb --no-defaults -u mysql \
			-S "$lab/s/main.sock" -e "SELECT SLEEP(60)"
	done
	check "no connection is free" lab_wait 10 is_full
}

release() {
	local i

	for ((i = 1; i <= 12; i++)); do
		lab_stop "guest$i" KILL
	done
	check "connections are free" lab_wait 10 maria_sql main "SELECT 1"
	for i in $(maria_sql main "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'"); do
		maria_sql main "KILL $i" 2>/dev/null || true
	done
}

no_connection_is_free() {
	local op

	maria_sql main "SET GLOBAL max_connections = 10"
	begin "no connection is free before the set"
	exhaust
	try create shadow --for "$data"
	fails "The server cannot be connected to: .*Too many connections" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	release
	next_set_works
	for op in flush cut; do
		begin "no connection is free from $op on"
		during "$op" exhaust
		check "the writer has its own" equal "$code" 0
		release
		vssctl delete shadows --for "$data" --all -y >/dev/null
		next_set_works
	done
	maria_sql main "SET GLOBAL max_connections = 151"
}

# ---- the password ----

use_password() {
	printf '[client]\nuser=backup\npassword=%s\n' "$1" >"$lab/s/client.cnf"
}

change_password() {
	# From BLOCK_DDL on it waits for Thaw.
	(as_mysql timeout 20 mariadb --no-defaults -u mysql -S "$lab/s/main.sock" -e "ALTER USER backup@localhost IDENTIFIED BY 'Secret0815'") >/dev/null 2>&1 &
	sleep 0.2
}

wrong_password() {
	local op

	maria_sql main "CREATE USER backup@localhost IDENTIFIED BY '$password'; GRANT ALL ON *.* TO backup@localhost"
	use_password "$password"
	maria_rewriter "OptionFile=$lab/s/client.cnf"
	for op in flush cut; do
		begin "the password is changed at $op"
		during "$op" change_password
		check "who is in stays in" equal "$code" 0
		vssctl delete shadows --for "$data" --all -y >/dev/null
		check "the new one is known" lab_wait 10 cannot_enter
		try create shadow --for "$data"
		fails "The server cannot be connected to: Access denied for user 'backup'" PrepareSnapshot
		check "trying again is not suggested" equal "$code" 1
		check "the password is nowhere" refuse grep -q 'Secret[0-9]' "$lab/writer.log" "$lab/err" "$lab/vssd.log"
		maria_sql main "ALTER USER backup@localhost IDENTIFIED BY '$password'"
		next_set_works # without the writer being started anew
	done
	maria_rewriter
}

cannot_enter() {
	! (as_mysql mariadb --no-defaults -u backup "-p$password" -S "$lab/s/main.sock" -e "SELECT 1") >/dev/null 2>&1
}

# ---- what stands in the way ----

statements() {
	local words="another connection holds it up, by another backup or by locks that it has (LOCK TABLES, FLUSH TABLES WITH READ LOCK)"

	begin "LOCK TABLES of a connection that idles then"
	idle_after "LOCK TABLES test.old WRITE"
	try create shadow --for "$data"
	fails "Starting a backup: $words" PrepareSnapshot
	check "trying again may help" equal "$code" 75
	idle_no_more
	next_set_works

	begin "another backup"
	idle_after "BACKUP STAGE START"
	try create shadow --for "$data"
	fails "Starting a backup: $words" PrepareSnapshot
	idle_no_more
	next_set_works

	begin "FLUSH TABLES WITH READ LOCK of a connection that idles then"
	idle_after "FLUSH TABLES WITH READ LOCK"
	if good_set; then drop; fi
	check "it keeps its lock" refuse maria_sql main "SET lock_wait_timeout = 1; INSERT INTO test.old VALUES (4)" 2>/dev/null
	idle_no_more
	next_set_works

	begin "a change of tables that began after PrepareSnapshot"
	reach Freeze true
	fails "Blocking changes of tables: a statement of another connection holds it up: the longest that runs is in connection [0-9]* of user mysql" Freeze
	check "trying again may help" equal "$code" 75
	check "the statement's text is nowhere" refuse grep -q 'test.slow' "$lab/writer.log" "$lab/err" "$lab/vssd.log"
	check "it goes on" is_occupied
	vacate
	next_set_works
}

# idle_after STATEMENT: a connection that does nothing more.
idle_after() {
	mkfifo "$lab/sql"
	lab_spawn idler sh -c "exec setpriv --reuid=mysql --regid=mysql --clear-groups -- mariadb --no-defaults -u mysql \
		-S '$lab/s/main.sock' --unbuffered -N -B <'$lab/sql'"
	exec 7<>"$lab/sql"
	echo "$1; SELECT 'READY';" >&7
	check "there is a connection with $1" lab_wait 10 grep -q READY "$lab/idler.log"
}

idle_no_more() {
	exec 7>&-
	rm "$lab/sql"
	lab_stop idler KILL
}

# ---- the disk ----

fill() {
	head -c 4G /dev/zero >"$lab/d/filler" 2>/dev/null || true
	sync -f "$lab/d"
}

# InnoDB ends the server where it cannot write its redo log, which on btrfs is often: that is its own affair.
full_disk() {
	begin "the server's disk is full"
	lab_stop ledger
	fill
	try create shadow --for "$data"
	check "the set fails" differ "$code" 0
	# The writer's words, if the server is just going.
	check "vssctl says why" contains "$lab/err" "The filesystem of $data has [0-9]* KiB left; a copy needs at least\|'MariaDB' failed at .*mysql: "
	rm "$lab/d/filler"
	sync -f "$lab/d"
	lab_alive main || crash
	check "the server goes on" lab_wait 90 maria_runs
	next_set_works
	maria_ledger
}

# ---- two servers on one volume ----

# Of the second, as the writer calls it.
other_name() {
	scene_row MariaDB '.Components[].Name' | grep "$1\$"
}

second_server() { # NAME DATA
	maria_make "$1" "$2"
	maria_start "$1"
	maria_sql "$1" "CREATE DATABASE test; CREATE TABLE test.ledger (thread int, number bigint, PRIMARY KEY (thread, number)) ENGINE=InnoDB;
		CREATE TABLE test.old (number int) ENGINE=MyISAM"
}

# ways: what the copies say of each server
ways() {
	maria_document '"\(.DataDirectory | split("/") | last) \(.Way)"' | xargs
}

kill_other() {
	lab_stop other KILL
}

hang_other() {
	kill -STOP "${lab_pid[other]}"
	hung=yes
}

# The other one's trouble must not keep the first one held until the last limit has passed.
hang_other_alone() {
	hang_other
	check "the first is let go at once" lab_wait 8 maria_runs
	check "while the other is waited for" lab_alive set
}

other_back() {
	[ "${hung:-}" != yes ] || kill -CONT "${lab_pid[other]}"
	hung=""
	[ -n "${lab_pid[other]:-}" ] || maria_start other
	check "it takes writes" lab_wait 10 maria_runs other
}

# other_is HARM WORDS: whoever is asked for both gets none, and hears of which server that is.
other_is() {
	begin "two servers: $1"
	during cut "$1"
	other_back
	fails "mariadb/[^ ]*-other: .*$2" Thaw
	check "it was the other alone" refuse grep -q -e "mariadb/[^ ]*-mysql: " "$lab/err"
	next_set_works
}

# other_is_left_out HARM WORDS: with OnFailure=degrade.
other_is_left_out() {
	begin "two servers, of which one may fail: $1"
	scene_gate cut "delay 1000"
	lab_spawn set setsid "$build/requestor/vssctl" create shadow --for "$data" --json
	check "the set comes to cut" lab_wait 20 scene_at_gate cut
	"$1"
	scene_ended set 40
	other_back
	check "the set is made" equal "$code" 0
	cp "$lab/err" "$lab/out"
	left_out "Thaw failed: $2"
}

left_out() {
	set=$(scene_result .Set)
	check "it is not called consistent for it" equal "$(scene_result .Consistency)" filesystem
	check "and says of which" contains <(scene_result .ConsistencyReason) "mariadb/[^ ]*-other: is in the copy as it ran: $1"
	check "so says the record" contains <(maria_records .Record.ConsistencyReason) "mariadb/[^ ]*-other: is in the copy as it ran: $1"
	check "the first was held" equal "$(ways)" "mysql backup-stage"
	drop
	check "both take writes" maria_runs
	check "both take writes" maria_runs other
}

two_servers() {
	local lost="the server ended the connection" silent="the server does not answer within the limit" name hung=""

	local both="DataDirectory=$data/other" # the writer cannot look into servers

	second_server other "$data/other"
	maria_rewriter "$both"
	begin "two servers"
	good_set && check "each says its own" equal "$(ways)" "mysql backup-stage other backup-stage" && drop
	name=mariadb/$(other_name other)

	begin "two servers: one is down"
	lab_stop other
	good_set && check "each says its own" equal "$(ways)" "mysql backup-stage other offline" && drop
	maria_start other
	other_is kill_other "$lost"
	other_is hang_other_alone "$silent"

	begin "two servers: one is MySQL"
	rm -f "$lab/s/older.sock"
	lab_spawn older setpriv --reuid=mysql --regid=mysql --clear-groups -- /usr/bin/python3 "$(dirname "$0")/older-server.py" mysql \
		"$lab/s/older.sock" "$lab/s/other.sock" 8.0.35
	lab_wait 10 test -S "$lab/s/older.sock"
	maria_rewriter "$both" "[Server $name]" "Socket=$lab/s/older.sock"
	try create shadow --for "$data"
	fails "mariadb/[^ ]*-other: The server, version 8\.0\.35, has no BACKUP STAGE" PrepareSnapshot
	check "it was the other alone" refuse grep -q -e "mariadb/[^ ]*-mysql: " "$lab/err"
	check "the first takes writes" maria_runs

	begin "two servers, of which one may fail: it is MySQL"
	maria_rewriter "$both" "[Server $name]" "Socket=$lab/s/older.sock" "OnFailure=degrade"
	try create shadow --for "$data" --json
	check "the set is made" equal "$code" 0
	left_out "PrepareSnapshot failed: The server, version 8\.0\.35, has no BACKUP STAGE"
	lab_stop older

	maria_rewriter "$both" "[Server $name]" "OnFailure=degrade"
	other_is_left_out kill_other "Letting commits go: $lost"
	other_is_left_out hang_other_alone "Letting commits go: $silent"
	begin "two servers, of which one may fail: the other one does"
	during cut crash
	fails "mariadb/[^ ]*-mysql: .*$lost" Thaw
	next_set_works
	lab_stop other
	rm -rf "$data/other"

	begin "a server elsewhere hangs"
	btrfs --quiet subvolume create "$lab/v/far"
	second_server far "$lab/v/far/mysql"
	maria_rewriter "DataDirectory=$lab/v/far/mysql"
	good_set && drop
	kill -STOP "${lab_pid[far]}"
	if good_set; then drop; fi
	kill -CONT "${lab_pid[far]}"
	lab_stop far
	maria_rewriter
}

maria_scene "$1"
# None of these is what is tried here, and other tests may run on the machine.
scene_configure Identify=10s PrepareBackup=10s PrepareSnapshot=5s Event=20s Freeze=8s
scene_gated_vssd
# As long as the server lets the writer idle, too.
maria_rewriter "PrepareLimit=10s"
# It is the last to be prepared, so that volumes are flushed once more: a phase in which the server is prepared and not held.
scene_writer Clock --all-volumes --level system --on PrepareSnapshot=delay:1500
maria_ledger
server_is crash "the server ended the connection"
server_is restart "the server ended the connection"
server_is hang "the server does not answer within the limit"
maria_rewriter
no_connection_is_free
wrong_password
statements
two_servers
full_disk
scene_done
