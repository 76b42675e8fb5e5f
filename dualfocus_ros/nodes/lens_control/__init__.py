# SPDX-License-Identifier: Apache-2.0
"""Lens control of ``focus_sweep_node``: commands to a driver, readings from the camera."""
