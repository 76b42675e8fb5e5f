# SPDX-License-Identifier: Apache-2.0
"""Log of a run: CSV, TensorBoard if installed, sample images."""

import logging
import sys
import types

import numpy as np
import torch

from dualfocus_ros.training import run_log
from dualfocus_ros.training.run_log import RunLog, gpu_usage, render_sample_image
from dualfocus_ros.training.stack_generator import TrainingStack
from small_training import ADAPTER


def test_without_tensorboard_logs_a_hint_and_writes_csv(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_log, 'find_spec', lambda name: None)
    # The command line stops propagation; other tests call it.
    monkeypatch.setattr(logging.getLogger('dualfocus_ros'), 'propagate', True)
    with caplog.at_level(logging.INFO, 'dualfocus_ros'), RunLog(tmp_path, 0) as log:
        log.write(50, {'loss': 0.25})
        path = log.write_image(50, np.zeros((4, 5, 3), np.uint8))
    notes = [record.message for record in caplog.records]
    assert len(notes) == 1 and "pip install 'dualfocus_ros[train]'" in notes[0]
    assert (tmp_path / 'log.csv').read_text() == 'step,loss\n50,0.25\n'
    assert path.is_file()


def test_tensorboard_gets_scalars_and_images(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append(('open', folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def add_image(self, name, image, step, dataformats):
            written.append((name, image.shape, step, dataformats))

        def flush(self):
            pass

        def close(self):
            written.append('closed')

    module = types.ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    monkeypatch.setattr(run_log, 'find_spec', lambda name: object())
    with RunLog(tmp_path, 7) as log:
        log.write(50, {'loss': 0.25})
        log.write_image(50, np.zeros((4, 5, 3), np.uint8))
    assert written == [
        ('open', str(tmp_path / 'tensorboard'), 8),
        ('loss', 0.25, 50),
        ('sample', (4, 5, 3), 50, 'HWC'),
        'closed',
    ]


def test_columns_stay_when_a_resumed_run_has_more(tmp_path):
    with RunLog(tmp_path, 0) as log:
        log.write(1, {'loss': 1.0, 'error': 0.5})
    with RunLog(tmp_path, 1) as log:
        log.write(2, {'loss': 0.5, 'gpu_use': 90.0})
    rows = (tmp_path / 'log.csv').read_text().splitlines()
    assert rows == ['step,loss,error', '1,1,0.5', '2,0.5,nan']


def test_cpu_has_no_gpu_usage():
    assert gpu_usage(torch.device('cpu')) == {}


def test_sample_image_has_a_row_per_stack_and_gray_holes():
    truth = torch.linspace(0.0, 1.0, 64).repeat(64, 1)
    truth[:20] = torch.nan
    images = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)
    stack = TrainingStack(images, np.linspace(0, 1, 4).astype(np.float32), truth)
    network = ADAPTER.build().eval()
    one = render_sample_image(ADAPTER, network, [stack], 10)
    two = render_sample_image(ADAPTER, network, [stack, stack], 10)
    assert one.dtype == np.uint8 and one.shape[1:] == (1900, 3)
    assert two.shape[0] > 1.7 * one.shape[0]
    unknown = (one == np.array([128, 132, 140])).all(axis=2)
    assert unknown.mean() > 0.02
