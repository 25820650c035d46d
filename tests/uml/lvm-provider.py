# SPDX-License-Identifier: LGPL-2.1-or-later
"""The LVM provider's ops on real volumes, and what it leaves when things go wrong."""
import glob
import json
import os
import subprocess
import sys
import threading
import time

from lvm_lab import HOST, Set, Worker, group_state, new_id, run, wait_until

OTHER = "f" * 32
LEVEL = os.environ["VSSD_TEST_LEVEL"]
ALL = ["/mnt/a", "/mnt/x", "/mnt/t", "/dev/vg/raw"]
FILES = ["/mnt/a/file", "/mnt/x/file", "/mnt/t/file"]
started = time.monotonic()


def count(fast, default, long):
    return {"fast": fast, "long": long}.get(LEVEL, default)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def read(path):
    with open(path) as file:
        return file.read()


class Scene:
    def __init__(self):
        run("vgcreate", "-qq", "-y", "vg", "/dev/ubdb")
        for name, size in (("a", "64M"), ("x", "320M"), ("raw", "32M")):
            run("lvcreate", "-qq", "-y", "-Wy", "-Zy", "-n", name, "-L", size, "vg")
        run("lvcreate", "-qq", "-y", "--type", "thin-pool", "-n", "pool", "-L", "128M", "vg")
        run("lvcreate", "-qq", "-y", "--type", "thin", "--thinpool", "pool", "-n", "t", "-V", "64M", "vg")
        for name, kind in (("a", "ext4"), ("x", "xfs"), ("t", "ext4")):
            run("mkfs." + kind, "-q", f"/dev/vg/{name}")
            os.makedirs(f"/mnt/{name}", exist_ok=True)
            self.mount(name)
        self.volumes = Worker("volumes")
        self.lvm = Worker("lvm")
        self.uuid = run("vgs", "--noheadings", "-o", "vg_uuid", "vg").strip()

    def mount(self, name):
        run("mount", f"/dev/vg/{name}", f"/mnt/{name}")

    def resolve(self, *paths):
        found = self.volumes.must("resolve", Paths=list(paths))[0]["Volumes"]
        for volume in found:
            assert volume.get("Provider") == "lvm", volume
        return found

    def set(self, *paths, **more):
        return Set(self.lvm, self.resolve(*paths), **more)

    def list(self):
        return self.lvm.must("list", Host=HOST)[0]["Filesystems"]

    def copies(self, kind="Copies"):
        return [copy for group in self.list() for copy in group[kind]]

    def remember(self):
        self.before = group_state("vg")

    def as_before(self, what):
        now = group_state("vg")
        if now != self.before:
            write("/run/before", self.before)
            write("/run/now", now)
            raise AssertionError(f"{what}: the volume group is not as before:\n" + run("diff", "/run/before", "/run/now", check=False))


def write_all(text):
    for path in FILES:
        write(path, text)
    with open("/dev/vg/raw", "r+b") as raw:
        raw.write(text.encode())


# ---- the ordinary way ----


def check_exposed(scene, made, i):
    where = f"/mnt/copy{i}"
    os.makedirs(where, exist_ok=True)
    made.on_copy(i, "expose", Path=where)
    assert read(where + "/file") == "before"
    try:
        write(where + "/new", "x")
        raise AssertionError(f"{where} can be written")
    except OSError:
        pass
    record = json.loads(read(where + "/.vss/record.json"))["Record"]
    assert record["Set"] == made.id and made.on_copy(i, "record")["Record"]["Volume"]["Mounted"]
    made.refuses_on_copy(i, "VolumeInUse", "mounted at " + where, "remove")
    assert [c["Exposed"] for c in scene.copies() if c["Copy"] == made.members[i]["Copy"]] == [where]
    made.on_copy(i, "unexpose", Path=where)
    made.refuses_on_copy(i, "ObjectNotFound", "is not what is mounted", "unexpose", Path=where)
    _, (fd,) = scene.lvm.must("mount", Copy=made.members[i]["Copy"], Filesystem=scene.uuid)
    os.close(fd)


def test_life(scene):
    scene.remember()
    write_all("before")
    made = scene.set(*ALL).make()
    write_all("after ")
    assert len(scene.copies()) == 4 and not scene.copies("Unfinished")
    token = scene.list()[0]["Token"]
    again = scene.lvm.must("list", Host=HOST, Tokens={scene.uuid: token})[0]["Filesystems"][0]
    assert again["Unchanged"] and not again["Copies"]
    for i in range(3):
        check_exposed(scene, made, i)
    made.refuses_on_copy(3, "NotSupported", "use its device", "mount")
    with open(f"/dev/vg/{made.volume_of(3)}", "rb") as device:
        assert device.read(6) == b"before"
    assert made.on_copy(3, "record")["Record"]["ConsistencyReason"] == "nobody was asked"
    for i in (0, 1, 3):
        assert made.on_copy(i, "usage")["Exclusive"] > 0
        assert run("blockdev", "--getro", f"/dev/vg/{made.volume_of(i)}").strip() == "1"
    run("e2fsck", "-fn", f"/dev/vg/{made.volume_of(0)}")
    for i in range(4):
        made.on_copy(i, "remove", Host=OTHER if i % 2 else HOST)  # finished ones: wherever the disk came from
    made.refuses_on_copy(0, "ObjectNotFound", "holds no copy", "remove")
    scene.as_before("remove")


def test_repair(scene):
    made = scene.set("/mnt/a", "/mnt/x", Repair=True).prepare()
    made.arm()
    made.window()
    made.open()
    directory = made.members[0]["Directory"]
    held = os.open("held", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
    request, fds = made.request()
    for member in made.members:
        made.close(member.pop("Directory"))
    rows = [{**row, "Record": {"Set": made.id, "SetCount": 2}} for row in request["Members"]]
    scene.lvm.refuses("VolumeInUse", "open for writing", "seal", fds, **{**request, "Members": rows})
    os.close(held)
    made.seal()
    made.forget()
    os.makedirs("/mnt/copy0", exist_ok=True)
    made.on_copy(0, "expose", Path="/mnt/copy0")
    assert os.path.exists("/mnt/copy0/held")
    made.on_copy(0, "unexpose", Path="/mnt/copy0")
    made.abort()


# ---- what somebody else does ----


def attributes(name):
    return run("dmsetup", "info", "-c", "--noheadings", "-o", "attr", name).strip()


def finish(made):
    made.window()
    made.open()
    made.abort()


def test_strangers(scene):
    scene.remember()
    made = scene.set(*ALL).prepare()
    run("lvchange", "-qq", "--refresh", "vg/a", "vg/x", "vg/raw")
    placeholder = "vg-" + made.volume_of(0).replace("-", "--")
    assert attributes(placeholder).startswith("L"), "the stranger did nothing"
    made.arm()
    assert attributes(placeholder)[1] == "I", "arm did not make the copy ready again"
    kept_out = subprocess.run(["timeout", "1", "lvs", "vg"], capture_output=True).returncode
    assert kept_out == 124, "LVM is not kept out of the group"
    made.window()
    run("lvs", "vg")
    made.open()
    made.abort()
    scene.as_before("abort after lvchange --refresh")

    made = scene.set("/mnt/a").prepare()
    run("dmsetup", "remove", "vg-" + made.volume_of(0).replace("-", "--"))
    made.arm()
    finish(made)

    made = scene.set("/mnt/a").prepare()
    run("dmsetup", "remove", "vg-" + made.volume_of(0).replace("-", "--"))
    run("lvremove", "-qq", "-y", "vg/" + made.volume_of(0))
    made.refuses("ObjectNotFound", "is gone", "arm")
    made.abort()
    scene.as_before("abort after lvremove")

    made = scene.set("/dev/vg/raw").prepare()
    claim = os.open("/dev/vg/raw", os.O_RDONLY | os.O_EXCL)
    made.refuses("VolumeInUse", "has come into use", "arm")
    os.close(claim)
    made.abort()

    made = scene.set("/mnt/a").prepare()
    hold = subprocess.Popen(["flock", "-x", "/run/lock/lvm/V_vg", "sleep", "1"])
    wait_until("the lock is taken", lambda: subprocess.run(["flock", "-n", "/run/lock/lvm/V_vg", "true"]).returncode, 5)
    made.refuses("HoldWritesTimeout", "LVM command is at work", "arm", Limit=200000)
    hold.wait()
    made.abort()


def test_frozen(scene):
    scene.remember()
    run("fsfreeze", "-f", "/mnt/a")
    scene.set("/mnt/a", "/mnt/x").refuses("VolumeInUse", "/mnt/a is frozen by somebody else", "prepare")
    run("fsfreeze", "-u", "/mnt/a")
    run("dmsetup", "suspend", "vg-x")
    made = Set(scene.lvm, scene.resolve("/mnt/x"))
    made.refuses("VolumeInUse", "suspended by somebody else", "prepare")
    run("dmsetup", "resume", "vg-x")
    scene.as_before("prepare that was refused")
    # LVM's own suspension would freeze it once more, which fails on older kernels.
    older, newer = (scene.set("/mnt/a").make() for _ in range(2))
    run("fsfreeze", "-f", "/mnt/a")
    try:
        older.on_copy(0, "remove")
    finally:
        run("fsfreeze", "-u", "/mnt/a")
    newer.on_copy(0, "remove")
    scene.as_before("copies deleted while a stranger has the filesystem frozen")
    assert_healthy(scene, "a")


class Opener(threading.Thread):
    """Somebody who opens the placeholder as soon as there is one (udev, blkid), and keeps it."""

    def __init__(self, name, seconds):
        super().__init__()
        self.name, self.seconds, self.ended, self.opened = name, seconds, threading.Event(), False
        self.start()

    def find(self):
        """By the kernel's own nodes. Before it has a store the name is that of a volume which LVM empties."""
        devices = {}
        for device in glob.glob("/sys/block/dm-*"):
            try:
                devices[read(device + "/dm/name").strip()] = os.path.basename(device)
            except OSError:
                pass
        try:
            return os.open("/dev/" + devices[self.name], os.O_RDONLY) if self.name + "-cow" in devices else -1
        except (KeyError, OSError):
            return -1

    def run(self):
        fd = -1
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(9))  # it is not there for long
        while fd < 0 and not self.ended.is_set():
            time.sleep(0.002)
            fd = self.find()
        if fd >= 0:
            self.opened = True
            self.ended.wait(self.seconds)
            os.close(fd)


def prepare_opened(scene, seconds):
    """What prepare answers while somebody keeps a placeholder open."""
    made = scene.set("/mnt/a", "/mnt/x")
    request, fds = made.request()
    opener = Opener(f"vg-vss--{made.volume_of(0)[4:]}", seconds)
    answer, got = scene.lvm.ask("prepare", fds, **request)
    opener.ended.set()
    opener.join()
    assert opener.opened, "nobody opened the placeholder"
    for fd in got:
        os.close(fd)
    made.abort()
    scene.as_before(f"a placeholder that was open for {seconds} s")
    return answer


def test_openers(scene):
    scene.remember()
    assert prepare_opened(scene, 0.7)["ok"]
    answer = prepare_opened(scene, 5)
    assert not answer["ok"] and answer["error"]["Name"] == "VolumeInUse" and "kept it open" in answer["error"]["Text"], answer


# ---- rules ----


def test_rules(scene):
    scene.remember()
    made = scene.set("/mnt/a", StoreSize=1 << 36).prepare()
    size = float(run("lvs", "--noheadings", "--units", "m", "--nosuffix", "-o", "lv_size", "vg/" + made.volume_of(0)))
    assert size <= 72, f"a store of {size} MiB for 64"
    made.abort()
    made = scene.set("/mnt/a", Pvs=["/dev/nonsense"])
    made.refuses("UnexpectedProviderError", "nonsense", "prepare")

    thin = scene.set("/mnt/t").make()
    scene.set("/mnt/t").refuses("MaximumNumberOfSnapshotsReached", "/mnt/t has 1 copies", "prepare", MaxCopies=1)
    thin.abort()
    cow = scene.set("/mnt/a").make()
    scene.set("/mnt/a").refuses("MaximumNumberOfSnapshotsReached", "multiply its writes", "prepare", MaxCowCopies=1)
    cow.abort()

    run("lvcreate", "-qq", "-y", "-n", "filler", "-l", "100%FREE", "vg")
    scene.set("/mnt/a", "/mnt/x").refuses("InsufficientStorage", "0 extents of 4096 KiB free (0 MiB), and the copies need", "prepare")
    run("lvremove", "-qq", "-y", "vg/filler")
    scene.as_before("prepare in a full group")

    raw = scene.resolve("/dev/vg/raw")[0]
    run("mkswap", "/dev/vg/raw")
    run("swapon", "/dev/vg/raw")
    Set(scene.lvm, [raw]).refuses("VolumeNotSupported", "swap space in use", "prepare")
    run("swapoff", "/dev/vg/raw")
    run("wipefs", "-qa", "/dev/vg/raw")
    Set(scene.lvm, [{**raw, "LvUuid": "other"}]).refuses("ObjectNotFound", "is not the volume any more", "prepare")
    Set(scene.lvm, [{**raw, "Vg": "vg'; x"}]).refuses("InvalidArgument", "malformed", "prepare")
    Set(scene.lvm, [{**raw, "Vg": "nonsense"}]).refuses("ProviderVeto", '"nonsense" not found', "prepare")
    scene.lvm.refuses("InvalidArgument", "lacks", "prepare", Set="x")
    scene.as_before("rules")


def test_full_areas(scene):
    """A group whose metadata area is full, and a pool whose data are."""
    run("pvcreate", "-qq", "-y", "--metadatasize", "128k", "/dev/ubdc")
    run("vgcreate", "-qq", "-y", "small", "/dev/ubdc")
    run("lvcreate", "-qq", "-y", "-n", "v", "-L", "32M", "small")
    n = 0
    room = lambda: int(run("vgs", "--noheadings", "--units", "b", "--nosuffix", "-o", "vg_mda_free", "small"))
    while room() >= 4096:
        tags = [f"--addtag={'t' * 1000}{n}-{k}" for k in range(max(1, min(200, (room() - 1500) // 1010)))]
        run("lvchange", "-qq", *tags, "small/v")
        n += 1
    scene.set("/dev/small/v").refuses("InsufficientStorage", "The metadata area of the volume group small", "prepare")
    run("vgremove", "-qq", "-y", "small")

    run("vgcreate", "-qq", "-y", "small", "/dev/ubdc")
    run("lvcreate", "-qq", "-y", "--type", "thin-pool", "-n", "pool", "-L", "32M", "small")
    run("lvchange", "-qq", "--errorwhenfull", "y", "small/pool")
    run("lvcreate", "-qq", "-y", "--type", "thin", "--thinpool", "pool", "-n", "v", "-V", "64M", "small")
    subprocess.run(["dd", "if=/dev/zero", "of=/dev/small/v", "bs=1M", "oflag=direct"], capture_output=True)
    scene.set("/dev/small/v").refuses("ProviderVeto", "its thin pool small/pool is full", "prepare")
    run("vgremove", "-qq", "-y", "small")


# ---- other stacks ----


def test_stacks(scene):
    """Mirrored, striped, several groups and pools; names with dashes; all in one window."""
    subprocess.run(["modprobe", "-d", os.environ["KERNEL_MODULES"], "raid1"], check=False)
    run("vgcreate", "-qq", "-y", "m-1", "/dev/ubdc", "/dev/ubdd")
    run("lvcreate", "-qq", "-y", "--type", "raid1", "-m1", "-n", "r", "-L", "32M", "m-1")
    run("lvcreate", "-qq", "-y", "-i2", "-n", "s-s", "-L", "32M", "m-1")
    run("lvcreate", "-qq", "-y", "--type", "thin-pool", "-n", "p", "-L", "64M", "m-1")
    run("lvcreate", "-qq", "-y", "--type", "thin", "--thinpool", "p", "-n", "t", "-V", "48M", "m-1")
    places = []
    for name in ("r", "s-s", "t"):
        run("mkfs.ext4", "-q", f"/dev/m-1/{name}")
        places.append(f"/mnt/m-{name}")
        os.makedirs(places[-1])
        run("mount", f"/dev/m-1/{name}", places[-1])
        write(places[-1] + "/file", "before")
    write_all("before")
    made = scene.set(*places, "/mnt/a", "/mnt/t").make()
    write_all("after ")
    for i, place in enumerate(places):
        write(place + "/file", "after ")
        os.makedirs(f"/mnt/copy{i}", exist_ok=True)
        made.on_copy(i, "expose", Path=f"/mnt/copy{i}")
        assert read(f"/mnt/copy{i}/file") == "before", place
        made.on_copy(i, "unexpose", Path=f"/mnt/copy{i}")
    made.abort()
    for place in places:
        run("umount", place)
    run("vgremove", "-qq", "-y", "m-1")


# ---- interrupted ----


def interrupted(scene, made, op, seconds):
    """A worker that is killed in an op: whatever it had come to, abort by another one leaves the group as before."""
    worker = Worker("lvm")
    request, fds = made.request()
    worker.send({"op": op, **request}, fds)
    time.sleep(seconds)
    worker.kill()
    made.abort(scene.lvm)
    scene.as_before(f"{op}, killed after {seconds:.3f} s")


def duration(worker, made, op):
    request, fds = made.request()
    begin = time.monotonic()
    _, got = worker.must(op, fds, **request)
    for fd in got:
        os.close(fd)
    return time.monotonic() - begin


def test_kills(scene):
    scene.remember()
    worker = Worker("lvm")
    made = scene.set(*ALL)
    whole = duration(worker, made, "prepare")
    made.abort(scene.lvm)
    worker.kill()
    n = count(1, 3, 100)
    for i in range(n):
        interrupted(scene, scene.set(*ALL), "prepare", whole * i / n)
    print(f"prepare ({whole:.2f} s) killed at {n} moments")
    older = scene.set("/mnt/a").make()
    scene.remember()
    volumes = scene.resolve("/mnt/a", "/dev/vg/raw", "/mnt/t")
    for i in range(n):
        made = Set(scene.lvm, volumes).cut()
        made.add_records()
        interrupted(scene, made, "seal", 0.4 * i / n)
    print(f"seal killed at {n} moments")
    worker = Worker("lvm")
    made = Set(scene.lvm, volumes).prepare()
    made.forget()
    whole = duration(worker, made, "abort")
    worker.kill()
    for i in range(n):
        made = Set(scene.lvm, volumes).prepare()
        made.forget()
        interrupted(scene, made, "abort", whole * i / n)
    print(f"abort ({whole:.2f} s) killed at {n} moments")
    older.abort()
    for path in FILES:
        write(path, "after")


def test_unfinished(scene):
    scene.remember()
    made = scene.set("/mnt/a", "/mnt/t").prepare()
    unfinished = scene.copies("Unfinished")
    assert len(unfinished) == 2 and all(c["Set"] == made.id and c["Host"] == HOST for c in unfinished), unfinished
    request, _ = made.request()
    members = [{"Copy": m["Copy"], "Volume": m["Volume"]} for m in made.members]
    scene.lvm.refuses("AccessDenied", "another machine's", "abort", Members=members, Host=OTHER)
    made.refuses_on_copy(0, "AccessDenied", "another machine's", "remove", Host=OTHER)
    assert len(scene.copies("Unfinished")) == 2, "another machine's copies were removed"
    made.arm()
    made.window()
    made.open()
    whole, made.members = made.members, made.members[:1]
    made.seal()
    made.members = whole
    assert len(scene.copies("Unfinished")) == 2, "half a set passes for a whole one"
    made.abort()
    made.abort()
    scene.as_before("abort")


# ---- tags that others made ----


def test_hostile(scene):
    scene.remember()
    copy = "01234567-89ab-cdef-0123-456789abcdef"
    run("lvcreate", "-qq", "-y", "-n", "vss-0123456789ab", "-L", "4M", f"--addtag=vss.copy={copy}", "--addtag=vss.state=committed",
        "--addtag=vss.set=nonsense", f"--addtag=vss.host={HOST}", "vg")
    run("lvcreate", "-qq", "-y", "-n", "victim", "-L", "4M", f"--addtag=vss.copy={copy}", "--addtag=vss.state=preparing",
        f"--addtag=vss.set={copy}", f"--addtag=vss.host={HOST}", "vg")
    assert not scene.copies() and not scene.copies("Unfinished"), scene.list()
    scene.lvm.must("abort", Host=HOST, Members=[{"Copy": copy, "Filesystem": scene.uuid}])
    run("lvs", "vg/victim")
    run("lvremove", "-qq", "-y", "vg/victim", "vg/vss-0123456789ab")
    scene.as_before("hostile tags")


# ---- overflow, reverting, moving ----


def test_overflow(scene):
    made = scene.set("/mnt/a", StoreSize=4 << 20).make()
    with open("/mnt/a/large", "wb") as file:
        file.write(os.urandom(16 << 20))
        os.fsync(file.fileno())
    wait_until("the store overflows", lambda: "Error" in scene.copies()[0], 20)
    assert "overflowed" in scene.copies()[0]["Error"]
    made.refuses_on_copy(0, "BadState", "overflowed", "revert")
    made.on_copy(0, "remove")
    os.unlink("/mnt/a/large")


def merges():
    return "merging" in run("lvs", "-a", "--noheadings", "-o", "lv_merging", "vg")


def test_revert(scene):
    write_all("before")
    made = scene.set("/mnt/a", "/mnt/t").make()
    write_all("after ")
    assert made.on_copy(0, "revert")["State"] == "pending"
    (row,) = scene.lvm.must("reverts")[0]["Reverts"]
    assert (row["State"], row["Volume"], row["Shadow"], row["Device"]) == ("pending", "/mnt/a", made.members[0]["Copy"], "/dev/vg/a")
    run("umount", "/mnt/a")
    run("lvchange", "-qq", "--refresh", "vg/a")
    wait_until("the merge ends", lambda: not merges(), 20)
    scene.mount("a")
    assert read("/mnt/a/file") == "before"

    run("lvchange", "-qq", "--addtag", "vss.storage.max=unbounded", "vg/t")
    run("umount", "/mnt/t")
    assert made.on_copy(1, "revert")["State"] == "reverted"
    run("lvchange", "-qq", "-ay", "vg/t")
    scene.mount("t")
    assert read("/mnt/t/file") == "before"
    write("/mnt/t/file", "written after")
    assert run("lvs", "--noheadings", "-o", "lv_tags", "vg/t").strip() == "vss.storage.max=unbounded"
    assert not scene.copies() and not scene.copies("Unfinished")

    write_all("before")
    made = scene.set("/mnt/x").make()
    write_all("after ")
    run("umount", "/mnt/x")
    assert made.on_copy(0, "revert")["State"] in ("reverted", "merging")
    wait_until("the merge ends", lambda: not merges(), 30)
    scene.mount("x")
    assert read("/mnt/x/file") == "before"


def test_move(scene):
    run("vgcreate", "-qq", "-y", "other", "/dev/ubdc")
    run("lvcreate", "-qq", "-y", "-n", "v", "-L", "64M", "other")
    run("mkfs.ext4", "-q", "/dev/other/v")
    os.makedirs("/mnt/v", exist_ok=True)
    run("mount", "/dev/other/v", "/mnt/v")
    write("/mnt/v/file", "before")
    made = scene.set("/mnt/v").make()
    unfinished = scene.set("/mnt/v").prepare()
    unfinished.forget()
    run("umount", "/mnt/v")
    run("dmsetup", "remove", "other-vss--" + unfinished.volume_of(0)[4:])
    run("vgchange", "-qq", "-an", "other")
    run("vgexport", "-qq", "other")
    assert not [c for c in scene.copies() if c["Copy"] == made.members[0]["Copy"]]
    run("vgimport", "-qq", "other")
    run("vgrename", "-qq", "other", "moved")
    run("vgchange", "-qq", "-ay", "moved")
    (group,) = [g for g in scene.list() if g["Device"] == "moved"]
    assert group["Copies"][0]["Record"]["Volume"]["Path"] == "/mnt/v" and len(group["Unfinished"]) == 1
    made.on_copy(0, "remove")
    unfinished.abort()
    run("vgremove", "-qq", "-y", "moved")


def assert_healthy(scene, name):
    """Nothing has poisoned it."""
    where = f"/mnt/{name}"
    run("dmsetup", "suspend", "vg-" + name)
    frozen = subprocess.run(["fsfreeze", "-f", where], capture_output=True).returncode != 0
    run("dmsetup", "resume", "vg-" + name)
    assert frozen, f"{where} is suspended and not frozen: poisoned"
    run("umount", where)
    run("lvchange", "-qq", "-an", "vg/" + name)
    run("lvchange", "-qq", "-ay", "vg/" + name)
    scene.mount(name)
    write(where + "/file", "after all")


TESTS = [test_life, test_repair, test_stacks, test_strangers, test_frozen, test_openers, test_rules, test_full_areas,
         test_unfinished, test_hostile, test_overflow, test_kills, test_revert, test_move]


def main():
    wanted = sys.argv[1:]
    scene = Scene()
    for test in TESTS:
        if wanted and test.__name__.removeprefix("test_") not in wanted:
            continue
        begin = time.monotonic()
        test(scene)
        print(f"{test.__name__.removeprefix('test_')}: {time.monotonic() - begin:.1f} s", flush=True)
    for name in ("a", "x", "t"):
        assert_healthy(scene, name)
    assert "s" not in "".join(line[2] for line in run("dmsetup", "info", "-c", "--noheadings", "-o", "attr").splitlines())
    print(f"every volume can be suspended and found frozen, unmounted, deactivated, activated, mounted; {time.monotonic() - started:.0f} s")


main()
