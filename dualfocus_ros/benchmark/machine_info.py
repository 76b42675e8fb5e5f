# SPDX-License-Identifier: Apache-2.0
"""Description and load of the machine that is measured."""

from __future__ import annotations

import os
from pathlib import Path
import platform
import resource
import time

# Instruction sets that matter most first: (flag of /proc/cpuinfo, text).
_INSTRUCTIONS = (
    ('amx_bf16', 'AMX'),
    ('avx512_bf16', 'AVX-512 and bf16'),
    ('avx512f', 'AVX-512'),
    ('avx2', 'AVX2'),
    ('asimddp', 'NEON'),
)


def describe_machine() -> str:
    """Return processors, instruction set and memory, such as ``2 virtual CPU cores …``."""
    flags, model = _cpuinfo()
    virtual = 'virtual ' if 'hypervisor' in flags else ''
    count = len(os.sched_getaffinity(0))
    text = f'{count} {virtual}CPU core{"s" if count > 1 else ""}'
    names = [title for flag, title in _INSTRUCTIONS if flag in flags][:1]
    if names:
        text += f' with {names[0]}'
    text += f' ({model})' if model else f' ({platform.machine()})'
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return f'{text}, {memory / 2**30:.0f} GiB of memory'


def busy_processors(seconds: float = 1.0) -> float | None:
    """Return the number of busy processors; None where the system does not report it.

    Measured over some time, because the load average includes processes that have ended.
    """
    before = _processor_times()
    time.sleep(seconds)
    busy, total = (now - then for now, then in zip(_processor_times(), before, strict=True))
    return (os.cpu_count() or 1) * busy / total if total > 0 else None


def _processor_times() -> tuple[int, int]:
    """Return the busy and the total time of all processors, in ticks."""
    # cpu user nice system idle iowait irq softirq steal; later columns are part of user and nice.
    times = [int(word) for word in Path('/proc/stat').read_text().split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def has_fast_bf16() -> bool:
    """Return whether the processor has bf16 instructions."""
    flags, _ = _cpuinfo()
    return bool(flags & {'amx_bf16', 'avx512_bf16', 'bf16'})


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    VmHWM, because ``ru_maxrss`` starts with the value of the parent process.
    """
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpuinfo() -> tuple[set[str], str]:
    fields: dict[str, str] = {}
    for line in Path('/proc/cpuinfo').read_text().split('\n\n')[0].splitlines():
        key, _, value = line.partition(':')
        fields[key.strip()] = value.strip()
    flags = fields.get('flags') or fields.get('Features', '')
    return set(flags.split()), fields.get('model name', '')
