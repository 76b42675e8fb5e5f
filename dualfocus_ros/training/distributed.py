# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network, as ``torchrun`` starts them.

Every process draws its own batches, gradients are averaged (DistributedDataParallel), and so are
the running statistics of batch norm, so that all processes hold the same network. The first one
writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
import os

import torch
from torch import Tensor, nn
import torch.distributed as dist

# Others wait while the first process renders; a process that died is noticed by torchrun.
COLLECTIVE_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together.

    :param rank: its number, 0 for the one that writes.
    :param size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over the team."""
        if self.size == 1:
            return network
        # Buffers are averaged after each step instead of taken from the first process.
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)

    def average_buffers(self, network: nn.Module) -> None:
        """Give every process the mean of the floating-point buffers: batch norm's statistics."""
        if self.size == 1:
            return
        buffers = [b for b in network.buffers() if b.dtype.is_floating_point]
        if not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        flat /= self.size
        for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers])):
            buffer.copy_(mean.view_as(buffer))

    def agree(self, stop: bool, seconds: float) -> tuple[bool, float]:
        """Return whether any process wants to stop, and the clock of the first one.

        Decisions that depend on time or on signals must be the same everywhere, or the processes
        would wait for each other for ever. On the host: no device is waited for.
        """
        if self.size == 1:
            return stop, seconds
        said = torch.tensor([float(stop), seconds if self.is_main else 0.0], dtype=torch.float64)
        dist.all_reduce(said)
        return bool(said[0] > 0.0), float(said[1])

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the team."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            # Not barrier(): that may wait on the device.
            dist.all_reduce(torch.zeros(1))


@contextmanager
def join_process_group(device: str) -> Iterator[tuple[DistributedContext, str]]:
    """Join the processes that torchrun started; yields the team and the device to use.

    :param device: as on the command line; ``auto`` and ``cuda`` become this process's GPU.
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
                f'process {local + 1} of this machine has no GPU: torch sees '
                f'{torch.cuda.device_count()}; start torchrun with as many processes as GPUs'
            )
        device = f'cuda:{local}'
        torch.cuda.set_device(local)
    # gloo for what the host says, NCCL for gradients on GPUs.
    dist.init_process_group('cpu:gloo,cuda:nccl' if on_gpu else 'gloo', timeout=COLLECTIVE_TIMEOUT)
    try:
        yield DistributedContext(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
