# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on, in words."""

from __future__ import annotations

import os
from pathlib import Path
import platform
import sys
import time

# What the figures depend on, most telling first: (flag of /proc/cpuinfo, words).
_INSTRUCTIONS = (
    ('amx_bf16', 'AMX'),
    ('avx512_bf16', 'AVX-512 and bf16'),
    ('avx512f', 'AVX-512'),
    ('avx2', 'AVX2'),
    ('asimddp', 'NEON'),
)
# Share of the processors: where others take more before anything is measured, say so.
BUSY_SHARE = 0.25


def processor_count() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> str:
    """Return processors, their instructions and memory, such as ``2 virtual CPU cores …``."""
    flags, model = _cpuinfo()
    virtual = 'virtual ' if 'hypervisor' in flags else ''
    count = processor_count()
    text = f'{count} {virtual}CPU core{"s" if count > 1 else ""}'
    names = [words for flag, words in _INSTRUCTIONS if flag in flags][:1]
    if names:
        text += f' with {names[0]}'
    text += f' ({model})' if model else f' ({platform.machine()})'
    memory = _memory()
    return text if memory is None else f'{text}, {memory / 2**30:.0f} GiB of memory'


def busy_processors(seconds: float = 1.0) -> float | None:
    """Return how many processors are busy now; None where the system does not tell.

    Watches for a while: the load average still remembers what ended a minute ago.
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
    """Return the time that all processors together were busy, and that has passed, in ticks."""
    path = Path('/proc/stat')
    if not path.is_file():
        return None
    # cpu user nice system idle iowait irq softirq steal; what follows is part of user and nice.
    times = [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def has_fast_bf16() -> bool:
    """Return whether the processor multiplies bf16 numbers itself."""
    flags, _ = _cpuinfo()
    return bool(flags & {'amx_bf16', 'avx512_bf16', 'bf16'})


def peak_resident_bytes() -> int:
    """Return the most memory that this process ever had in use, in bytes.

    ``ru_maxrss`` would begin with what the parent had when it started this process.
    """
    status = Path('/proc/self/status')
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else most * 1024


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
