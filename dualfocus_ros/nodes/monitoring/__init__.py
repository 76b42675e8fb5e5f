# SPDX-License-Identifier: Apache-2.0
"""Monitors and statistics of the depth node, and its /diagnostics."""
