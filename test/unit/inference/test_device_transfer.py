# SPDX-License-Identifier: Apache-2.0
"""Images to the device and results back."""

import numpy as np
import pytest
import torch

from dualfocus_ros.inference.device_transfer import DeviceTransfer

DEVICES = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.mark.parametrize('shape', [(4, 6, 3), (4, 6)])
def test_what_goes_there_comes_back(device, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    transfer = DeviceTransfer(device)
    there = transfer.upload(image)
    assert there.device.type == device.type
    back, nothing = transfer.download([there, None])
    assert nothing is None
    assert back.dtype == np.uint8
    assert np.array_equal(back, image)


def test_images_that_run_backwards_in_memory_are_taken(device):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[..., ::-1]
    transfer = DeviceTransfer(device)
    assert np.array_equal(transfer.download([transfer.upload(image)])[0], image)


def test_on_a_cpu_nothing_is_copied():
    image = np.zeros((4, 6, 3), np.uint8)
    transfer = DeviceTransfer(torch.device('cpu'))
    there = transfer.upload(image)
    assert there.data_ptr() == image.ctypes.data
    assert transfer.download([there])[0].ctypes.data == image.ctypes.data


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_many_uploads_in_flight_do_not_overwrite_each_other():
    transfer = DeviceTransfer(torch.device('cuda'))
    images = [np.full((480, 640, 3), n, np.uint8) for n in range(50)]
    sums = [transfer.upload(image).float().mean() for image in images]
    assert [float(value) for value in sums] == [float(n) for n in range(50)]
