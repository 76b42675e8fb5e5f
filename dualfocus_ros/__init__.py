# SPDX-License-Identifier: Apache-2.0
"""Metric depth from a camera whose focus can be driven (DualFocus, arXiv 2509.21992)."""

from pkgutil import extend_path

# The generated messages (dualfocus_ros.msg) are installed by colcon beside the code. Where the
# source tree comes first on the path (tests, `pip install -e .`), this lets Python look for `msg`
# in the installed package as well.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
