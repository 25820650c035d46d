#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The Python example passes every check that a vendor's writer has to pass.
# Usage: python-writer.sh VSS_WRITER_CHECK WRITER_PY
python=/usr/bin/python3
"$python" -c 'import dbus.service; from gi.repository import GLib' 2>/dev/null || exit 77
exec "$1" -- "$python" "$2"
