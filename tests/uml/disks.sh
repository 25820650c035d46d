# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Virtual disks, and what is encrypted, on a machine with a volume group of its own, and what vssd says of them. Source after lib.sh.

# works ARGUMENT...: vssctl does it; its output is /run/out
works() {
	vssctl "$@" >/run/out 2>/run/err || die "vssctl $*: $(cat /run/err)"
}

# fails WORDS ARGUMENT...: vssctl does not, and says these words
fails() {
	local words=$1

	shift
	! vssctl "$@" >/run/out 2>/run/err || die "vssctl $* succeeds"
	grep -q -e "$words" /run/err || die "vssctl $* fails with other words than '$words': $(cat /run/err)"
}

# may FOR NAME: yes or no, in the list of what could hold copies
may() {
	vssctl list volumes --for "$1" --json | jq -r --arg n "$2" '.candidates[] | select(.Name == $n) | .Candidate'
}

# why_not FOR NAME: the reason in that list
why_not() {
	vssctl list volumes --for "$1" --json | jq -r --arg n "$2" '.candidates[] | select(.Name == $n) | .Why'
}

# may_not FOR NAME WORDS
may_not() {
	why_not "$1" "$2" | grep -q -e "$3" || die "$2 may hold copies of $1, or for another reason: $(why_not "$1" "$2")"
}

# set_of PATH...: a set of copies can be made, and goes again
set_of() {
	local path arguments=()

	for path in "$@"; do
		arguments+=(--for "$path")
	done
	works create shadow --json "${arguments[@]}"
	works delete shadows --set "$(jq -r .result.Set /run/out)" -y
}

# no_set_of WORDS PATH...: refused with these words, whatever the order
no_set_of() {
	local words=$1 path forth=() back=()

	shift
	for path in "$@"; do
		forth+=(--for "$path")
		back=(--for "$path" "${back[@]}")
	done
	fails "$words" create shadow "${forth[@]}"
	[ $# -eq 1 ] || fails "$words" create shadow "${back[@]}"
}

# make_virtual GROUP DEVICE [SIZE]: a group on the device, in it v of SIZE (24M) with a file, mounted at /mnt/GROUP
make_virtual() {
	make_vg "$1" "$2"
	make_lv "$1" v "${3:-24M}" ext4
	mount_lv "$1" v "/mnt/$1"
	echo before >"/mnt/$1/file"
}

# drop_virtual GROUP LOOP [IMAGE]
drop_virtual() {
	umount "/mnt/$1"
	vgremove -qq -f -y "$1" || die "the group $1 cannot be removed"
	losetup -d "$2"
	[ -z "${3:-}" ] || rm -f "$3"
}

# make_luks DEVICE NAME: encrypted, and opened as /dev/mapper/NAME
make_luks() {
	printf secret >/run/key
	cryptsetup luksFormat --batch-mode --key-file /run/key --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$1" || die "no LUKS on $1"
	open_luks "$1" "$2"
}

open_luks() {
	printf secret >/run/key
	cryptsetup open --key-file /run/key "$1" "$2" || die "$1 cannot be opened"
}
