# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# PostgreSQL servers for the tests of their writer: on top of scene.sh. Servers run as the user postgres, on sockets in
# $lab/s alone, each with data, WAL and a tablespace where the test says.
# shellcheck source=tests/system/scene.sh
. "$(dirname "${BASH_SOURCE[0]}")/scene.sh"

pg_bin=""
declare -A pg_data=() pg_port=()

pg_need() {
	pg_bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
	[ -x "$pg_bin/initdb" ] || scene_skip "needs PostgreSQL's server"
	command -v pgbench >/dev/null || [ -x "$pg_bin/pgbench" ] || scene_skip "needs pgbench"
	[ -x "$1/writers/postgresql/vss-postgresql-writer" ] || scene_skip "the writer is not built"
}

# Sockets and logs of a user that is not root.
pg_begin() {
	chmod 0711 "$lab"
	install -d -o postgres -g postgres "$lab/s" "$lab/restored"
}

as_postgres() {
	setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
}

# pg_make NAME DATA [WAL]: a cluster.
pg_make() {
	local name=$1 data=$2 wal=${3:-}

	pg_data[$name]=$data
	pg_port[$name]=$((5500 + ${#pg_port[@]}))
	[ -e "$lab/s/template" ] || as_postgres "$pg_bin/initdb" --no-sync --auth=peer --locale=C.UTF-8 "$lab/s/template" >"$lab/initdb.log" 2>&1 ||
		lab_die "initdb: $(cat "$lab/initdb.log")"
	cp --archive "$lab/s/template" "$data"
	if [ -n "$wal" ]; then
		mv "$data/pg_wal" "$wal"
		ln -s "$wal" "$data/pg_wal"
	fi
	cat >>"$data/postgresql.conf" <<-CONFIG
		listen_addresses = ''
		unix_socket_directories = '$lab/s'
		port = ${pg_port[$name]}
		shared_buffers = 32MB
		max_wal_size = 64MB
		min_wal_size = 32MB
		max_connections = 40
	CONFIG
}

# pg_start NAME [OPTION...]
pg_start() {
	local name=$1

	shift
	lab_spawn "$name" setpriv --reuid=postgres --regid=postgres --clear-groups -- "$pg_bin/postgres" -D "${pg_data[$name]}" "$@"
	lab_wait 30 pg_sql "$name" "SELECT 1" || lab_die "the server $name does not start: $(tail -n 20 "$lab/$name.log")"
}

pg_stop() {
	lab_stop "$1" INT
}

pg_sql() {
	as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$lab/s" -p "${pg_port[$1]}" -d postgres -c "$2"
}

# pg_tables NAME [TABLESPACE DIRECTORY]
pg_tables() {
	local name=$1 where=""

	if [ $# -gt 1 ]; then
		install -d -o postgres -g postgres -m 0700 "$2"
		pg_sql "$name" "CREATE TABLESPACE far LOCATION '$2'"
		where="TABLESPACE far"
	fi
	pg_sql "$name" "CREATE TABLE ledger (thread int, number bigint, PRIMARY KEY (thread, number))"
	pg_sql "$name" "CREATE TABLE ledger_far (thread int, number bigint, PRIMARY KEY (thread, number) ${where:+USING INDEX $where}) $where"
	as_postgres pgbench -i -q -s "${pg_scale:-2}" -h "$lab/s" -p "${pg_port[$name]}" postgres >"$lab/pgbench-init.log" 2>&1
}

# pg_ledger NAME
pg_ledger() {
	lab_spawn "ledger-$1" setpriv --reuid=postgres --regid=postgres --clear-groups -- "$lab/pg-ledger" \
		"host=$lab/s port=${pg_port[$1]} dbname=postgres" 4 "$lab/s/ledger-$1"
	lab_wait 10 grep -q READY "$lab/ledger-$1.log" || lab_die "the ledger does not start"
}

# pg_load NAME: the ledger and pgbench
pg_load() {
	pg_ledger "$1"
	lab_spawn "bench-$1" setpriv --reuid=postgres --regid=postgres --clear-groups -- pgbench -n -c 4 -T 3600 \
		-h "$lab/s" -p "${pg_port[$1]}" postgres
}

# pg_promises NAME FROM TO PSQL-ROWS: what was acknowledged before FROM is there, nothing that was issued after TO, no holes.
# Rows: thread|count|max|count of the far table|max of the far table.
pg_promises() {
	local name=$1 from=$2 to=$3 rows=$4 thread count max far far_max acknowledged issued

	[ "$(wc -l <"$rows")" -eq 4 ] || {
		lab_note "    not four threads: $(cat "$rows")"
		return 1
	}
	while IFS='|' read -r thread count max far far_max; do
		acknowledged=$(awk -v t="$from" '$1 == "a" && NF == 3 && $3 < t { n = $2 } END { print n + 0 }' "$lab/s/ledger-$name.$thread")
		issued=$(awk -v t="$to" '$1 == "i" && NF == 3 && $3 <= t { n = $2 } END { print n + 0 }' "$lab/s/ledger-$name.$thread")
		if [ "$count" != "$max" ] || [ "$far" != "$far_max" ] || [ "$max" != "$far_max" ] ||
			[ "$acknowledged" -gt "$max" ] || [ "$max" -gt "$issued" ]; then
			lab_note "    thread $thread: $count of $max, far $far of $far_max; acknowledged $acknowledged, issued $issued"
			return 1
		fi
		pg_entries=$((${pg_entries:-0} + max))
	done <"$rows"
}

# pg_restored_start NAME DATA [OPTION...]: a second server on restored files; fails if it does not come up.
pg_restored_start() {
	local name=$1 i

	pg_data[$name]=$2
	pg_port[$name]=${pg_port[$name]:-$((5500 + ${#pg_port[@]}))}
	shift 2
	lab_spawn "$name" setpriv --reuid=postgres --regid=postgres --clear-groups -- "$pg_bin/postgres" -D "${pg_data[$name]}" \
		-p "${pg_port[$name]}" "$@"
	for ((i = 0; i < 1200; i++)); do
		! pg_sql "$name" "SELECT 1" >/dev/null 2>&1 || return 0
		lab_alive "$name" || return 1
		sleep 0.05
	done
	return 1
}

# pg_good NAME: what the database itself can say of its state.
pg_good() {
	as_postgres "$pg_bin/pg_amcheck" -h "$lab/s" -p "${pg_port[$1]}" --install-missing --heapallindexed postgres >"$lab/err" 2>&1 &&
		equal "$(pg_sql "$1" "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(tbalance) FROM pgbench_tellers)
			AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
			AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")" t
}

# Nothing of a backup is left in the server.
pg_is_free() {
	[ "$(pg_sql "$1" "SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vss-postgresql-writer')
		+ (SELECT count(*) FROM pg_replication_slots)")" = 0 ]
}

# pg_writer [USER]: the writer, with $lab/writer.conf
pg_writer() {
	rm -f "$lab/writer.log"
	lab_spawn writer setpriv --reuid="${1:-root}" --regid="$(id -g "${1:-root}")" --clear-groups -- "$build/writers/postgresql/vss-postgresql-writer" --config "$lab/writer.conf"
	lab_wait 15 grep -q ': registered\|^registered\|>registered' "$lab/writer.log" || lab_die "the writer does not start: $(cat "$lab/writer.log")"
}

# ---- the scene: a cluster `single` on one subvolume, and `split` on three, with tables ----

single="" split=() set=""

pg_scene() {
	local path

	scene_start "$1" setpriv psql
	pg_need "$1"
	pg_begin
	cp "$build/tests/ledger/pg-ledger" "$lab/pg-ledger"
	lab_make_btrfs d 6G
	single=$lab/d/single
	split=("$lab/d/data" "$lab/d/wal" "$lab/d/space")
	for path in "$single" "${split[@]}"; do
		btrfs --quiet subvolume create "$path"
	done
	pg_make single "$single/pg"
	pg_make split "$lab/d/data/pg" "$lab/d/wal/pg_wal"
	pg_start single
	pg_start split
	pg_tables single
	pg_tables split "$lab/d/space/far"
	mkdir -p "$lab/etc/15/split"
	echo "data_directory = '$lab/d/data/pg'" >"$lab/etc/15/split/postgresql.conf"
	pg_configure
	scene_configure PrepareSnapshot=2s Event=20s
}

# pg_configure [LINE...]: the writer's configuration, with these lines more.
pg_configure() {
	cat >"$lab/writer.conf" <<-CONFIG
		[PostgreSQL]
		ConfigRoots=$lab/etc
		DataRoots=$lab/nothing
		DataDirectory=$single/pg
	CONFIG
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$lab/writer.conf"
}

# pg_set PATH...: a set of these, which must be consistent; its id is in $set.
pg_set() {
	local arguments=() path

	for path in "$@"; do
		arguments+=(--for "$path")
	done
	: >"$lab/Clock.events"
	try create shadow "${arguments[@]}" --json
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 1
	set=$(scene_result .Set)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
}

# pg_document FILTER: of what the writer says of its clusters in the copies of $set
pg_document() {
	local record

	for record in "$lab"/d/.vss/*/record.json; do
		jq -r --arg s "$set" "select(.Record.Set == \$s) | .. | objects | .Documents? // empty | .PostSnapshot? // empty |
			fromjson | .[] | $1" "$record"
	done | sort -u
}

pg_way() {
	pg_document .Way
}

# pg_restore NAME: each copy of $set as a writable subvolume $lab/d/restored/NAME/LAST-PART-OF-ITS-PATH
pg_restore() {
	local copy path

	mkdir -p "$lab/d/restored/$1" "$lab/exposed"
	vssctl list shadows --set "$set" --json | jq -r '.shadows[] | "\(.Shadow) \(.Volume)"' >"$lab/copies"
	while read -r copy path; do
		vssctl expose --shadow "$copy" "$lab/exposed" >/dev/null
		btrfs --quiet subvolume snapshot "$lab/exposed" "$lab/d/restored/$1/${path##*/}"
		vssctl unexpose --shadow "$copy" >/dev/null
	done <"$lab/copies"
}

# pg_relocate NAME: lets the restored cluster `split` find its WAL and its tablespace where they are now.
pg_relocate() {
	local data=$lab/d/restored/$1/data/pg

	ln -sfn "$lab/d/restored/$1/wal/pg_wal" "$data/pg_wal"
	[ ! -e "$data/tablespace_map" ] || sed -i "s|$lab/d/space|$lab/d/restored/$1/space|" "$data/tablespace_map"
}

pg_drop_restored() {
	find "$lab/d/restored/$1" -mindepth 1 -maxdepth 1 -exec btrfs --quiet subvolume delete {} +
}

pg_drop() {
	pg_drop_restored "$1"
	vssctl delete shadows --set "$set" -y >/dev/null
}

pg_rows() {
	pg_sql "$1" "SELECT thread, count(*), max(number), f.count, f.max FROM ledger
		JOIN (SELECT thread, count(*), max(number) FROM ledger_far GROUP BY thread) f USING (thread)
		GROUP BY thread, f.count, f.max ORDER BY thread"
}

# pg_restored_is_good LEDGER DATA FROM TO [thoroughly]: a server on the restored files keeps the promises.
pg_restored_is_good() {
	check "a server starts on the copy" pg_restored_start restored "$2" -c fsync=off
	pg_rows restored >"$lab/ledger-rows" 2>&1 || true
	check "every promise is kept" pg_promises "$1" "$3" "$4" "$lab/ledger-rows"
	[ "${5:-}" != thoroughly ] || check "the database is in order" pg_good restored
	pg_stop restored
}
