#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fence: one of four volumes lies on a disk that takes five seconds, and whoever matters is killed or stopped at every
step of a window. The other three are free within the deadline plus one second, the slow one is named and free once its
own I/O returns, and no suspend or freeze that comes late survives. Runs in a virtual machine.

Usage: guard-fence.py STEPPER DISK SLOW-DISK [fast|default|long [singles|patience] [NUMBER...]]
singles: one kill at a time, at every step, whatever the level; patience: a disk that takes thirty seconds, which are waited
for; NUMBER: these cases alone
"""
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from guard_lab import Connection, Guard, SlowDisk, Volume, close_all, plan, run, status, wait_until, RUN

stepper, disk, slow_device = sys.argv[1:4]
long = sys.argv[4:5] == ["long"]
singles_alone = "singles" in sys.argv[5:]
patience = "patience" in sys.argv[5:]
only = [int(n) for n in sys.argv[5:] if n.isdigit()]
STEPS = "/run/guard-step"
signal.alarm(7000 if singles_alone else 3000 if long else 150)  # whatever hangs
# An emulated machine takes a second for what a real one does in a few milliseconds.
DEADLINE, SLOW_MS = (3.0, 8000) if singles_alone else (1.0, 30000 if patience else 5000)
N = 4

# Where the window is stopped. slow_at "hold": the disk is slow from the beginning, the hold itself gets stuck; "step": from
# the step on, the release gets stuck.
POINTS = [
    (f"{op} {n} {when}", slow_at)
    for op, n, when, slow_at in [
        ("freeze", 1, "before", "hold"), ("freeze", 2, "after", "hold"), ("freeze", 4, "before", "hold"),
        ("freeze", 4, "after", "step"),
        ("suspend", 1, "before", "step"), ("suspend", 2, "after", "step"), ("suspend", 4, "after", "step"),
        ("status", 1, "before", "step"), ("status", 2 * N, "after", "step"),
        ("cut", 1, "before", "step"), ("cut", 2, "after", "step"), ("cut", 4, "after", "step"),
        ("status", 3 * N, "after", "step"),
        ("resume", 1, "before", "step"), ("resume", 2, "after", "step"), ("resume", 4, "after", "step"),
        ("thaw", 1, "before", "step"), ("thaw", 2, "after", "step"), ("thaw", 4, "after", "step"),
    ]
]
ROLES = ("executor", "releaser", "client")


class Client:
    """A process of its own, as vssd is: it has the connection, and can be killed or stopped."""

    def __init__(self, volumes):
        value, fds = plan(volumes, DEADLINE)
        self.deadline = value["Deadline"] / 1e6
        self.connection = Connection()
        armed = self.connection.ask(value, fds)
        assert armed["ok"], armed
        close_all(fds)
        self.answer_read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.connection.send({"op": "go"})
            try:
                answer = self.connection.receive()
                os.write(write, repr(answer).encode())
            except (EOFError, OSError) as e:
                os.write(write, repr({"ok": False, "broken": str(e)}).encode())
            os._exit(0)
        os.close(write)
        self.connection.close()

    def answer(self):
        return eval(os.read(self.answer_read, 65536).decode() or "None")

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self.answer_read)


def prepare(volumes, step, slow_at):
    shutil.rmtree(STEPS, ignore_errors=True)
    os.makedirs(STEPS)
    with open(STEPS + "/step", "w") as f:
        f.write(step)
    if slow_at == "hold":  # a disk that is slow when it is written to would be found before anything is held
        os.mknod(STEPS + "/no-flush")
    for v in volumes:
        if v.is_live(v.copy):
            v.rearm()
        with open(v.mount_point + "/dirty", "w") as f:
            f.write("x" * 100000)
    os.sync()


def check_free(volumes, since, limit, what):
    def left():
        return max(0.05, since + limit - time.monotonic())
    for v in volumes:
        wait_until(f"{what}: {v.name} is not suspended", lambda: not v.is_suspended(), left())
    for v in volumes:
        assert v.is_free(left()), f"{what}: {v.name} takes no writes"


class Late(Exception):
    """The deadline came before the kill: the machine was busy, and the case says nothing."""


def strike(pids, victims, deadline):
    """At once: the halves have a real-time priority, and the second would act on the first one's end before it is struck."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    try:
        if time.monotonic() > deadline:
            raise Late
        for role, number in victims:
            os.kill(pids[role], number)
    except ProcessLookupError:
        raise Late from None  # by the releaser, at the deadline
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def case(guard, slow, volumes, step, slow_at, victims):
    """victims: [(role, signal)]."""
    for attempt in range(10):
        try:
            return try_case(guard, slow, volumes, step, slow_at, victims)
        except Late:
            print(f"late {step:16} slow from {slow_at}: once more", flush=True)
    raise AssertionError("the deadline came before the kill ten times")


def try_case(guard, slow, volumes, step, slow_at, victims):
    others, slow_volume = volumes[:-1], volumes[-1]
    mine = {slow_volume.dm, slow_volume.mount_point}
    roles = {r for r, _ in victims}
    third, late = None, False
    what = f"{step}, slow from {slow_at}, {victims}"
    prepare(volumes, step, slow_at)
    if slow_at == "hold":
        slow.set(SLOW_MS)
    client = Client(volumes)
    executor, releaser = guard.halves()
    pids = {"executor": executor, "releaser": releaser, "client": client.pid}
    try:
        while not os.path.exists(STEPS + "/reached"):
            if time.monotonic() > client.deadline:
                raise Late
            time.sleep(0.01)
        if slow_at == "step":
            slow.set(SLOW_MS)
        strike(pids, victims, client.deadline)
        reached = time.monotonic()
        os.mknod(STEPS + "/go-on")
        if roles == {"executor", "releaser"}:
            # What is left is ExecStopPost, which systemd runs at once when the unit's processes have ended.
            third = subprocess.Popen([stepper, "--release"], stdout=subprocess.DEVNULL)
        check_free(others, max(client.deadline, reached), 1.0, what)
        after = time.monotonic() - client.deadline
        answer = client.answer() if not {"client", "releaser"} & roles else None
        # What was free in time is off the list when the guard has looked at it, after the deadline.
        wait_until(f"{what}: the list names the slow one alone", lambda: not set(names_listed()) - mine, 3)
        held = names_listed()
        if held and answer:
            names = set(answer.get("Stuck") or [])
            assert names & mine or answer["ok"], (what, answer)
            assert not names - mine, (what, answer)
        if patience:
            wait_until(f"{what}: the slow one is free by itself", lambda: not slow_volume.is_suspended() and not names_listed(),
                       10 * SLOW_MS / 1000)
            held += [f"for {time.monotonic() - client.deadline:.0f} s"]
    except Late:
        late = True
        os.mknod(STEPS + "/go-on")
        raise
    finally:
        slow.set(0)
        if late:
            settle(guard, client, pids, victims)
    wait_until(f"{what}: the slow one is free when its I/O has returned", slow_volume.is_free, SLOW_MS / 1000)
    settle(guard, client, pids, victims, third)
    assert guard.halves()[0] != executor, what
    for v in volumes:
        wait_until(f"{what}: at the end {v.name} takes writes", v.is_free, 10)
    print(f"ok {step:18} slow from {slow_at}: {' '.join(f'{r}:{signal.Signals(n).name}' for r, n in victims):42} "
          f"others free at the deadline {after:+.2f} s, slow one was {f'stuck {held}' if held else 'free'}", flush=True)


def settle(guard, client, pids, victims, third=None):
    """Whoever was stopped goes on, and a guard with nothing on its list serves the next one."""
    for role, number in victims:
        if number == signal.SIGSTOP:
            cont(pids[role])
    wait_until("the list is empty", lambda: not [n for n in os.listdir(RUN) if n.startswith("held-")], 10)
    if third:
        third.wait(10)
        guard.start()  # Restart=always
    guard.wait()
    client.end()


def listed():
    """What the list on /run says, whoever is alive."""
    return json.loads(run(stepper, "--list", "--json"))["Held"]


def names_listed():
    return [row["Object"] for row in listed()]


def cont(pid):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def cases():
    signals = (signal.SIGKILL, signal.SIGSTOP)
    singles = [[(role, number)] for role in ROLES for number in signals]
    pairs = [list(zip(roles, numbers)) for roles in itertools.combinations(ROLES, 2)
             for numbers in itertools.product(signals, repeat=2)]
    if patience:
        return [(POINTS[2], []), (POINTS[2], singles[0]), (POINTS[9], singles[1]), (POINTS[6], singles[2])]
    if singles_alone:
        return [(point, victims) for point in POINTS for victims in singles]
    if long:
        return [(point, victims) for point in POINTS for victims in singles + pairs]
    # Every kill once, at points spread over the window; and both halves at once.
    points = itertools.cycle([POINTS[1], POINTS[5], POINTS[7], POINTS[10], POINTS[14], POINTS[17]])
    chosen = singles + [pairs[0]]
    return [(next(points), victims) for victims in chosen]


os.makedirs(RUN, exist_ok=True)
slow = SlowDisk(slow_device)
run("vgcreate", "-qq", "g", disk, slow.path)
volumes = [Volume(f"v{i}") for i in range(1, N + 1)]
for v in volumes:
    v.create(slow.path if v is volumes[-1] else disk)
    v.rearm()
guard = Guard(stepper, {"GUARD_STEP_DIRECTORY": STEPS})
guard.start()
failures = [f"there is no case {n} at this level" for n in only if n >= len(cases())]
for index, ((step, slow_at), victims) in enumerate(cases()):
    if only and index not in only:
        continue
    try:
        case(guard, slow, volumes, step, slow_at, victims)
    except Exception as e:
        failures.append(f"{index}: {step} {slow_at} {victims}: {type(e).__name__}: {e}")
        print("FAILED", failures[-1], flush=True)
        break  # what follows would only say the same
guard.stop()
for v in volumes:
    v.still_usable()
print("ok still usable" if not failures else f"{len(failures)} failures: {'; '.join(failures)}")
sys.exit(bool(failures))
