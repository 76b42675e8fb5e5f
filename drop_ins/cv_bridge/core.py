# SPDX-License-Identifier: Apache-2.0
"""``CvBridge``: conversion between ROS image messages and numpy arrays."""

from __future__ import annotations

import array

import cv2
from cv_bridge.conversion import CvBridgeError, convert, cv_type_number, find
from cv_bridge.encodings import SAMPLE_TYPES
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


class CvBridge:
    """Converter between image messages and OpenCV arrays."""

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """Return the generic encoding of an array type, such as ``'8UC3'``.

        :raises CvBridgeError: for a type that OpenCV lacks.
        """
        native = np.dtype(dtype).newbyteorder('=')
        for letters, known in SAMPLE_TYPES.items():
            if known == native:
                return f'{letters}C{n_channels}'
        raise CvBridgeError(f'images of type {dtype} have no encoding')

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """Return the OpenCV type number of an encoding, such as ``cv2.CV_8UC3``.

        :raises CvBridgeError: if the encoding is unknown.
        """
        return cv_type_number(find(encoding))

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Return the numpy name of the sample type, and the number of channels.

        :raises CvBridgeError: if the encoding is unknown.
        """
        found = find(encoding)
        return found.dtype.name, found.channels

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = 'passthrough') -> np.ndarray:
        """Convert a message to an array.

        With ``'passthrough'`` the array is a view of the message data if rows have no padding and
        the byte order is native.

        :return: (H, W) for one channel, else (H, W, C), contiguous, in native byte order.
        :raises CvBridgeError: for an encoding that is unknown or cannot be converted, rows
            shorter than the image width, or less data than ``step * height`` bytes.
        """
        encoding = find(img_msg.encoding)
        dtype = encoding.dtype.newbyteorder('>' if img_msg.is_bigendian else '<')
        pixel = dtype.itemsize * encoding.channels
        height, width, step = img_msg.height, img_msg.width, img_msg.step
        if step < width * pixel:
            raise CvBridgeError(
                'Image is wrongly formed: step < width * byte_depth * num_channels  or  '
                f'{step} != {width} * {dtype.itemsize} * {encoding.channels}'
            )
        if len(img_msg.data) < step * height:
            raise CvBridgeError(
                'Image is wrongly formed: height * step != size  or  '
                f'{height} * {step} != {len(img_msg.data)}'
            )
        # Strides, not reshape: row padding need not be whole pixels.
        image: np.ndarray = np.ndarray(
            (height, width, encoding.channels),
            dtype,
            buffer=img_msg.data,
            strides=(step, pixel, dtype.itemsize),
        )
        if encoding.channels == 1:
            image = image[:, :, 0]
        image = np.ascontiguousarray(image.astype(dtype.newbyteorder('='), copy=False))
        if desired_encoding == 'passthrough':
            return image
        return convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: np.ndarray, encoding: str = 'passthrough', header: Header | None = None
    ) -> Image:
        """Convert an array to a message; ``'passthrough'`` sets a generic encoding as ``8UC3``.

        :param cvim: (H, W) or (H, W, C).
        :raises TypeError: if ``cvim`` is not an array.
        :raises CvBridgeError: if its type differs from the encoding.
        """
        if not isinstance(cvim, np.ndarray | np.generic):
            raise TypeError('Your input type is not a numpy array')
        channels = cvim.shape[2] if cvim.ndim > 2 else 1
        cv_type = self.dtype_with_channels_to_cvtype2(cvim.dtype, channels)
        msg = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=cv_type)
        if encoding != 'passthrough':
            named = find(encoding)
            if f'{named.sample}C{named.channels}' != cv_type:
                raise CvBridgeError(
                    f'encoding specified as {encoding}, but image has incompatible type {cv_type}'
                )
            msg.encoding = encoding
        if header is not None:
            msg.header = header
        msg.is_bigendian = cvim.dtype.byteorder == '>'
        msg.step = cvim.shape[1] * channels * cvim.dtype.itemsize
        msg.data = _bytes_of(cvim)
        return msg

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = 'passthrough'
    ) -> np.ndarray | None:
        """Decode a compressed image; colour images become bgr8 or bgra8.

        As in the original, ``'passthrough'`` returns None for data that are not an image, and
        other encodings assume bgr8: use ``'passthrough'`` for other images.

        :raises CvBridgeError: if the image cannot be converted.
        """
        if not len(cmprs_img_msg.data):
            image = None
        else:
            data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if desired_encoding == 'passthrough':
            return image
        if image is None:
            raise CvBridgeError(
                f'{len(cmprs_img_msg.data)} bytes of format [{cmprs_img_msg.format}] are not an '
                'image that OpenCV can decode'
            )
        return convert(image, 'bgr8', desired_encoding)

    def cv2_to_compressed_imgmsg(
        self, cvim: np.ndarray, dst_format: str = 'jpg'
    ) -> CompressedImage:
        """Encode an array as a compressed image.

        :param cvim: (H, W), (H, W, 3) in the order BGR, or (H, W, 4) in the order BGRA.
        :param dst_format: file name suffix of a format that OpenCV writes: jpg, png, tiff ...
        :raises TypeError: if ``cvim`` is not an array.
        :raises cv2.error: if OpenCV cannot write the image in this format.
        """
        if not isinstance(cvim, np.ndarray | np.generic):
            raise TypeError('Your input type is not a numpy array')
        encoded = cv2.imencode('.' + dst_format, cvim)[1]
        msg = CompressedImage(format=dst_format)
        msg.data = _bytes_of(encoded)
        return msg


def _bytes_of(image: np.ndarray) -> array.array:
    """Copy the bytes into array.array, the one type that message fields copy without a loop."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).reshape(-1).view(np.uint8))
    return data
