# SPDX-License-Identifier: Apache-2.0
"""Checks of input messages, shared by raw images, compressed images and whole stacks."""

from __future__ import annotations

from std_msgs.msg import Header

# Error texts are logged and published once a second; frame ids go into every output.
_MAX_TEXT = 900
_MAX_FRAME_ID = 255


class MessageError(ValueError):
    """Rejected message.

    :param reason: short name under which rejections are counted.
    :param text: the received and the accepted values.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(_one_line(text))
        self.reason = reason


def _one_line(text: str) -> str:
    """Return a text in one line, without its middle if it is too long."""
    text = ' '.join(text.split())
    return (
        text if len(text) <= _MAX_TEXT else f'{text[: _MAX_TEXT // 3]} … {text[-_MAX_TEXT // 2 :]}'
    )


def check_frame_id(header: Header) -> None:
    if len(header.frame_id) > _MAX_FRAME_ID:
        raise MessageError(
            'frame_id',
            f'a frame_id of {len(header.frame_id)} characters; the maximum is {_MAX_FRAME_ID}',
        )


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise MessageError('empty', f'an image of {width}x{height} pixels')
    if width * height > max_pixels:
        raise MessageError(
            'too_large',
            f'{width}x{height} is more than the {max_pixels} pixels of the parameter max_pixels',
        )
