#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# ledger, under its load, must pass everything that a vendor's writer must, and its books must balance afterwards.
# Usage: ledger-writer.sh VSS-WRITER-CHECK LEDGER
set -euo pipefail

check=$1 ledger=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

mkdir "$dir/a" "$dir/b"
"$check" -- "$ledger" run --a "$dir/a" --b "$dir/b" --status "$dir/frozen-at"
"$ledger" check --a "$dir/a" --b "$dir/b"
[ "$(cat "$dir/frozen-at")" -gt 0 ]
