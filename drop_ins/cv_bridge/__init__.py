# SPDX-License-Identifier: Apache-2.0
"""Pure Python replacement of the ROS package ``cv_bridge``, which has no wheel on PyPI.

Same API and results. Installed only into the virtual environment of a machine without ROS.

Absent: ``cvtColorForDisplay`` and the compiled module ``cv_bridge.boost``.
"""

from cv_bridge.conversion import CvBridgeError, getCvType
from cv_bridge.core import CvBridge

__all__ = ['CvBridge', 'CvBridgeError', 'getCvType']
