# SPDX-License-Identifier: Apache-2.0
"""Compute device and precision."""

from __future__ import annotations

import os

import torch

from dualfocus_ros.exceptions import DeviceError

PRECISIONS = ('auto', 'fp32', 'fp16', 'bf16')


def resolve_device(device: str) -> torch.device:
    """Return the torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    :raises DeviceError: for an unknown or unavailable device.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    kind, _, index = device.partition(':')
    if kind not in ('cpu', 'cuda') or (index and not index.isdigit()) or (kind == 'cpu' and index):
        raise DeviceError(f"device must be auto, cuda, cuda:N or cpu, got '{device}'")
    if kind == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise DeviceError(
                f"device '{device}' is not available: torch {torch.__version__} sees {count} CUDA "
                "devices; use device 'auto' or 'cpu', or install a CUDA build of torch"
            )
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the convolutions; ``auto`` is fp16 on CUDA and fp32 on a CPU.

    :raises DeviceError: for an unknown name, or fp16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if precision == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if precision == 'fp16' and device.type == 'cpu':
        raise DeviceError("precision 'fp16' is for CUDA; use 'fp32' or 'bf16' on a CPU")
    return {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}[precision]


def default_threads() -> int:
    """Return the default number of CPU threads: all processors but one, at least one.

    The remaining processor serves the camera driver and the executor.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1)


def describe_device(device: torch.device) -> str:
    """Return a readable name, such as ``cuda:0 (NVIDIA ...)``."""
    if device.type == 'cuda':
        return f'cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'
