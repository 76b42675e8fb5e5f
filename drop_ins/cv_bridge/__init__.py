# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the ROS package ``cv_bridge`` where there is none: it has no wheel on PyPI.

The same Python API and the same results, in pure Python. It is installed only into the virtual
environment of a machine without ROS, never where the real package could be.

Absent: ``cvtColorForDisplay``, and the compiled module ``cv_bridge.boost``.
"""

from cv_bridge.conversion import CvBridgeError, getCvType
from cv_bridge.core import CvBridge

__all__ = ['CvBridge', 'CvBridgeError', 'getCvType']
