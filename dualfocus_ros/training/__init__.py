# SPDX-License-Identifier: Apache-2.0
"""Training of networks on rendered focal stacks; see :mod:`.training_run`."""
