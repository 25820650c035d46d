# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guard's tests share: its protocol, logical volumes with re-armed snapshots, and a disk that can be made slow."""
import array
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import threading
import time

os.environ["DM_DISABLE_UDEV"] = "1"  # nobody but device-mapper makes nodes here
RUN = "/run/vss-guard"
SNAPSHOT_FLAGS, ORIGIN_FLAGS = 0x70, 0x60


def run(*words, check=True, limit=30):
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout if check else done


def wait_until(what, true, limit):
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.01)


class Connection:
    """One connection to vss-guard: a window, or an order."""

    def __init__(self, limit=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(limit)
        self.socket.connect(RUN + "/guard.sock")

    def send(self, value, fds=()):
        text = json.dumps(value).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([struct.pack("I", len(text)) + text], rights)

    def _read(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise EOFError("the guard closed the connection")
            data += piece
        return data

    def receive(self):
        return json.loads(self._read(struct.unpack("I", self._read(4))[0]))

    def ask(self, value, fds=()):
        self.send(value, fds)
        return self.receive()

    def close(self):
        self.socket.close()


def status():
    connection = Connection(5)
    try:
        return connection.ask({"op": "status"})
    finally:
        connection.close()


class Volume:
    """A logical volume in the group "g", with a snapshot that waits to be made live."""

    def __init__(self, name, mounted=True, kind="ext4"):
        self.name, self.mounted, self.kind = name, mounted, kind
        self.dm, self.copy = f"g-{name}", f"g-{name}s"
        self.mount_point = f"/run/m/{name}"

    def create(self, disk):
        run("lvcreate", "-qq", "-y", "-Wn", "-L", "48M" if self.kind == "ext4" else "320M", "-n", self.name, "g", disk)
        run("mkfs." + self.kind, "-q", f"/dev/g/{self.name}")
        run("lvcreate", "-qq", "-y", "-s", "-L", "8M", "-n", self.name + "s", f"g/{self.name}", disk)
        self.uuid = run("dmsetup", "info", "-c", "--noheadings", "-o", "uuid", self.copy).strip()
        self.table = run("dmsetup", "table", self.copy).strip()
        self.origin = self.number(self.dm)
        self.mount()

    def mount(self):
        if self.mounted:
            os.makedirs(self.mount_point, exist_ok=True)
            run("mount", f"/dev/mapper/{self.dm}", self.mount_point)

    def rearm(self):
        """An empty store, and the table loaded but not live."""
        run("dmsetup", "remove", self.copy)
        run("dd", "if=/dev/zero", f"of=/dev/mapper/{self.copy}-cow", "bs=64k", "count=1", "oflag=direct", "conv=fsync")
        run("dmsetup", "create", "--notable", "-u", self.uuid, self.copy)
        run("dmsetup", "load", self.copy, "--table", self.table)

    def is_live(self, name):
        return "LIVE" in run("dmsetup", "info", name).split("Tables present:")[1].splitlines()[0]

    def is_suspended(self):
        with open(f"/sys/dev/block/{self.origin}/dm/suspended") as f:
            return f.read().strip() == "1"

    def is_free(self, limit=1.0):
        """Writes go through, down to the disk. In a thread: starting a program takes longer than what is measured."""
        if self.is_suspended():
            return False
        done = threading.Event()

        def write():
            if self.mounted:
                fd = os.open(f"{self.mount_point}/probe", os.O_WRONLY | os.O_CREAT, 0o600)
                os.pwrite(fd, b"\0" * 4096, 0)
                os.fsync(fd)
            else:
                fd = os.open(f"/dev/mapper/{self.dm}", os.O_WRONLY | os.O_DIRECT)
                os.pwrite(fd, mmap.mmap(-1, 4096), 4096 * 1000)
            os.close(fd)
            done.set()
        threading.Thread(target=write, daemon=True).start()
        return done.wait(limit)

    def number(self, name):
        return run("dmsetup", "info", "-c", "--noheadings", "--separator", ":", "-o", "major,minor", name).strip()

    def still_usable(self):
        """Can be suspended and found frozen, unmounted, deactivated, activated and mounted again."""
        if self.mounted:
            run("dmsetup", "suspend", self.dm)
            frozen = run("fsfreeze", "-f", self.mount_point, check=False)
            run("dmsetup", "resume", self.dm)
            assert "busy" in frozen.stderr.lower(), f"{self.name}: suspended, yet not frozen: {frozen}"
            run("umount", self.mount_point)
        run("lvchange", "-an", "-y", f"g/{self.name}")
        run("lvchange", "-ay", f"g/{self.name}")
        self.origin = self.number(self.dm)
        if self.mounted:
            run("e2fsck" if self.kind == "ext4" else "xfs_repair", "-fn" if self.kind == "ext4" else "-n",
                f"/dev/mapper/{self.dm}")
            self.mount()


class SlowDisk:
    """A dm-delay; fast until told otherwise."""

    def __init__(self, device):
        self.device, self.path = device, "/dev/mapper/slow"
        self.sectors = run("blockdev", "--getsz", device).strip()
        run("dmsetup", "create", "slow", "--table", self._table(0))

    def _table(self, ms):
        return f"0 {self.sectors} delay {self.device} 0 0 {self.device} 0 {ms}"

    def set(self, ms):
        """Milliseconds for a write. What waits is let go."""
        run("dmsetup", "load", "slow", "--table", self._table(ms))
        run("dmsetup", "suspend", "--nolockfs", "slow")
        run("dmsetup", "resume", "slow")


def plan(volumes, deadline, set_id="11111111-2222-3333-4444-555555555555", hold=False, cuts=True):
    """The plan and its descriptors; deadline in seconds from now."""
    fds, filesystems, devices, made = [], [], [], []
    for v in volumes:
        if v.mounted:
            filesystems.append({"Fd": len(fds), "Path": v.mount_point, "Device": v.number(v.dm), "Depth": 0})
            fds.append(os.open(v.mount_point, os.O_RDONLY | os.O_DIRECTORY))
        devices.append({"Device": v.number(v.dm), "Name": v.dm, "Flags": ORIGIN_FLAGS, "Depth": 0})
        if cuts:
            made.append({"Kind": "resume", "Device": v.number(v.copy), "Name": v.copy, "Flags": SNAPSHOT_FLAGS})
    value = {"op": "arm", "Set": set_id, "Owner": "test", "Hold": hold, "Filesystems": filesystems, "Devices": devices,
             "Cuts": made, "Deadline": int((time.monotonic() + deadline) * 1e6)}
    return value, fds


def close_all(fds):
    for fd in fds:
        os.close(fd)


class Guard:
    """vss-guard, started and stopped by the test."""

    def __init__(self, program, env=None):
        self.program, self.env = program, dict(os.environ, **(env or {}))
        self.env.pop("INVOCATION_ID", None)

    def start(self):
        # Not our child: whoever dies has to be reaped as it is elsewhere.
        subprocess.run(["setsid", "-f", self.program], env=self.env, check=True, stdin=subprocess.DEVNULL)
        self.wait()

    def wait(self, limit=10):
        def answers():
            try:
                return status()["Executor"] > 0
            except (OSError, EOFError):
                return False
        wait_until("vss-guard answers", answers, limit)

    def halves(self):
        s = status()
        return s["Executor"], s["Releaser"]

    def stop(self):
        try:
            releaser = self.halves()[1]
        except (OSError, EOFError):
            return
        os.kill(releaser, signal.SIGTERM)
        wait_until("vss-guard ends", lambda: not os.path.exists(f"/proc/{releaser}"), 10)
