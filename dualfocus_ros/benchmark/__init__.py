# SPDX-License-Identifier: Apache-2.0
"""How long everything takes, side by side in one run: methods, stages, memory, transport."""
