# SPDX-License-Identifier: Apache-2.0
"""Alignment of the planes of a focal stack."""
