# SPDX-License-Identifier: Apache-2.0
"""Focus sweeps: which target to command, and how frames and lens readings become stacks."""
