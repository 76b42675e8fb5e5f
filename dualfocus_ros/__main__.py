# SPDX-License-Identifier: Apache-2.0
"""``python -m dualfocus_ros``: the ``dualfocus`` command, for torchrun and similar launchers."""

import sys

from dualfocus_ros.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
