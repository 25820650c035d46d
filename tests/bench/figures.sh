# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What the benchmarks in machines of their own say of their samples: files with one number of usec a line.

# now: usec
now() {
	local t=${EPOCHREALTIME/./}
	printf '%s' "$t"
}

# summary FILE: median (p95, max), in ms
summary() {
	sort -n "$1" | awk '{ v[NR] = $1 / 1000 } END { p = int(NR * 0.95 + 0.999); printf "%.2f (%.2f, %.2f)", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[p], v[NR] }'
}

median() {
	sort -n "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# verdict A B LIMIT [least]: the median of A over that of B is at most (at least) LIMIT
verdict() {
	awk -v a="$(median "$1")" -v b="$(median "$2")" -v limit="$3" -v least="${4:-no}" 'BEGIN {
		r = a / b
		met = least == "least" ? r >= limit : r <= limit
		printf "ratio %.2f, target %s %s: %s\n", r, least == "least" ? "at least" : "at most", limit, met ? "met" : "MISSED"
	}'
}
