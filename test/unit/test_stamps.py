# SPDX-License-Identifier: Apache-2.0
"""Stamps of messages."""

import numpy as np

from demo_messages import SECOND, image_cdr, info_cdr
from dualfocus_ros.stamps import read_header_stamp


def test_the_header_stamp_of_serialised_messages():
    assert read_header_stamp(info_cdr(12 * SECOND + 345, [1, 2])) == 12 * SECOND + 345
    assert read_header_stamp(image_cdr(7, np.zeros((2, 2), np.uint8))) == 7
