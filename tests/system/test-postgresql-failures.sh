#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# PostgreSQL's bad days, in each phase of a set: servers that are stopped, killed, restarted, hang, refuse; the writer, vssd and
# the requestor killed; standbys, servers that do not run. The server runs on and keeps nothing of a backup, the writer's words
# say why, and the next set works.
# Usage: test-postgresql-failures.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/postgresql.sh
. "$(dirname "$0")/postgresql.sh"

all_split() {
	printf -- '--for\n%s\n' "${split[@]}"
}

# during OP HARM...: a set of `split`, and what is done to it while the worker is kept from OP.
during() {
	local op=$1 arguments

	shift
	mapfile -t arguments < <(all_split)
	scene_gate "$op" "delay 1000"
	scene_background set create shadow "${arguments[@]}"
	check "the set comes to $op" lab_wait 20 scene_at_gate "$op"
	"$@"
	scene_ended set 30
}

# fails WORDS [EVENT]: the last set did, and the record says so.
fails() {
	check "the set fails" differ "$code" 0
	check "vssctl says why" contains "$lab/err" "$1"
	check "the record says why" contains <(scene_row PostgreSQL '"\(.Phase): \(.LastError): \(.Message)"') "$1"
	[ $# -lt 2 ] || check "and where" equal "$(scene_row PostgreSQL .Phase)" "$2"
}

# The next set is good, and nothing remains of it or of the one before.
next_set_works() {
	local before=$scene_failures

	seen "over"
	check "nothing of a backup is left" lab_wait 15 pg_is_free split
	check "no session is left" lab_wait 10 scene_no_session
	if pg_set "${split[@]}"; then
		check "by a backup" equal "$(pg_way)" backup
		vssctl delete shadows --set "$set" -y >/dev/null
	fi
	[ "$scene_failures" -eq "$before" ] || tail -n 5 "$lab/writer.log"
}

restart_split() {
	lab_stop split "${1:-INT}"
	pg_start split
}

# The other half of the cases, before a release.
thorough() {
	[ -n "$(scene_level "" "" yes)" ]
}

# The server itself, not a child of ours that has a name.
server_process() { # APPLICATION-OR-TYPE
	pg_sql split "SELECT pid FROM pg_stat_activity WHERE application_name = '$1' OR backend_type = '$1' LIMIT 1"
}

# ---- the server ----

server_is_harmed() {
	begin "the server crashes before Freeze"
	during flush restart_split QUIT
	fails "The server ended the connection that held its backup" Freeze
	next_set_works

	begin "the server is restarted before PostSnapshot"
	during open restart_split
	fails "Ending the backup: " PostSnapshot
	next_set_works

	thorough || return 0
	begin "the server is restarted while the copies are made"
	during cut restart_split
	fails "The server ended the connection that held its backup" Thaw
	next_set_works

	begin "a backend dies, and the server with it for a moment"
	during flush kill_backend
	fails "The server ended the connection" Freeze
	check "the server is back" lab_wait 20 pg_sql split "SELECT 1"
	next_set_works

	begin "the server is stopped for good before PostSnapshot"
	during open pg_stop split
	fails "Ending the backup: " PostSnapshot
	pg_start split
	next_set_works
}

kill_backend() {
	kill -KILL "$(server_process vss-postgresql-writer)"
}

server_hangs() {
	begin "the backend that holds the backup hangs before PostSnapshot"
	during open stop_backend
	fails "Ending the backup: the server does not answer within the limit" PostSnapshot
	kill -CONT "$stopped"
	next_set_works

	begin "a checkpoint takes longer than vssd waits without a sign of life"
	stopped=$(pg_sql single "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
	kill -STOP "$stopped"
	scene_background set create shadow --for "$single"
	sleep 3 # three times the limit
	check "the set still waits" equal "$(scene_state)" Preparing
	kill -CONT "$stopped"
	scene_ended set 20
	check "and is made" equal "$code" 0
	scene_clear "$single"

	thorough || return 0
	begin "the whole server hangs before the set"
	kill -STOP "${lab_pid[split]}"
	mapfile -t arguments < <(all_split)
	try create shadow "${arguments[@]}"
	fails "Connecting: the server does not answer within the limit" PrepareSnapshot
	kill -CONT "${lab_pid[split]}"
	next_set_works

	begin "a checkpoint takes longer than PrepareLimit"
	stopped=$(pg_sql single "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
	pg_reconfigure "PrepareLimit=2s"
	kill -STOP "$stopped"
	try create shadow --for "$single"
	kill -CONT "$stopped"
	fails "CHECKPOINT: the server does not answer within the limit" PrepareSnapshot
	pg_reconfigure
}

stop_backend() {
	stopped=$(server_process vss-postgresql-writer)
	kill -STOP "$stopped"
}

# pg_reconfigure [LINE...]: the writer anew
pg_reconfigure() {
	lab_stop writer
	lab_wait 5 scene_is_absent PostgreSQL || true
	pg_configure "ConnectLimit=1s" "$@"
	pg_writer
}

server_refuses() {
	begin "a role that does not exist"
	pg_reconfigure "ConnInfo=user=nobody_here"
	try create shadow --for "$single"
	fails "The server cannot be connected to: .*nobody_here" PrepareSnapshot
	check "trying again is not suggested" equal "$code" 1

	begin "a role that may not"
	pg_sql single "CREATE ROLE limited LOGIN; GRANT pg_read_all_settings TO limited"
	echo "local all limited trust" >"$lab/hba"
	cat "${pg_data[single]}/pg_hba.conf" >>"$lab/hba"
	cat "$lab/hba" >"${pg_data[single]}/pg_hba.conf"
	pg_sql single "SELECT pg_reload_conf()" >/dev/null
	pg_reconfigure "ConnInfo=user=limited"
	try create shadow --for "$single"
	fails "CHECKPOINT: .*must be superuser" PrepareSnapshot

	begin "no connection is free"
	pg_sql single "ALTER ROLE limited CONNECTION LIMIT 0"
	try create shadow --for "$single"
	fails "The server cannot be connected to: .*too many connections" PrepareSnapshot
	check "trying again may help" equal "$code" 75

	begin "another server than the one of that directory"
	pg_reconfigure "[Cluster $(pg_name single)]" "ConnInfo=port=${pg_port[split]}"
	try create shadow --for "$single"
	fails "The server that was connected to serves $lab/d/data/pg, not $single/pg" PrepareSnapshot

	begin "PostgreSQL before 15"
	install -d -o postgres -g postgres "$lab/s/older"
	lab_spawn older setpriv --reuid=postgres --regid=postgres --clear-groups -- /usr/bin/python3 "$(dirname "$0")/older-server.py" \
		postgresql "$lab/s/older/.s.PGSQL.5432" "$lab/s/.s.PGSQL.${pg_port[split]}" 14.9
	lab_wait 10 test -S "$lab/s/older/.s.PGSQL.5432"
	pg_reconfigure "[Cluster $(scene_row PostgreSQL '.Components[] | "\(.LogicalPath)/\(.Name)"' | grep '/split$')]" "ConnInfo=host=$lab/s/older port=5432"
	mapfile -t arguments < <(all_split)
	try create shadow "${arguments[@]}"
	fails "only PostgreSQL 15 or later can be backed up then; this is 14\.9" PrepareSnapshot
	check "trying again is not suggested" equal "$code" 1
	try verify "${arguments[@]}"
	check "a rehearsal says so, too" contains "$lab/out" "bad. .*split: copy: several instants, and it is older than PostgreSQL 15"
	lab_stop older
	pg_reconfigure
	pg_set "$single" && scene_clear "$single"

	thorough || return 0
	begin "no replication slot is free, and nothing else retains WAL"
	pg_stop split
	pg_start split -c max_replication_slots=0
	mapfile -t arguments < <(all_split)
	try create shadow "${arguments[@]}"
	fails "Retaining the WAL in a replication slot: .*raise max_replication_slots; or set wal_keep_size" PrepareSnapshot
	pg_stop split
	pg_start split -c max_replication_slots=0 -c wal_keep_size=128MB
	next_set_works
	pg_stop split
	pg_start split -c wal_level=minimal -c max_wal_senders=0
	try create shadow "${arguments[@]}"
	fails "wal_level" PrepareSnapshot
	restart_split
}

pg_name() {
	scene_row PostgreSQL '.Components[] | "\(.LogicalPath)/\(.Name)"' | grep "${pg_data[$1]##"$lab"/}\|-${1}-pg\$" | head -n 1
}

# ---- the others ----

# The writer, the requestor, vssd.
others_die() {
	begin "the writer is killed while the copies are made"
	during cut lab_stop writer KILL
	check "the set fails" differ "$code" 0
	check "the server ends the backup by itself" lab_wait 15 pg_is_free split
	pg_writer
	next_set_works

	begin "vssd is killed before Freeze"
	during flush vssd_dies
	check "the set fails" differ "$code" 0
	check "the writer registers again" lab_wait 15 scene_is_present PostgreSQL
	check "so does the other" lab_wait 15 scene_is_present Clock
	check "nothing is left of its copies" lab_wait 10 scene_no_copies d
	next_set_works

	thorough || return 0
	begin "the writer is stopped before Freeze"
	during flush lab_stop writer
	check "the set fails" differ "$code" 0
	check "the server keeps nothing" lab_wait 15 pg_is_free split
	pg_writer
	next_set_works

	begin "the requestor is killed before Freeze"
	during flush kill_requestor
	check "the server keeps nothing" lab_wait 15 pg_is_free split
	next_set_works
}

vssd_dies() {
	lab_stop vssd KILL
	check "the writer lets go by itself" lab_wait 15 pg_is_free split
	check "and says so" contains "$lab/writer.log" "what is held is let go: the coordinator has gone"
	scene_gated_vssd
}

kill_requestor() {
	kill -KILL -- "-${lab_pid[set]}"
}

scene_is_present() {
	[ "$(scene_row "$1" .Present)" = true ]
}

# ---- the cluster ----

cluster_changes() {
	begin "a tablespace that lies elsewhere is seen at the next set"
	install -d -o postgres -g postgres "$lab/v/data/elsewhere"
	pg_sql split "CREATE TABLESPACE elsewhere LOCATION '$lab/v/data/elsewhere'"
	mapfile -t arguments < <(all_split)
	try create shadow "${arguments[@]}"
	fails "olumes that are not in the set: $lab/v/data"
	pg_sql split "DROP TABLESPACE elsewhere"
	next_set_works

	thorough || return 0
	begin "a tablespace is made while the copies are"
	install -d -o postgres -g postgres "$lab/d/space/new"
	during flush pg_sql split "CREATE TABLESPACE new LOCATION '$lab/d/space/new'"
	fails "A tablespace was made or dropped" PostSnapshot
	next_set_works
}

not_running() {
	begin "the server does not run"
	pg_stop split
	if pg_set "${split[@]}"; then
		check "the files are copied as they are" equal "$(pg_way)" offline
		pg_restore o
		pg_relocate o
		ln -sfn "$lab/d/restored/o/space/far" "$(find "$lab/d/restored/o/data/pg/pg_tblspc" -lname '*/far')"
		check "a server starts on them" pg_restored_start restored "$lab/d/restored/o/data/pg"
		check "the ledger is there" differ "$(pg_sql restored "SELECT count(*) FROM ledger")" 0
		pg_stop restored
		pg_drop o
	fi

	begin "the server is started while the files are copied as they are"
	during open pg_start split
	fails "The server was started while the copies were made" PostSnapshot
	next_set_works

	thorough || return 0
	begin "what a crashed server left behind"
	pg_stop_hard
	pg_set "${split[@]}" || true
	check "the files are copied as they are" equal "$(pg_way)" offline
	vssctl delete shadows --set "$set" -y >/dev/null
	pg_start split
	next_set_works
}

pg_stop_hard() {
	local pid=${lab_pid[split]} children

	children=$(pgrep -P "$pid" | tr '\n' ' ')
	# shellcheck disable=SC2086
	kill -KILL "$pid" $children
	wait "$pid" 2>/dev/null || true
	unset 'lab_pid[split]'
	check "its lock remains" test -e "${pg_data[split]}/postmaster.pid"
}

standby() {
	begin "a standby on one subvolume"
	pg_set "$single" || return 0
	pg_restore s
	vssctl delete shadows --set "$set" -y >/dev/null
	as_postgres touch "$lab/d/restored/s/single/pg/standby.signal"
	check "the standby runs" pg_restored_start replica "$lab/d/restored/s/single/pg"
	pg_reconfigure "DataDirectory=$lab/d/restored/s/single/pg"
	pg_set "$lab/d/restored/s/single" || return 0
	check "it is copied by a restartpoint" equal "$(pg_way)" checkpoint
	check "and called a standby" equal "$(pg_document .Standby)" true
	vssctl delete shadows --set "$set" -y >/dev/null
	pg_stop replica

	begin "a standby on two subvolumes"
	btrfs --quiet subvolume create "$lab/d/restored/s/wal"
	mv "$lab/d/restored/s/single/pg/pg_wal" "$lab/d/restored/s/wal/pg_wal"
	ln -s "$lab/d/restored/s/wal/pg_wal" "$lab/d/restored/s/single/pg/pg_wal"
	check "the standby runs" pg_restored_start replica "$lab/d/restored/s/single/pg"
	try create shadow --for "$lab/d/restored/s/single" --for "$lab/d/restored/s/wal"
	fails "It is a standby, and its volumes are not copied at one instant" PrepareSnapshot
	pg_stop replica
	pg_drop_restored s
	pg_reconfigure
}

other_users() {
	begin "the writer as the clusters' owner, and a cluster of another user"
	install -d -o nobody -m 0700 "$volume/foreign"
	lab_stop writer
	pg_configure "ConnectLimit=1s" "DataDirectory=$volume/foreign"
	pg_writer postgres
	try create shadow --for "$volume"
	fails "Permission denied: run the writer as the cluster's owner, or as root" PrepareSnapshot
	next_set_works
	pg_reconfigure

	begin "a user who may not register"
	lab_stop writer
	lab_spawn writer setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$build/writers/postgresql/vss-postgresql-writer" \
		--config "$lab/writer.conf"
	check "the log says so" lab_wait 10 grep -q "not registered: ." "$lab/writer.log"
	lab_stop writer
	pg_writer
}

absent() {
	begin "the writer is expected and does not run"
	lab_stop writer
	check "vssd has noticed" lab_wait 5 scene_is_absent PostgreSQL
	try create shadow --for "$single" --json
	check "the set is made" equal "$code" 0
	check "it is not called consistent" equal "$(scene_result .Consistency)" filesystem
	check "and says why" contains <(scene_result .ConsistencyReason) "'PostgreSQL' has data on these volumes and is not running"
	check "so says its record" contains <(jq -r '.Record | "\(.Consistency) \(.ConsistencyReason)"' "$lab"/d/.vss/*/record.json) \
		"^filesystem .*'PostgreSQL' has data on these volumes and is not running"
	scene_clear "$single"

	begin "the same for what is not one instant"
	mapfile -t arguments < <(all_split)
	try create shadow "${arguments[@]}" --json
	check "the set is made" equal "$code" 0
	check "it is not called consistent" equal "$(scene_result '.Consistency + " " + .Instant')" "filesystem volume"
	check "so say all records" equal 3 "$(cat "$lab"/d/.vss/*/record.json |
		jq -r '.Record | "\(.Consistency) \(.Instant) \(.ConsistencyReason)"' | grep -c "^filesystem volume .*'PostgreSQL' has data")"
	scene_clear "${split[@]}"

	begin "a place where there is nothing asks for no writer"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	scene_clear
	pg_writer
}

pg_scene "$1"
sed "s|^Paths=.*|Paths=$single;$lab/d/data;$lab/v/data/there/is/nothing|; s|^User=.*|User=postgres|" \
	"$(dirname "$0")/../../writers/postgresql/postgresql.writer" >"$lab/manifests/postgresql.writer"
scene_configure PrepareSnapshot=1s Freeze=10s Event=4s
scene_gated_vssd
pg_configure "ConnectLimit=1s"
pg_writer
scene_writer Clock --all-volumes
pg_ledger split
server_is_harmed
others_die
not_running
if [ "$(scene_level fast "" "")" != fast ]; then
	server_hangs
	server_refuses
	cluster_changes
	standby
	other_users
	absent
fi
scene_done
