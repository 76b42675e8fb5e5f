# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the ROS package ``sensor_msgs_py`` where there is none: it has no wheel on PyPI.

The same API and the same results. It is installed only into the virtual environment of a machine
without ROS, never where the real package could be.
"""
