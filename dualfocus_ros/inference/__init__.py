# SPDX-License-Identifier: Apache-2.0
"""Depth estimation: from a focal stack to metric depth."""
