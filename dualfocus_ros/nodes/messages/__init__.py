# SPDX-License-Identifier: Apache-2.0
"""Conversion of ROS messages: images, calibrations, lens, depth outputs."""
