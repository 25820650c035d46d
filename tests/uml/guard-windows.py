#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vss-guard on logical volumes: whole windows, and strangers who interfere. Runs as init's child in a virtual machine.

Usage: guard-windows.py GUARD DISK
"""
import os
import subprocess
import sys
import time

from guard_lab import Connection, Guard, Volume, close_all, plan, run, status, wait_until, RUN

program, disk = sys.argv[1:]


def window(volumes, deadline=10, **options):
    value, fds = plan(volumes, deadline, **options)
    connection = Connection()
    armed = connection.ask(value, fds)
    assert armed["ok"], armed
    assert os.listdir(RUN).count("held-" + value["Set"]) == 1, "armed, and not on the list"
    answer = connection.ask({"op": "go"})
    close_all(fds)
    return connection, answer


def refused(volumes, *words, deadline=10):
    """Arming or running it fails with a text that contains these words."""
    value, fds = plan(volumes, deadline)
    connection = Connection()
    answer = connection.ask(value, fds)
    if answer["ok"]:
        answer = connection.ask({"op": "go"})
    connection.close()
    close_all(fds)
    assert not answer["ok"], answer
    for word in words:
        assert word in answer["error"]["Text"], answer
    return answer


def is_clean(volume):
    """Nothing in the copy's journal needs recovery: the filesystem was frozen."""
    run("dmsetup", "mknodes", volume.copy)
    return "needs_recovery" not in run("dumpe2fs", "-h", f"/dev/mapper/{volume.copy}")


def test_window(volumes):
    for _ in range(3):
        for v in volumes:
            v.rearm()
            with open(v.mount_point + "/written", "w") as f:
                f.write("before\n" * 1000)
        connection, answer = window(volumes)
        connection.close()
        assert answer["ok"], answer
        assert answer["End"] > answer["Begin"] > 0
        assert len(answer["Filesystems"]) == len(answer["Devices"]) == len(answer["Cuts"]) == len(volumes)
        last_held = max(o["Suspended"] for o in answer["Devices"])
        first_freed = min(o["Resumed"] for o in answer["Devices"])
        assert all(f["Frozen"] <= last_held and f["Thawed"] >= first_freed for f in answer["Filesystems"])
        assert all(last_held <= c["Begin"] <= c["End"] <= first_freed for c in answer["Cuts"])
        for v in volumes:
            assert v.is_live(v.copy) and v.is_free() and is_clean(v), v.name
        print(f"window over {len(volumes)} volumes: {(answer['End'] - answer['Begin']) / 1000:.1f} ms")
    assert not [n for n in os.listdir(RUN) if n.startswith("held-")]


def test_hold(volumes):
    connection, answer = window(volumes, hold=True, cuts=False)
    assert answer["ok"] and answer["Held"], answer
    rows = status()["Held"]
    assert {r["Object"] for r in rows} == {v.dm for v in volumes} | {v.mount_point for v in volumes}, rows
    assert all(r["Owner"] == "test" and abs(r["Since"] / 1e6 - time.time()) < 5 for r in rows), rows
    assert all(v.is_suspended() for v in volumes)
    answer = connection.ask({"op": "release"})
    assert answer["ok"], answer
    connection.close()
    assert all(v.is_free() for v in volumes)


def test_disconnect(volumes):
    connection, answer = window(volumes, hold=True, cuts=False)
    assert answer["ok"], answer
    connection.close()
    wait_until("released after the client went", lambda: all(v.is_free() for v in volumes), 3)
    wait_until("the list is empty", lambda: not [n for n in os.listdir(RUN) if n.startswith("held-")], 3)


def test_deadline(volumes):
    connection, answer = window(volumes, deadline=1, hold=True, cuts=False)
    assert answer["ok"], answer
    time.sleep(1.1)
    wait_until("released at the deadline", lambda: all(v.is_free() for v in volumes), 1)
    answer = connection.ask({"op": "release"})
    assert answer["error"]["Name"] == "HoldWritesTimeout", answer
    connection.close()


def test_two_windows(volumes):
    """Sets that share nothing do not wait for each other."""
    first, answer = window(volumes[:2], hold=True, cuts=False, set_id="a-1")
    assert answer["ok"], answer
    second, answer = window(volumes[2:], hold=True, cuts=False, set_id="a-2")
    assert answer["ok"], answer
    assert all(v.is_suspended() for v in volumes)
    assert first.ask({"op": "release"})["ok"]
    assert [v.is_suspended() for v in volumes] == [False] * 2 + [True] * (len(volumes) - 2)
    assert second.ask({"op": "release"})["ok"]
    first.close()
    second.close()


def test_release_all(volumes):
    connection, answer = window(volumes, hold=True, cuts=False)
    order = Connection()
    released = order.ask({"op": "release-all"})
    order.close()
    assert released["ok"] and released["Released"] == 2 * len(volumes) and not released["Stuck"], released
    assert all(v.is_free() for v in volumes)
    assert connection.ask({"op": "release"})["error"]["Name"] == "Cancelled"
    connection.close()


def test_strangers_before(volumes):
    v = volumes[0]
    for each in volumes:
        each.rearm()
    run("fsfreeze", "-f", v.mount_point)
    refused(volumes, v.mount_point, "frozen by somebody else")
    run("fsfreeze", "-u", v.mount_point)
    run("dmsetup", "suspend", v.dm)
    refused(volumes, v.dm, "suspended by somebody else")
    run("dmsetup", "resume", v.dm)
    run("dmsetup", "resume", v.copy)
    refused(volumes, v.copy, "made live by somebody else")
    v.rearm()
    run("dmsetup", "clear", v.copy)
    refused(volumes, v.copy, "table")
    v.rearm()
    assert all(each.is_free() for each in volumes)
    assert not any(each.is_live(each.copy) for each in volumes), "a copy was cut in a window that failed"


def test_strangers_during(volumes):
    v = volumes[1]
    # A resume: noticed, whether or not they suspend again.
    for words in (["dmsetup", "resume", v.dm],), (["dmsetup", "resume", v.dm], ["dmsetup", "suspend", "--nolockfs", v.dm]):
        connection, answer = window(volumes, hold=True, cuts=False)
        assert answer["ok"], answer
        for command in words:
            run(*command)
        answer = connection.ask({"op": "release"})
        connection.close()
        if len(words) == 1:
            assert not answer["ok"] and v.dm in answer["error"]["Text"], answer
            assert "resumed by somebody else while held" in answer["error"]["Text"], answer
        assert all(each.is_free() for each in volumes)
    # A thaw: under a suspended device it waits for the resume, so of a filesystem that is held alone.
    connection, answer = window(volumes, hold=True, cuts=False)
    child = subprocess.Popen(["fsfreeze", "-u", v.mount_point])
    time.sleep(0.2)
    answer = connection.ask({"op": "release"})
    connection.close()
    child.wait(10)
    assert answer["ok"] or "thawed by somebody else while held" in answer["error"]["Text"], answer
    print("thaw by a stranger:", answer.get("error", "came after ours"))
    assert all(each.is_free() for each in volumes)


guard = Guard(program)
os.makedirs(RUN, exist_ok=True)
run("vgcreate", "-qq", "g", disk)
volumes = [Volume(f"v{i}") for i in range(1, 5)]
for v in volumes:
    v.create(disk)
guard.start()
for test in (test_window, test_hold, test_disconnect, test_deadline, test_two_windows, test_release_all,
             test_strangers_before, test_strangers_during):
    began = time.monotonic()
    test(volumes)
    print(f"ok {test.__name__} {time.monotonic() - began:.1f} s", flush=True)
guard.stop()
for v in volumes:
    v.still_usable()
print("ok still usable")
