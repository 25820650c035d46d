#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk that was copied block by block, and attached beside the original: its copies have the ids of the original's.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

volume_ids() { vssctl list shadows --json | jq -r '.shadows[].Device'; }
listed() { [ "$(volume_ids)" = "/dev/$1/vss-${copy:0:8}${copy:9:4}" ]; }

make_vg vg /dev/ubdb
make_lv vg data 48M ext4
mount_lv vg data
start_all
echo first >/mnt/data/file
copy=$(vssctl create shadow --json --for /mnt/data | jq -r '.result.Shadows[0].Shadow')
umount /mnt/data
vgchange -qq -an vg
dd if=/dev/ubdb of=/dev/ubdc bs=1M status=none conv=fsync
vgimportclone -qq -n clone /dev/ubdc >/dev/null || die "the disk's copy cannot be imported"
vgchange -qq -ay vg
vgchange -qq -ay clone

[ "$(volume_ids | wc -l)" -eq 1 ] || die "not one copy: $(volume_ids)"
refuses() { # COMMAND...
	vssctl "$@" >/run/out 2>&1 && die "$*: one of the two copies was taken"
	grep -q "two shadow copies" /run/out || die "$*: it does not say why: $(cat /run/out)"
}
refuses delete shadows --shadow "$copy" -y
refuses revert shadow --shadow "$copy" -y
refuses expose --shadow "$copy" /mnt
lvs --noheadings -o lv_name vg clone | grep -c vss- | grep -qx 2 || die "a copy is gone: $(lvs -a)"

vgchange -qq -an vg
vgexport -qq vg >/dev/null
wait_for 20 listed clone || die "the clone's copy is not listed: $(volume_ids)"
mkdir -p /mnt/copy
vssctl expose --shadow "$copy" /mnt/copy >/dev/null || die "the clone's copy cannot be exposed"
[ "$(cat /mnt/copy/file)" = first ] || die "the clone's copy shows '$(cat /mnt/copy/file)'"
vssctl unexpose --shadow "$copy" >/dev/null
vssctl delete shadows --shadow "$copy" -y >/dev/null || die "the clone's copy cannot be deleted"
vgimport -qq vg >/dev/null
vgchange -qq -ay vg
wait_for 20 listed vg || die "the original's copy is not listed any more: $(volume_ids)"
note "a clone's copies are not taken for the original's"
