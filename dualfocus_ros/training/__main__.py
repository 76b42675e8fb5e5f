# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train`` for programs that start modules: torchrun … -m dualfocus_ros.training."""

import sys

from dualfocus_ros.cli.main import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
