#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The LVM provider on a machine with udev, without vssd.
set -euo pipefail
exec python3 -B "$SOURCE/tests/uml/lvm-udev.py"
