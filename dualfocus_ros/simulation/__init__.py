# SPDX-License-Identifier: Apache-2.0
"""Simulated camera, procedural scenes and defocus renderer."""
