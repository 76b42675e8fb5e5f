# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training in several processes started by ``torchrun``.

Each process draws other batches. Gradients and running statistics of batch normalisation are
averaged, so that all processes hold the same network. The first process writes files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
import os

import torch
from torch import nn
import torch.distributed as dist

# Long, since processes wait while the first one renders; torchrun detects dead processes.
COLLECTIVE_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process and number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over all processes."""
        if self.size == 1:
            return network
        # Buffers are averaged after each step instead of broadcast from the first process.
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)

    def average_buffers(self, network: nn.Module) -> None:
        """Average the floating-point buffers (batch statistics) over all processes, in place."""
        buffers = [b for b in network.buffers() if b.dtype.is_floating_point]
        if self.size == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        flat /= self.size
        for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers])):
            buffer.copy_(mean.view_as(buffer))

    def sync_stop(self, stop: bool, seconds: float) -> tuple[bool, float]:
        """Return whether any process wants to stop, and the time of the first process.

        Decisions must be equal in all processes, or these would deadlock. Runs on the host.
        """
        if self.size == 1:
            return stop, seconds
        sums = torch.tensor([float(stop), seconds if self.is_main else 0.0], dtype=torch.float64)
        dist.all_reduce(sums)
        return bool(sums[0] > 0.0), float(sums[1])

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            # torch's barrier() may synchronise the device.
            dist.all_reduce(torch.zeros(1))


@contextmanager
def join_process_group(device: str) -> Iterator[tuple[DistributedContext, str]]:
    """Join the processes started by torchrun; yield the context and the device of this process.

    :param device: with several processes, ``auto`` and ``cuda`` become the GPU of this process.
    :raises ValueError: if there are fewer GPUs than processes.
    """
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size == 1:
        yield DistributedContext(), device
        return
    local = int(os.environ.get('LOCAL_RANK', '0'))
    on_gpu = device.startswith('cuda') or (device == 'auto' and torch.cuda.is_available())
    if on_gpu:
        if local >= torch.cuda.device_count():
            raise ValueError(
                f'process {local + 1} of this machine has no GPU: torch finds '
                f'{torch.cuda.device_count()}; start torchrun with as many processes as GPUs'
            )
        device = f'cuda:{local}'
        torch.cuda.set_device(local)
    # gloo for tensors on the host, NCCL for gradients on GPUs.
    dist.init_process_group('cpu:gloo,cuda:nccl' if on_gpu else 'gloo', timeout=COLLECTIVE_TIMEOUT)
    try:
        yield DistributedContext(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
