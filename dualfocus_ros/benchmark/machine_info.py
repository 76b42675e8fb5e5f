# SPDX-License-Identifier: Apache-2.0
"""Description and load of the machine that is measured."""

from __future__ import annotations

import os
from pathlib import Path
import platform
import sys
import time

# Instruction sets that matter most first: (flag of /proc/cpuinfo, text).
_INSTRUCTIONS = (
    ('amx_bf16', 'AMX'),
    ('avx512_bf16', 'AVX-512 and bf16'),
    ('avx512f', 'AVX-512'),
    ('avx2', 'AVX2'),
    ('asimddp', 'NEON'),
)
# Share of the processors; a larger load before the run is reported.
BUSY_SHARE = 0.25


def processor_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> str:
    """Return processors, instruction set and memory, such as ``2 virtual CPU cores …``."""
    flags, model = _cpuinfo()
    virtual = 'virtual ' if 'hypervisor' in flags else ''
    count = processor_count()
    text = f'{count} {virtual}CPU core{"s" if count > 1 else ""}'
    names = [title for flag, title in _INSTRUCTIONS if flag in flags][:1]
    if names:
        text += f' with {names[0]}'
    text += f' ({model})' if model else f' ({platform.machine()})'
    memory = _memory()
    return text if memory is None else f'{text}, {memory / 2**30:.0f} GiB of memory'


def busy_processors(seconds: float = 1.0) -> float | None:
    """Return the number of busy processors; None where the system does not report it.

    Measured over some time, because the load average includes processes that have ended.
    """
    before = _processor_times()
    if before is None:
        return None
    time.sleep(seconds)
    after = _processor_times()
    assert after is not None
    busy, total = after[0] - before[0], after[1] - before[1]
    return (os.cpu_count() or 1) * busy / total if total > 0 else None


def _processor_times() -> tuple[int, int] | None:
    """Return the busy and the total time of all processors, in ticks."""
    path = Path('/proc/stat')
    if not path.is_file():
        return None
    # cpu user nice system idle iowait irq softirq steal; later columns are part of user and nice.
    times = [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def has_fast_bf16() -> bool:
    """Return whether the processor has bf16 instructions."""
    flags, _ = _cpuinfo()
    return bool(flags & {'amx_bf16', 'avx512_bf16', 'bf16'})


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    VmHWM, because ``ru_maxrss`` starts with the value of the parent process.
    """
    status = Path('/proc/self/status')
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def _cpuinfo() -> tuple[set[str], str]:
    path = Path('/proc/cpuinfo')
    if not path.is_file():
        return set(), platform.processor()
    fields: dict[str, str] = {}
    for line in path.read_text().split('\n\n')[0].splitlines():
        key, _, value = line.partition(':')
        fields[key.strip()] = value.strip()
    return set((fields.get('flags') or fields.get('Features', '')).split()), fields.get(
        'model name', ''
    )


def _memory() -> int | None:
    try:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (ValueError, OSError, AttributeError):
        return None
