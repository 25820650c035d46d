#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vss-guard on logical volumes: whole windows, and strangers who interfere.
set -euo pipefail
exec python3 -B "$SOURCE/tests/uml/guard-windows.py" "$BUILD/coordinator/guard/vss-guard" /dev/ubdb
