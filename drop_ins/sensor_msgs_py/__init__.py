# SPDX-License-Identifier: Apache-2.0
"""Replacement of the ROS package ``sensor_msgs_py``, which has no wheel on PyPI.

Same API and results. Installed only into the virtual environment of a machine without ROS.
"""
