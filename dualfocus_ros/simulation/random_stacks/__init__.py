# SPDX-License-Identifier: Apache-2.0
"""Random focal stacks with exact depth, for training: one by one, or in batches on a GPU."""
