#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vss-guard with one slow volume, while it, its other half and its client are killed and stopped.
set -euo pipefail
# LVM may see the slow disk through its delay alone.
sed -i 's,^devices {,& filter=["r|/dev/ubdc|"],' /etc/lvm/lvm.conf
exec python3 -B "$SOURCE/tests/uml/guard-fence.py" "$BUILD/tests/system/guard-stepper" /dev/ubdb /dev/ubdc "$VSSD_TEST_LEVEL" "$@"
