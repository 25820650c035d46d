# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# MariaDB servers for the tests of their writer: on top of scene.sh. Servers run as the user mysql, on sockets in $lab/s alone.
# shellcheck source=tests/system/scene.sh
. "$(dirname "${BASH_SOURCE[0]}")/scene.sh"

declare -A maria_data=()
set="" data=""
maria_as=mysql # the writer's user

as_mysql() {
	exec setpriv --reuid=mysql --regid=mysql --clear-groups -- "$@"
}

# maria_make NAME DATA [OPTION...]: options of the server, which are kept in DATA/../NAME.cnf's place, $lab/NAME.cnf.
maria_make() {
	local name=$1 data=$2

	shift 2
	maria_data[$name]=$data
	# Address space for terabytes, which is its default, is not to be had in every machine.
	printf '[mariadbd]\ninnodb_buffer_pool_size=32M\nloose_innodb_buffer_pool_size_max=32M\ninnodb_log_file_size=16M\nlog_bin=binlog\nserver_id=7\nskip_networking\n' >"$lab/$name.cnf"
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$lab/$name.cnf"
	[ -e "$lab/s/maria-template" ] || {
		install -d -o mysql -g mysql "$lab/s/maria-template"
		(as_mysql mariadb-install-db --no-defaults --datadir="$lab/s/maria-template" --innodb-log-file-size=16M --loose-innodb-buffer-pool-size-max=128M --auth-root-authentication-method=socket --auth-root-socket-user=mysql --skip-test-db) >"$lab/install.log" 2>&1 ||
			lab_die "mariadb-install-db: $(tail -n 20 "$lab/install.log")"
	}
	cp --archive "$lab/s/maria-template" "$data"
}

# maria_start NAME [OPTION...]
maria_start() {
	maria_spawn "$@"
	lab_wait 30 maria_sql "$1" "SELECT 1" || lab_die "the server $1 does not start: $(tail -n 20 "$lab/$1.log")"
}

maria_spawn() {
	local name=$1

	shift
	# As Debian's unit starts it: with a right that keeps others of its user from looking into it.
	lab_spawn "$name" setpriv --reuid=mysql --regid=mysql --clear-groups --inh-caps=+ipc_lock --ambient-caps=+ipc_lock -- mariadbd --defaults-file="$lab/$name.cnf" \
		--datadir="${maria_data[$name]}" --socket="$lab/s/$name.sock" --pid-file="$lab/s/$name.pid" "$@"
}

maria_sql() {
	(as_mysql timeout 20 mariadb --no-defaults -u mysql -S "$lab/s/$1.sock" -N -B -e "$2")
}

maria_scene() {
	scene_start "$1" setpriv mariadbd mariadb mariadb-install-db
	[ -x "$1/writers/mariadb/vss-mariadb-writer" ] || scene_skip "the writer is not built"
	chmod 0711 "$lab"
	install -d -o mysql -g mysql "$lab/s"
	cp "$build/tests/ledger/maria-ledger" "$lab/maria-ledger"
	lab_make_btrfs d 3G
	for path in d/data v/redo; do
		btrfs --quiet subvolume create "$lab/$path"
	done
	mkdir "$lab/d/restored"
	data=$lab/d/data
	maria_make main "$data/mysql"
	maria_start main
	maria_sql main "CREATE DATABASE test; CREATE TABLE test.ledger (thread int, number bigint, PRIMARY KEY (thread, number)) ENGINE=InnoDB;
		CREATE TABLE test.old (number int) ENGINE=MyISAM; INSERT INTO test.old VALUES (1)"
	maria_configure
	sed "s|^Paths=.*|Paths=$data/mysql|" "$(dirname "${BASH_SOURCE[0]}")/../../writers/mariadb/mariadb.writer" >"$lab/manifests/mariadb.writer"
	scene_configure Identify=5s PrepareSnapshot=5s Event=20s Freeze=4s
}

# maria_configure [LINE...]
maria_configure() {
	printf '[MariaDB]\nDataDirectory=%s\nConnectLimit=2s\nLockLimit=3s\n' "${maria_data[main]}" >"$lab/writer.conf"
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$lab/writer.conf"
}

# maria_writer: the writer, with $lab/writer.conf
maria_writer() {
	rm -f "$lab/writer.log"
	lab_spawn writer setpriv --reuid="$maria_as" --regid="$(id -g "$maria_as")" --clear-groups -- "$build/writers/mariadb/vss-mariadb-writer" --config "$lab/writer.conf"
	lab_wait 15 grep -q ': registered\|^registered\|>registered' "$lab/writer.log" || lab_die "the writer does not start: $(cat "$lab/writer.log")"
}

maria_rewriter() {
	lab_stop writer
	lab_wait 5 scene_is_absent MariaDB || true
	maria_configure "$@"
	maria_writer
}

maria_ledger() {
	lab_spawn ledger setpriv --reuid=mysql --regid=mysql --clear-groups -- "$lab/maria-ledger" "$lab/s/main.sock" 4 "$lab/s/ledger"
	lab_wait 10 grep -q READY "$lab/ledger.log" || lab_die "the ledger does not start"
}

maria_name() {
	scene_row MariaDB '.Components[].Name' | head -n 1
}

# Nothing is held: writes and changes of tables are acknowledged.
maria_runs() {
	maria_sql "${1:-main}" "CREATE OR REPLACE TABLE test.free (number int); DROP TABLE test.free; INSERT INTO test.old VALUES (2); REPLACE INTO test.ledger VALUES (99, 1); COMMIT" >/dev/null
}

# maria_document FILTER: of what the writer says in the copies of $set
maria_document() {
	local record

	for record in "$lab"/d/.vss/*/record.json; do
		jq -r --arg s "$set" "select(.Record.Set == \$s) | .. | objects | .Documents? // empty | .Thaw? // empty |
			fromjson | .[] | $1" "$record"
	done | sort -u
}

# maria_records FILTER: of the records of all copies of $set, on both filesystems
maria_records() {
	cat "$lab"/[dv]/.vss/*/record.json | jq -r --arg s "$set" "select(.Record.Set == \$s) | $1"
}

# maria_promises FROM TO ROWS: as postgresql.sh has it. Rows: thread, count, max.
maria_promises() {
	local from=$1 to=$2 thread count max acknowledged issued

	[ "$(wc -l <"$3")" -eq 4 ] || {
		lab_note "    not four threads: $(cat "$3")"
		return 1
	}
	while read -r thread count max; do
		acknowledged=$(awk -v t="$from" '$1 == "a" && NF == 3 && $3 < t { n = $2 } END { print n + 0 }' "$lab/s/ledger.$thread")
		issued=$(awk -v t="$to" '$1 == "i" && NF == 3 && $3 <= t { n = $2 } END { print n + 0 }' "$lab/s/ledger.$thread")
		if [ "$count" != "$max" ] || [ "$acknowledged" -gt "$max" ] || [ "$max" -gt "$issued" ]; then
			lab_note "    thread $thread: $count of $max; acknowledged $acknowledged, issued $issued"
			return 1
		fi
		entries=$((${entries:-0} + max))
	done <"$3"
}

# maria_acknowledged FROM TO: how many writes were acknowledged in between
maria_acknowledged() {
	awk -v f="$1" -v t="$2" '$1 == "a" && NF == 3 && $3 > f && $3 < t' "$lab"/s/ledger.? | wc -l
}

# ---- sets of $data, and what is done to them ----

good_set() {
	: >"$lab/Clock.events"
	try create shadow --for "$data" --json
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || {
		tail -n 5 "$lab/writer.log"
		return 1
	}
	set=$(scene_result .Set)
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
}

drop() {
	vssctl delete shadows --set "$set" -y >/dev/null
}

during() {
	local op=$1

	shift
	scene_gate "$op" "delay 1000"
	scene_background set create shadow --for "$data"
	check "the set comes to $op" lab_wait 20 scene_at_gate "$op"
	"$@"
	scene_ended set 30
}

fails() {
	check "the set fails" differ "$code" 0
	check "vssctl says why" contains "$lab/err" "$1"
	check "the record says why" contains <(scene_row MariaDB '"\(.Phase): \(.LastError): \(.Message)"') "$1"
	[ $# -lt 2 ] || check "and where" equal "$(scene_row MariaDB .Phase)" "$2"
}

next_set_works() {
	seen "over"
	check "the server takes writes" maria_runs
	check "no session is left" lab_wait 10 scene_no_session
	if good_set; then drop; fi
}

crash() {
	lab_stop main KILL
	maria_start main
}

hang() {
	kill -STOP "${lab_pid[main]}"
}
