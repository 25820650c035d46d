# SPDX-License-Identifier: LGPL-2.1-or-later
"""The LVM provider with udev: links lead where they led, no copy is ever found by its filesystem's UUID, and each wants its watcher."""
import os
import shutil

from lvm_lab import Set, Worker, run, wait_until

os.makedirs("/run/udev/rules.d", exist_ok=True)
for rules in ("58-vssd.rules", "69-vss-watch.rules"):
    shutil.copy(os.environ["SOURCE"] + "/coordinator/data/" + rules, "/run/udev/rules.d/")
os.makedirs("/run/systemd/system", exist_ok=True)
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


def check_watched(device):
    """At a coldplug, where 99-systemd.rules says of a copy that it is not ready, and when it is made or changed later."""
    path = "/sys/class/block/" + os.path.basename(os.path.realpath(device))
    added, changed = (run("udevadm", "test", f"--action={action}", path) for action in ("add", "change"))
    assert "SYSTEMD_READY=0" in added, "the copy is ready at a coldplug: the rule for that is not needed any more"
    assert "systemctl --no-block start vss-watch.service" in added, f"nobody is told of a copy at a coldplug:\n{added}"
    assert "SYSTEMD_READY=0" not in changed and "SYSTEMD_WANTS=vss-watch.service" in changed, changed


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
    check_watched(f"/dev/vg/{made.volume_of(0)}")
    for i in range(2):
        made.on_copy(i, "unexpose", Path=f"/mnt/copy{i}")
        made.on_copy(i, "remove")
    check_links("removed")
left = [line for line in run("dmsetup", "udevcookies").splitlines()[1:] if line.strip()]
assert not left, f"cookies are left: {left}"
wait_until("no copy is left", lambda: "vss" not in run("dmsetup", "info", "-c", "-o", "name"), 10)
print("links lead where they led")
