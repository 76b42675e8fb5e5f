# SPDX-License-Identifier: Apache-2.0
"""``CvBridge``: between ROS image messages and numpy arrays."""

from __future__ import annotations

import array

import cv2
from cv_bridge.conversion import CvBridgeError, convert, cv_type_number, find
from cv_bridge.encodings import SAMPLE_TYPES
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


class CvBridge:
    """Convert between image messages and arrays as OpenCV uses them."""

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """Return the generic encoding of an array's type, such as ``'8UC3'``.

        :raises CvBridgeError: for a type that OpenCV does not have.
        """
        native = np.dtype(dtype).newbyteorder('=')
        for letters, known in SAMPLE_TYPES.items():
            if known == native:
                return f'{letters}C{n_channels}'
        raise CvBridgeError(f'images of type {dtype} have no encoding')

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """Return OpenCV's number for an encoding's type, such as ``cv2.CV_8UC3``.

        :raises CvBridgeError: when the encoding is unknown.
        """
        return cv_type_number(find(encoding))

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Return the numpy name of an encoding's samples, and how many a pixel has.

        :raises CvBridgeError: when the encoding is unknown.
        """
        found = find(encoding)
        return found.dtype.name, found.channels

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = 'passthrough') -> np.ndarray:
        """Turn a message into an array.

        With ``'passthrough'`` the array is a view of the message's data where that is possible:
        without padding at the end of rows, and in native byte order.

        :return: (H, W) for one channel, else (H, W, C), contiguous, in native byte order.
        :raises CvBridgeError: for an encoding that is unknown or cannot be converted, rows
            shorter than the image is wide, or less data than ``step * height`` bytes.
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
        # Strides rather than a reshape, because the padding of a row need not be whole pixels.
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
        """Turn an array into a message; ``'passthrough'`` names a generic encoding, as ``8UC3``.

        :param cvim: (H, W) or (H, W, C).
        :raises TypeError: when ``cvim`` is not an array.
        :raises CvBridgeError: when its type is not that of the encoding.
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
        """Decode a compressed image; colour images come out as bgr8 or bgra8.

        As the real package does, ``'passthrough'`` returns None for data that is no image, and
        any other encoding takes the image for bgr8: ask for ``'passthrough'`` where it may not be.

        :raises CvBridgeError: when the image cannot be converted.
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
        :param dst_format: a file name's ending that OpenCV can write: jpg, png, tiff ...
        :raises TypeError: when ``cvim`` is not an array.
        :raises cv2.error: when OpenCV cannot write such an image in this format.
        """
        if not isinstance(cvim, np.ndarray | np.generic):
            raise TypeError('Your input type is not a numpy array')
        encoded = cv2.imencode('.' + dst_format, cvim)[1]
        msg = CompressedImage(format=dst_format)
        msg.data = _bytes_of(encoded)
        return msg


def _bytes_of(image: np.ndarray) -> array.array:
    """Copy an array's bytes into the one type that message fields take without a slow loop."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).reshape(-1).view(np.uint8))
    return data
