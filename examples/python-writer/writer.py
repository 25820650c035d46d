#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A writer over plain D-Bus, without libvsswriter. The application is the file DATA, which freeze() and thaw() guard."""
import sys
import time
import uuid

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

DATA, LIMIT_SECONDS, IFACE = "/var/lib/example", 2, "org.vssd.Writer1"
EVENT = {"dbus_interface": IFACE, "in_signature": "ssta{sv}", "out_signature": "a{sv}", "sender_keyword": "sender"}


def freeze():
    print("writing stops; what is on disk is complete", file=sys.stderr)


def thaw():
    print("writing goes on", file=sys.stderr)


class Writer(dbus.service.Object):
    held = None  # (session, set) while frozen
    last = None  # (session, set, sequence) of the last freeze, for its Thaw
    timer = 0

    def check(self, sender, deadline):
        if self.connection.get_unix_user(sender) != 0 and self.connection.get_unix_user(sender) != UID:
            raise dbus.DBusException("only root sends events", name="org.vssd.Error.AccessDenied")
        if deadline <= time.monotonic() * 1e6:
            raise dbus.DBusException("the deadline is over", name="org.vssd.Error.WriterTimedOut")

    def release(self):  # also the dead-man: at the limit, and when vssd goes
        if self.held:
            thaw()
            GLib.source_remove(self.timer)
        self.held = None
        return GLib.SOURCE_CONTINUE  # the timer has been removed above

    @dbus.service.method(**EVENT)
    def Freeze(self, session, set_id, deadline, event, sender=None):
        self.check(sender, deadline)
        if self.held:
            raise dbus.DBusException("frozen already", name="org.vssd.Error.BadState")
        self.held, self.last = (session, set_id), (session, set_id, time.time_ns())
        self.timer = GLib.timeout_add(LIMIT_SECONDS * 1000, self.release)
        freeze()
        return {"Sequence": dbus.UInt64(self.last[2])}

    @dbus.service.method(**EVENT)
    def Thaw(self, session, set_id, deadline, event, sender=None):
        self.check(sender, deadline)
        if not self.last or self.last[:2] != (session, set_id):
            raise dbus.DBusException("that set is not frozen here", name="org.vssd.Error.BadState")
        unbroken = self.held is not None
        self.release()
        return {"Sequence": dbus.UInt64(self.last[2]), "Unbroken": unbroken}

    @dbus.service.method(**EVENT)
    def Abort(self, session, set_id, deadline, event, sender=None):
        self.check(sender, deadline)
        if self.held and self.held[0] == session:
            self.release()
        return dbus.Dictionary(signature="sv")


def metadata():
    files = dbus.Array([{"Path": DATA, "Spec": "*", "Recursive": True}], signature="a{sv}")
    component = {"LogicalPath": "", "Name": "data", "Type": "filegroup", "Files": files}
    return {
        "Id": "0d3f8a52-7c1e-4b8e-9d2f-5a6b7c8d9e0f", "Name": "Python Example", "Level": "front-end",
        "Instance": str(uuid.uuid5(uuid.NAMESPACE_DNS, open("/etc/machine-id").read() + "python-example")),
        "Events": dbus.Array([], signature="s"), "FreezeLimitUsec": dbus.UInt64(LIMIT_SECONDS * 1000000),
        "Components": dbus.Array([component], signature="a{sv}"),
    }


def vssd_changed(owner):
    if not owner:
        writer.release()
        return
    bus.call_async("org.vssd", "/org/vssd", "org.vssd.Coordinator1", "RegisterWriter", "oa{sv}",
                   ("/org/vssd/Writer", metadata()), lambda path: None, lambda error: print(error, file=sys.stderr))


DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
UID = bus.get_unix_user(bus.get_unique_name())
writer = Writer(bus, "/org/vssd/Writer")
bus.watch_name_owner("org.vssd", vssd_changed)  # tells the owner now, and whenever it changes
GLib.MainLoop().run()
