# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Redis servers for the tests of their writer: on top of scene.sh. Servers listen on sockets in $lab/s alone.
# shellcheck source=tests/system/scene.sh
. "$(dirname "${BASH_SOURCE[0]}")/scene.sh"

entries=0 set=""
redis_user=$(id -u redis 2>/dev/null || id -u nobody) redis_group=$(id -g redis 2>/dev/null || id -g nobody)

# Sockets, of a user that is not root.
redis_begin() {
	chmod 0711 "$lab"
	install -d -o "$redis_user" -g "$redis_group" "$lab/s"
	cp "$build/tests/ledger/redis-ledger" "$lab/redis-ledger"
}

redis_ask() {
	timeout "${redis_patience:-3}" redis-cli -s "$lab/s/$1.sock" "${@:2}"
}

redis_answers() {
	[ "$(redis_ask "$1" PING 2>/dev/null)" = PONG ]
}

# redis_server NAME DIRECTORY [OPTION VALUE...]
redis_server() {
	lab_spawn "$1" setpriv --reuid="$redis_user" --regid="$redis_group" --clear-groups -- redis-server --port 0 --unixsocket "$lab/s/$1.sock" \
		--unixsocketperm 777 --dir "$2" --save "" --daemonize no "${@:3}"
	lab_wait 10 redis_answers "$1" || lab_die "the server $1 does not start: $(tail -n 5 "$lab/$1.log")"
}

redis_ledger() {
	lab_spawn ledger "$lab/redis-ledger" "$lab/s/main.sock" 4 "$lab/ledger"
	lab_wait 10 grep -q READY "$lab/ledger.log" || lab_die "the ledger does not start"
}

# redis_writer [LINE...]: the writer anew, with these lines more. Of the ways to one server the first counts.
redis_writer() {
	lab_stop writer 2>/dev/null || true
	lab_wait 5 scene_is_absent Redis || true
	printf '[Redis]\nSocket=%s\nConfig=%s\nProcesses=no\nCommandLimit=1s\n' "$lab/s/${redis_first:-main}.sock" "$lab/etc/*.conf" >"$lab/writer.conf"
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$lab/writer.conf"
	rm -f "$lab/writer.log"
	lab_spawn writer "$build/writers/redis/vss-redis-writer" --config "$lab/writer.conf"
	lab_wait 15 grep -q 'registered' "$lab/writer.log" || lab_die "the writer does not start: $(cat "$lab/writer.log")"
}

# redis_promises FROM TO NAME: what was acknowledged before FROM is there, nothing that was issued after TO, no holes.
redis_promises() {
	local thread count max acknowledged issued

	for thread in 1 2 3 4; do
		count=$(redis_ask "$3" ZCARD "ledger:$thread")
		max=$(redis_ask "$3" ZREVRANGE "ledger:$thread" 0 0)
		acknowledged=$(awk -v t="$1" '$1 == "a" && NF == 3 && $3 < t { n = $2 } END { print n + 0 }' "$lab/ledger.$thread")
		issued=$(awk -v t="$2" '$1 == "i" && NF == 3 && $3 <= t { n = $2 } END { print n + 0 }' "$lab/ledger.$thread")
		if [ "$count" != "${max:-0}" ] || [ "$acknowledged" -gt "$count" ] || [ "$count" -gt "$issued" ]; then
			lab_note "    thread $thread: $count of $max; acknowledged $acknowledged, issued $issued"
			return 1
		fi
		entries=$((entries + count))
	done
}

# Of the last set, $set: document FILTER
document() {
	local record

	for record in "$lab"/v/.vss/*/record.json; do
		jq -r --arg s "$set" "select(.Record.Set == \$s) | .. | objects | .Documents? // empty | .. | strings |
			(fromjson? // empty) | .. | objects | $1 // empty" "$record"
	done | sort -u
}

# ---- bad days ----

is_writable() {
	equal "$(redis_ask "${1:-main}" SET probe "$RANDOM")" OK
}

# fails WORDS [EVENT]
fails() {
	check "the set fails" differ "$code" 0
	check "the record says why" contains <(scene_row Redis '"\(.Phase): \(.LastError): \(.Message)"') "$1"
	[ $# -lt 2 ] || check "and where" equal "$(scene_row Redis .Phase)" "$2"
}

# during OP HARM...: a set, and what is done while the worker is kept from OP.
during() {
	local op=$1

	shift
	scene_gate "$op" "delay 700"
	scene_background set create shadow --for "$volume"
	check "the set comes to $op" lab_wait 20 scene_at_gate "$op"
	"$@"
	scene_ended set 30
}

redis_pid() {
	echo "${lab_pid[${1:-main}]}"
}
