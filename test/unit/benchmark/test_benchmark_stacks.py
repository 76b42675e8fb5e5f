# SPDX-License-Identifier: Apache-2.0
"""Stack files for subprocesses."""

import numpy as np

from benchmark_fakes import RandomStacks
from dualfocus_ros.benchmark.benchmark_stacks import StackShape, read_stack, write_stack


def test_stack_file_preserves_the_stack(tmp_path):
    stack = RandomStacks().stack(StackShape(3, 64, 48))
    write_stack(tmp_path / 'stack.npz', stack)
    back = read_stack(tmp_path / 'stack.npz')
    assert np.array_equal(back.focus_dioptres, stack.focus_dioptres)
    for ours, theirs in zip(back.planes, stack.planes, strict=True):
        assert np.array_equal(ours.image, theirs.image) and ours.camera == theirs.camera
