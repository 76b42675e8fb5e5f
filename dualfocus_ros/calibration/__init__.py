# SPDX-License-Identifier: Apache-2.0
"""Calibration of lenses: focus scale, breathing, settling, blur, field curvature; without ROS."""
