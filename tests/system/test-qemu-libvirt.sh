#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Domains of libvirt as guests: a libvirtd of its own, in a mount namespace, with one domain; frozen through it, off, suspended, and
# a libvirtd that dies.
# Usage: test-qemu-libvirt.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"
# shellcheck source=tests/system/guest.sh
. "$(dirname "$0")/guest.sh"

declare -r writer_name="QEMU Guest Writer"
uri=""

libvirt_inside() {
	cat <<-'INSIDE'
		set -e
		lab=$1
		mount -t tmpfs run /run
		for place in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
			mkdir -p "$lab/libvirt$place" "$place"
			mount --bind "$lab/libvirt$place" "$place"
		done
		printf '%s\n' 'user="root"' 'group="root"' 'security_driver="none"' 'cgroup_controllers=[]' 'namespaces=[]' \
			'remember_owner=0' 'stdio_handler="file"' >/etc/libvirt/qemu.conf
		echo 'auth_unix_rw="none"' >/etc/libvirt/libvirtd.conf
		# It looks for a user of its own before it reads that.
		for file in passwd group; do
			cp "/etc/$file" "$lab/libvirt/$file"
			grep -q ^libvirt-qemu: "/etc/$file" || case $file in
			passwd) echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' ;;
			group) echo 'libvirt-qemu:x:64055:' ;;
			esac >>"$lab/libvirt/$file"
			mount --bind "$lab/libvirt/$file" "/etc/$file"
		done
		exec libvirtd
	INSIDE
}

start_libvirt() {
	mkdir -p "$lab/libvirt"
	libvirt_inside >"$lab/libvirt/start"
	lab_spawn libvirtd unshare --mount --propagation private bash "$lab/libvirt/start" "$lab"
	uri="qemu+unix:///system?socket=/proc/${lab_pid[libvirtd]}/root/run/libvirt/libvirt-sock"
	lab_wait 60 virsh -c "$uri" list || scene_skip "libvirtd does not start here: $(tail -n 3 "$lab/libvirtd.log")"
}

define_domain() {
	cat >"$lab/domain.xml" <<-DOMAIN
		<domain type='qemu'>
		  <name>one two</name>
		  <memory unit='MiB'>256</memory>
		  <vcpu>1</vcpu>
		  <os>
		    <type arch='x86_64' machine='q35'>hvm</type>
		    <kernel>$lab/guest/kernel</kernel>
		    <initrd>$lab/guest/initramfs</initrd>
		    <cmdline>console=ttyS0 quiet panic=-1 rcupdate.rcu_expedited=1</cmdline>
		  </os>
		  <devices>
		    <emulator>/usr/bin/qemu-system-x86_64</emulator>
		    <disk type='file' device='disk'>
		      <driver name='qemu' type='qcow2'/>
		      <source file='$volume/guest.qcow2'/>
		      <target dev='vda' bus='virtio'/>
		    </disk>
		    <disk type='file' device='cdrom'>
		      <driver name='qemu' type='raw'/>
		      <source file='$lab/medium.iso'/>
		      <target dev='sda' bus='sata'/>
		      <readonly/>
		    </disk>
		    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
		  </devices>
		</domain>
	DOMAIN
	virsh -c "$uri" define "$lab/domain.xml" >/dev/null
}

# Libvirt's guests outlive it.
end_domain() {
	local pid

	while read -r pid; do
		kill -KILL "$pid" 2>/dev/null || true
	done < <(pgrep -f -- "-kernel $lab/guest/kernel " || true)
}

start_domain() {
	lab_defer end_domain
	virsh -c "$uri" start "one two" >/dev/null
}

writer_is_there() {
	[ "$(scene_row "$writer_name" .Present)" = true ]
}

start_writer() {
	printf '[QEMU]\nLibvirtUri=%s\nAgentLimit=3s\nFreezeLimit=5s\n' "$uri" >"$lab/qemu.conf"
	RUNTIME_DIRECTORY=$lab/qemu-run lab_spawn writer "$build/writers/qemu/vss-qemu-writer" --config "$lab/qemu.conf"
	lab_wait 15 writer_is_there || lab_die "the writer does not register: $(cat "$lab/writer.log" "$lab/vssd.log")"
}

agent_answers() {
	try verify --for "$volume"
	grep -q '\[ok\] one two: agent: answers' "$lab/out"
}

clean_in_copy() {
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$(scene_result '.Shadows[0].Shadow')" "$lab/exposed" >/dev/null
	qemu-img convert -U -O raw "$lab/exposed/guest.qcow2" "$lab/flat.img"
	vssctl unexpose --shadow "$(scene_result '.Shadows[0].Shadow')" >/dev/null
	! dumpe2fs -h "$lab/flat.img" 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery' &&
		e2fsck -fn "$lab/flat.img" >/dev/null 2>&1
}

state_of() {
	jq -r '[.. | objects | select(has("Thaw")) | .Thaw] | first' "$lab"/v/.vss/*/record.json | jq -r '."one two".State'
}

good_set() {
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "the label" equal "$(scene_result .Consistency)" application
	check "the record" equal "$(state_of)" "$1"
	check "the disk in the copy is clean" clean_in_copy
	scene_clear
}

scene_start "$1" "${guest_tools[@]}" libvirtd virsh mkfs.ext4 dumpe2fs e2fsck
[ -x "$build/writers/qemu/vss-qemu-libvirt" ] || scene_skip "needs a build with libvirt"
package=$(guest_kernel) || scene_skip "needs Debian's cloud kernel (apt-get download)"
guest_build "$package"
mkdir "$lab/qemu-run"
truncate -s 64M "$volume/base.img"
truncate -s 1M "$lab/medium.iso"
mkfs.ext4 -q -F "$volume/base.img"
qemu-img create -q -f qcow2 -F raw -b base.img "$volume/guest.qcow2"
start_libvirt
define_domain
scene_configure Identify=5s PrepareBackup=20s PrepareSnapshot=10s Freeze=10s Event=10s
printf '[Writer]\nId=5a3e0d0c-9c0b-4d6e-8f57-2b1d3c9a7e41\nName=%s\nLevel=system\nPaths=%s\n' "$writer_name" "$volume" \
	>"$lab/manifests/qemu.writer"
scene_vssd
start_writer

begin "a domain that is off is a component, and copied as it is"
check "with its chain" equal "$(scene_row "$writer_name" '[.Components[0].Files[].Spec] | sort | join(" ")')" "base.img guest.qcow2"
good_set off

begin "one that runs is frozen through libvirt"
start_domain
lab_wait 60 agent_answers || lab_die "the guest does not start: $(cat "$lab/out")"
check "its media do not matter" contains "$lab/out" '\[ok\] one two: disks: 2 files'
good_set frozen
good_set frozen

begin "one that is suspended does not answer"
virsh -c "$uri" suspend "one two" >/dev/null
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "one two: the guest: its agent does not answer"
virsh -c "$uri" resume "one two" >/dev/null
lab_wait 20 agent_answers
good_set frozen

begin "libvirt is gone: its domains are not forgotten"
lab_stop libvirtd KILL
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "libvirt does not say which domains there are"

scene_done
