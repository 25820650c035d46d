# SPDX-License-Identifier: LGPL-2.1-or-later
"""The LVM provider with udev: links lead where they led, and no copy is ever found by its filesystem's UUID."""
import os
import shutil

from lvm_lab import Set, Worker, run, wait_until

os.makedirs("/run/udev/rules.d", exist_ok=True)
shutil.copy(os.environ["SOURCE"] + "/coordinator/data/58-vssd.rules", "/run/udev/rules.d/")
run("udevadm", "control", "--reload")
run("vgcreate", "-qq", "-y", "vg", "/dev/ubdb")
run("lvcreate", "-qq", "-y", "-Wy", "-n", "a", "-L", "64M", "vg")
run("lvcreate", "-qq", "-y", "--type", "thin-pool", "-n", "pool", "-L", "128M", "vg")
run("lvcreate", "-qq", "-y", "--type", "thin", "--thinpool", "pool", "-n", "t", "-V", "64M", "vg")
for name in ("a", "t"):
    run("mkfs.ext4", "-q", f"/dev/vg/{name}")
    os.makedirs(f"/mnt/{name}")
    run("mount", f"/dev/vg/{name}", f"/mnt/{name}")
run("udevadm", "trigger", "--action=change", "--subsystem-match=block")
run("udevadm", "settle")
uuids = {name: run("blkid", "-p", "-s", "UUID", "-o", "value", f"/dev/vg/{name}").strip() for name in ("a", "t")}


def check_links(when):
    run("udevadm", "settle", "--timeout=30")
    for name, uuid in uuids.items():
        link, node = f"/dev/disk/by-uuid/{uuid}", f"/dev/vg/{name}"
        assert os.path.exists(node), f"{when}: {node} is gone"
        assert os.path.realpath(link) == os.path.realpath(node), f"{when}: {link} leads to {os.path.realpath(link)}, not {name}"


check_links("before")
volumes, lvm = Worker("volumes"), Worker("lvm")
for round in range(3):
    found = volumes.must("resolve", Paths=["/mnt/a", "/mnt/t"])[0]["Volumes"]
    made = Set(lvm, found).make()
    check_links("made")
    assert os.path.exists(f"/dev/vg/{made.volume_of(0)}"), "the copy has no link of LVM's"
    for i in range(2):
        os.makedirs(f"/mnt/copy{i}", exist_ok=True)
        made.on_copy(i, "expose", Path=f"/mnt/copy{i}")
    check_links("exposed")
    run("udevadm", "trigger", "--action=add", "--subsystem-match=block")
    run("udevadm", "trigger", "--action=change", "--subsystem-match=block")
    check_links("after a coldplug")
    for i in range(2):
        made.on_copy(i, "unexpose", Path=f"/mnt/copy{i}")
        made.on_copy(i, "remove")
    check_links("removed")
left = [line for line in run("dmsetup", "udevcookies").splitlines()[1:] if line.strip()]
assert not left, f"cookies are left: {left}"
wait_until("no copy is left", lambda: "vss" not in run("dmsetup", "info", "-c", "-o", "name"), 10)
print("links lead where they led")
