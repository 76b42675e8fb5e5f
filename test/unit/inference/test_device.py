# SPDX-License-Identifier: Apache-2.0
"""Names of devices and precisions."""

import numpy as np
import pytest
import torch

from dualfocus_ros.exceptions import DeviceError
from dualfocus_ros.inference.device import DeviceTransfer, resolve_device, resolve_precision

DEVICES = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])


def test_rejects_unknown_devices_and_precisions():
    with pytest.raises(DeviceError, match='auto, cuda, cuda:N or cpu'):
        resolve_device('gpu')
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match='sees 0 CUDA devices'):
            resolve_device('cuda:0')
    with pytest.raises(DeviceError, match='auto, fp32, fp16, bf16'):
        resolve_precision('half', torch.device('cpu'))
    with pytest.raises(DeviceError, match='is for CUDA'):
        resolve_precision('fp16', torch.device('cpu'))


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.mark.parametrize('shape', [(4, 6, 3), (4, 6)])
def test_upload_and_download_return_the_same_array(device, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    transfer = DeviceTransfer(device)
    uploaded = transfer.upload(image)
    assert uploaded.device.type == device.type
    back = transfer.download({'image': uploaded})['image']
    assert back.dtype == np.uint8
    assert np.array_equal(back, image)


def test_uploads_images_with_negative_strides(device):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[..., ::-1]
    transfer = DeviceTransfer(device)
    assert np.array_equal(transfer.download({'image': transfer.upload(image)})['image'], image)


def test_nothing_is_copied_on_a_cpu():
    image = np.zeros((4, 6, 3), np.uint8)
    transfer = DeviceTransfer(torch.device('cpu'))
    uploaded = transfer.upload(image)
    assert uploaded.data_ptr() == image.ctypes.data
    assert transfer.download({'image': uploaded})['image'].ctypes.data == image.ctypes.data


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_concurrent_uploads_do_not_overwrite_each_other():
    transfer = DeviceTransfer(torch.device('cuda'))
    images = [np.full((480, 640, 3), n, np.uint8) for n in range(50)]
    sums = [transfer.upload(image).float().mean() for image in images]
    assert [float(value) for value in sums] == [float(n) for n in range(50)]
