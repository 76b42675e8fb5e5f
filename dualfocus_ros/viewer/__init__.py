# SPDX-License-Identifier: Apache-2.0
"""Sweeps with their depth as one HTML page that needs nothing else."""
