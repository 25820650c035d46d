# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of the LVM provider share: speaking to a worker as vssd does, and a window as vss-guard makes it."""
import array
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import time
import uuid

BUILD = os.environ["BUILD"]
HOST = "0123456789abcdef0123456789abcdef"
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
DM_DEV_SUSPEND, DM_TARGET_MSG = 0xC138FD06, 0xC138FD0E
DM_SUSPEND_FLAG, DM_SKIP_LOCKFS_FLAG = 1 << 1, 1 << 10


def run(*words, check=True, limit=60):
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def new_id():
    return str(uuid.uuid4())


def wait_until(what, true, limit):
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.05)


class Worker:
    """A vss-worker; its answers' descriptors stay open until they are closed."""

    def __init__(self, role):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket = ours
        fd = theirs.fileno()
        self.process = subprocess.Popen([f"{BUILD}/coordinator/providers/vss-worker", role, "--fd", str(fd)], pass_fds=[fd],
                                        start_new_session=True)
        theirs.close()
        self.socket.settimeout(60)

    def send(self, request, fds=()):
        text = json.dumps(request).encode()
        data = struct.pack("I", len(text)) + text
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([data], rights)
        self.socket.sendall(data[sent:])

    def receive(self):
        fds, data = array.array("i"), b""
        while len(data) < 4 or len(data) < 4 + struct.unpack("I", data[:4])[0]:
            piece, rights, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 128))
            for level, kind, payload in rights:
                fds.frombytes(payload[: len(payload) - len(payload) % 4])
            if not piece:
                raise EOFError("the worker is gone")
            data += piece
        return json.loads(data[4:]), list(fds)

    def ask(self, op, fds=(), **request):
        self.send({"op": op, **request}, fds)
        return self.receive()

    def must(self, op, fds=(), **request):
        answer, got = self.ask(op, fds, **request)
        assert answer["ok"], f"{op}: {answer}"
        return answer, got

    def refuses(self, name, text, op, fds=(), **request):
        answer, got = self.ask(op, fds, **request)
        for fd in got:
            os.close(fd)
        assert not answer["ok"] and answer["error"]["Name"] == name and text in answer["error"]["Text"], \
            f"{op}: expected {name} ({text}), got {answer}"

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.socket.close()


def dm(command, control, device, flags=0, event=0, message=""):
    """A raw ioctl of device-mapper's on MAJ:MIN; the flags of its answer."""
    major, minor = map(int, device.split(":"))
    number = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    buffer = bytearray(1024)
    struct.pack_into("=IIIIIIiIIIQ", buffer, 0, 4, 0, 0, 1024, 312, 0, 0, flags, event, 0, number)
    buffer[320:320 + len(message)] = message.encode()
    fcntl.ioctl(control, command, buffer)
    return struct.unpack_from("=I", buffer, 28)[0]


class Set:
    """A set's members, as vssd carries them from op to op."""

    def __init__(self, worker, volumes, **more):
        self.id, self.worker = new_id(), worker
        self.members = [{"Copy": new_id(), "Volume": volume, "Repair": False, **more} for volume in volumes]
        self.fds = []   # owned
        self.locks = []

    def request(self):
        """The members with their descriptors as indices, and those."""
        fds, rows = [], []
        for member in self.members:
            row = dict(member)
            for key in ("Source", "Store"):
                if key in row:
                    fds.append(row[key])
                    row[key] = len(fds) - 1
            rows.append(row)
        return {"Set": self.id, "Host": HOST, "Members": rows}, fds

    def op(self, name, **more):
        request, fds = self.request()
        answer, got = self.worker.must(name, fds, **{**request, **more})
        self.fds += got
        for member, row in zip(self.members, answer.get("Members", [])):
            for key, value in row.items():
                member[key] = got[value] if key in ("Source", "Store", "Directory") else value
        return answer, got

    def refuses(self, error, text, name, **more):
        request, fds = self.request()
        self.worker.refuses(error, text, name, fds, **{**request, **more})

    def prepare(self, **more):
        self.op("prepare", **more)
        return self

    def arm(self):
        answer, got = self.op("arm", Limit=2000000)
        self.windows = [row["Window"] for row in answer["Members"]]
        self.window_fds, self.locks = got, [got[i] for i in answer["Locks"]]

    def window(self):
        with open("/dev/mapper/control", "rb") as control:
            steps = [(kind, step) for window in self.windows for kind in ("Freeze", "Suspend", "Cut") for step in window[kind]]
            pick = lambda kind: [step for k, step in steps if k == kind]
            for step in pick("Freeze"):
                fcntl.ioctl(self.window_fds[step["Fd"]], FIFREEZE, 0)
            for step in pick("Suspend"):
                dm(DM_DEV_SUSPEND, control, step["Device"], DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG)
            for step in pick("Cut"):
                if step["Kind"] == "message":
                    dm(DM_TARGET_MSG, control, step["Device"], message=step["Message"])
                else:
                    dm(DM_DEV_SUSPEND, control, step["Device"], event=step["Flags"] << 16)
            for step in pick("Suspend"):
                dm(DM_DEV_SUSPEND, control, step["Device"], event=step["Flags"] << 16)
            for step in pick("Freeze"):
                fcntl.ioctl(self.window_fds[step["Fd"]], FITHAW, 0)
        for lock in self.locks:
            self.close(lock)
        self.locks = []

    def close(self, fd):
        os.close(fd)
        self.fds.remove(fd)

    def open(self):
        answer, _ = self.op("open")
        assert all(row.get("Clean", True) for row in answer["Members"]), f"a copy is not clean: {answer}"

    def add_records(self):
        for member in self.members:
            member["Record"] = {"Set": self.id, "SetCount": len(self.members), "Created": 1700000000, "Host": HOST,
                                "HostName": "machine", "Session": self.id, "Persistent": True, "Context": "app-rollback",
                                "Consistency": "filesystem", "ConsistencyReason": "nobody was asked", "Instant": "set",
                                "Volume": member["Volume"]}

    def seal(self):
        self.add_records()
        return self.op("seal")

    def cut(self):
        """As far as a copy that nobody has sealed."""
        self.prepare()
        self.arm()
        self.window()
        self.open()
        return self

    def make(self):
        self.prepare()
        self.op("flush")
        self.arm()
        self.window()
        self.open()
        self.seal()
        self.forget()
        return self

    def abort(self, worker=None):
        self.forget()
        request, _ = self.request()
        (worker or self.worker).must("abort", **request)

    def forget(self):
        """What vssd lets go when a set ends."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        for member in self.members:
            for key in ("Source", "Store", "Directory"):
                member.pop(key, None)

    def volume_of(self, i):
        """The name of the copy's logical volume."""
        return "vss-" + self.members[i]["Copy"].replace("-", "")[:12]

    def on_copy(self, i, op, **more):
        member = self.members[i]
        return self.worker.must(op, Copy=member["Copy"], Filesystem=member["Volume"]["VgUuid"], **{"Host": HOST, **more})[0]

    def refuses_on_copy(self, i, error, text, op, **more):
        member = self.members[i]
        self.worker.refuses(error, text, op, Copy=member["Copy"], Filesystem=member["Volume"]["VgUuid"],
                            **{"Host": HOST, **more})


def group_state(vg):
    """All that has to be as before."""
    devices = [line for line in run("dmsetup", "table").splitlines() if line.startswith(vg + "-")]
    info = [line for line in run("dmsetup", "info", "-c", "--noheadings", "-o", "name,attr").splitlines()
            if line.startswith(vg + "-")]
    volumes = run("lvs", "-a", "--noheadings", "-o", "lv_name,lv_attr,lv_size,lv_tags,devices", vg).splitlines()
    return "\n".join(sorted(devices) + sorted(info) + sorted(line.strip() for line in volumes) +
                     [run("vgs", "--noheadings", "-o", "vg_free_count", vg).strip()])
