# SPDX-License-Identifier: Apache-2.0
"""The calibrations of ``dualfocus calibrate``: what to record, how to read it, what to print."""
