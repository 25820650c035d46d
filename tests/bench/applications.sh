# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What applications notice of a set, beside the script that an administrator can safely run instead: servers at work on volumes that
# are there, the script of each, and the comparison. Source it after $build and $lab are there and vssd runs; it uses the
# servers of the system tests. Whoever sources it has to
# say what makes and removes one plain snapshot: snapshot_command VOLUME, remove_command VOLUME, $snapshot_name.
# shellcheck source=tests/system/postgresql.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/postgresql.sh"
# shellcheck source=tests/system/mariadb.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/mariadb.sh"
# shellcheck source=tests/system/redis.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/redis.sh"

bench_rounds=10 bench_around=2 bench_target=0 missed=0 snapshot_name=""

# program NAME: from standard input.
program() {
	{
		printf '#!/bin/bash\nset -euo pipefail\nlab=%q build=%q\nvssctl() { "$build/requestor/vssctl" "$@"; }\n' "$lab" "$build"
		cat
	} >"$lab/$1"
	chmod 755 "$lab/$1"
}

# product_programs WRITER VOLUME...: the set; it must be all that it can be. How long the writer held is in its timeline.
product_programs() {
	local writer=$1 members="" volume

	shift
	for volume in "$@"; do
		members+=" --for $volume"
	done
	program product <<-PROGRAM
		vssctl create shadow -v$members >"\$lab/product.out"
	PROGRAM
	program product-after <<-PROGRAM
		vssctl delete shadows --set "\$(sed -n 's/^Shadow copy set ID: {\(.*\)}/\1/p' "\$lab/product.out")" -y >/dev/null
		grep -q 'Consistency: application\$' "\$lab/product.out"
		grep -q 'Instant: set\$' "\$lab/product.out"
		cat "\$lab/product.out" >>"\$lab/timelines"
		[ "$writer" = PostgreSQL ] || awk '\$3 == "Freeze" && \$4 ~ /$writer/ { from = \$1 + \$2 }
			\$3 == "Thaw" && \$4 ~ /$writer/ { to = \$1 } END { printf "held %d\n", (to - from) * 1000 }' "\$lab/product.out"
	PROGRAM
}

# snapshot_programs VOLUME...: `snapshots ROUND`, plain ones in a row, which notes how long it took; and what removes them.
snapshot_programs() {
	local volume

	{
		echo 'begin=${EPOCHREALTIME/./}'
		for volume in "$@"; do
			snapshot_command "$volume"
		done
		echo 'echo "held $((${EPOCHREALTIME/./} - begin))" >"$lab/held"'
	} | program snapshots
	{
		for volume in "$@"; do
			remove_command "$volume"
		done
		echo 'cat "$lab/held"'
	} | program script-after
}

# compare_with_script TITLE LEDGER SCRIPT-NAME
compare_with_script() {
	local code=0

	"$build/tests/bench/cost" --rounds "$bench_rounds" --around "$bench_around" --target "$bench_target" "$1" "$2" 4 \
		:: "vssctl create shadow" "$lab/product" "$lab/product-after" \
		:: "$3" "$lab/script" "$lab/script-after" || code=$?
	[ "$code" -le 1 ] || lab_die "$1: the comparison did not work"
	missed=$((missed + code))
}

# ---- PostgreSQL: holds nothing; one volume, or two of one instant ----

# bench_postgresql TITLE DATA-VOLUME [WAL-VOLUME]
bench_postgresql() {
	local title=$1 data=$2 wal=${3:-}

	pg_begin
	pg_make bench "$data/pg" ${wal:+"$wal/pg_wal"}
	# Snapshots are made by root, from within the administrator's session.
	sed -i 's/peer$/trust/' "$data/pg/pg_hba.conf"
	# What the script needs that copies its volumes one after another.
	[ -z "$wal" ] || echo "wal_keep_size = 96MB" >>"$data/pg/postgresql.conf"
	pg_start bench
	pg_tables bench
	printf '[PostgreSQL]\nConfigRoots=/nothing\nDataRoots=/nothing\nDataDirectory=%s\nConnectLimit=20s\n' "$data/pg" >"$lab/writer.conf"
	pg_writer
	pg_ledger bench
	lab_spawn load setpriv --reuid=postgres --regid=postgres --clear-groups -- pgbench -n -c 2 ${bench_rate:+-R "$bench_rate"} -T 36000 \
		-h "$lab/s" -p "${pg_port[bench]}" postgres
	product_programs PostgreSQL "$data" ${wal:+"$wal"}
	snapshot_programs "$data" ${wal:+"$wal"}
	sed -i '/held/d' "$lab/script-after"
	postgresql_script "$data" ${wal:+"$wal"}
	compare_with_script "$title" "$lab/s/ledger-bench" "$([ -z "$wal" ] && echo "CHECKPOINT" || echo "pg_backup_start, pg_backup_stop"), $snapshot_name"
	lab_stop load
	lab_stop ledger-bench
	lab_stop writer
	pg_stop bench
}

# postgresql_script DATA [WAL]: the WAL's volume comes last, when all that the backup needs is in it.
postgresql_script() {
	{
		echo 'cat >"$lab/backup.sql" <<SQL'
		if [ $# -eq 1 ]; then
			printf '%s\n' CHECKPOINT\; "\\! $(snapshot_command "$1")"
		else
			printf '%s\n' "SELECT pg_backup_start('bench', true) \\g /dev/null" "\\! $(snapshot_command "$1")" \
				"SELECT labelfile FROM pg_backup_stop(false) \\g $lab/s/label" "\\! $(snapshot_command "$2")"
		fi
		printf '%s\n' SQL "psql -X -q -v ON_ERROR_STOP=1 -h \"\$lab/s\" -p ${pg_port[bench]} -U postgres -d postgres -f \"\$lab/backup.sql\""
	} | program script
}

# ---- MariaDB: commits are held ----

# bench_mariadb TITLE DATA-VOLUME [REDO-VOLUME]
bench_mariadb() {
	local title=$1 data=$2 redo=${3:-}

	install -d -o mysql -g mysql "$lab/s"
	maria_make bench "$data/mysql"
	if [ -n "$redo" ]; then
		install -d -o mysql -g mysql "$redo/log"
		mv "$data/mysql"/ib_logfile* "$redo/log/"
		echo "innodb_log_group_home_dir=$redo/log" >>"$lab/bench.cnf"
	fi
	maria_start bench
	maria_sql bench "CREATE DATABASE test; CREATE TABLE test.ledger (thread int, number bigint, PRIMARY KEY (thread, number)) ENGINE=InnoDB;
		CREATE TABLE test.other (number int PRIMARY KEY, text varchar(400)) ENGINE=InnoDB;
		CREATE OR REPLACE USER root@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO root@localhost"
	printf '[MariaDB]\nDataDirectory=%s\nConnectLimit=20s\n' "$data/mysql" >"$lab/writer.conf"
	maria_as=root # who may register without a manifest
	maria_writer
	lab_spawn ledger setpriv --reuid=mysql --regid=mysql --clear-groups -- "$lab/maria-ledger" "$lab/s/bench.sock" 4 "$lab/s/ledger"
	lab_spawn load mariadb-slap --no-defaults -S "$lab/s/bench.sock" --no-drop --create-schema=test --concurrency=2 \
		--number-of-queries=100000000 --query="REPLACE INTO test.other VALUES (FLOOR(RAND() * 20000), REPEAT('x', 400))"
	product_programs MariaDB "$data" ${redo:+"$redo"}
	snapshot_programs "$data" ${redo:+"$redo"}
	program script <<-'PROGRAM'
		mariadb --no-defaults -S "$lab/s/bench.sock" <<-SQL
			BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; BACKUP STAGE BLOCK_COMMIT;
			\! $lab/snapshots
			BACKUP STAGE END;
		SQL
	PROGRAM
	compare_with_script "$title" "$lab/s/ledger" "BACKUP STAGE, $snapshot_name"
	lab_stop load
	lab_stop ledger
	lab_stop writer
	lab_stop bench
}

# ---- Redis: writes are paused ----

# bench_redis TITLE VOLUME [VOLUME]: a server on each; writes to the first are looked at.
bench_redis() {
	local title=$1 volume sockets="" name=main

	shift
	redis_begin
	for volume in "$@"; do
		install -d -o "$redis_user" -g "$redis_group" "$volume/redis"
		redis_server "$name" "$volume/redis" --appendonly yes --appendfsync everysec
		sockets+="$lab/s/$name.sock;"
		name=other
	done
	printf '[Redis]\nSocket=%s\nConfig=/nothing\nProcesses=no\nCommandLimit=10s\n' "${sockets%;}" >"$lab/writer.conf"
	lab_spawn writer "$build/writers/redis/vss-redis-writer" --config "$lab/writer.conf"
	lab_wait 15 grep -q registered "$lab/writer.log" || lab_die "the writer does not start: $(cat "$lab/writer.log")"
	redis_ledger
	product_programs Redis "$@"
	snapshot_programs "$@"
	program script <<-'PROGRAM'
		sockets=("$lab/s/main.sock")
		[ ! -S "$lab/s/other.sock" ] || sockets+=("$lab/s/other.sock")
		ask() { redis-cli -s "$socket" "$@"; }
		for socket in "${sockets[@]}"; do
			ask CLIENT PAUSE 30000 WRITE >/dev/null
		done
		for socket in "${sockets[@]}"; do
			until written=$(ask INFO persistence) && [[ $written == *aof_pending_bio_fsync:0* && $written == *aof_buffer_length:0* ]]; do
				sleep 0.01
			done
		done
		"$lab/snapshots"
		for socket in "${sockets[@]}"; do
			ask CLIENT UNPAUSE >/dev/null
		done
	PROGRAM
	compare_with_script "$title" "$lab/ledger" "CLIENT PAUSE, $snapshot_name"
	lab_stop ledger
	lab_stop writer
	lab_stop main
	[ $# -lt 2 ] || lab_stop other
}
