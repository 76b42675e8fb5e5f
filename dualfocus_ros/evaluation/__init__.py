# SPDX-License-Identifier: Apache-2.0
"""Evaluation of depth methods on data sets: metrics, protocols, registry, report."""
