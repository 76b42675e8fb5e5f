# SPDX-License-Identifier: Apache-2.0
"""Opening data sets by text, and refusing invalid text."""

import pytest

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.exceptions import DataError


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('nyu', 'KIND:FOLDER'),
        ('kitti:/data', 'kinds: synthetic'),
        ('nyu:/not/there', 'no such file or folder'),
        ('synthetic:x', 'expected a seed'),
        ('indoor:0,count=0', 'whole number above 0'),
        ('indoor:0,hight=3', "unknown option 'hight'"),
    ],
)
def test_invalid_data_set_texts_raise(text, message):
    with pytest.raises(DataError, match=message):
        open_dataset(text)
