# SPDX-License-Identifier: Apache-2.0
"""Decoding of image messages without ROS."""

import numpy as np
import pytest

from dualfocus_ros.bags.image_messages import output_image_to_array


@pytest.mark.parametrize('big', [False, True])
def test_image_messages_with_padding_and_either_byte_order(big):
    class Message:
        encoding, height, width, step, is_bigendian = '32FC1', 2, 3, 16, big
        data = np.zeros(32, np.uint8)

    values = np.arange(6, dtype='>f4' if big else '<f4').reshape(2, 3)
    Message.data.reshape(2, 16)[:, :12] = values.view(np.uint8)
    assert np.array_equal(output_image_to_array(Message), np.arange(6).reshape(2, 3))
    Message.encoding, Message.width = '16UC1', 6
    assert output_image_to_array(Message).dtype == np.float32
    assert np.isnan(output_image_to_array(Message)[0, 0])
    Message.step = 8
    with pytest.raises(ValueError, match='do not make 32 bytes'):
        output_image_to_array(Message)
    Message.encoding = 'bayer_rggb8'
    with pytest.raises(ValueError, match='bayer_rggb8'):
        output_image_to_array(Message)
