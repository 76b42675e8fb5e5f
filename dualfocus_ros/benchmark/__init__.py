# SPDX-License-Identifier: Apache-2.0
"""Benchmark of run time, memory and transport."""
