# SPDX-License-Identifier: Apache-2.0
"""Conversion between ``sensor_msgs/PointCloud2`` messages and numpy arrays.

As in the original, the layout of organised clouds is transposed: an array of shape (A, B) becomes
a cloud of width A and height B with the bytes in the order of the array. To write a cloud as
cameras do, create it flat from H * W points in row-major order, then set ``height``, ``width`` and
``row_step``.
"""

from __future__ import annotations

import array
from collections import namedtuple
from collections.abc import Iterable, Sequence
import sys
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

_DATATYPES = {
    PointField.INT8: np.dtype(np.int8),
    PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16),
    PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32),
    PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32),
    PointField.FLOAT64: np.dtype(np.float64),
}

DUMMY_FIELD_PREFIX = 'unnamed_field'


def _require(condition: bool, message: str) -> None:
    # AssertionError, because the original uses assert statements.
    if not condition:
        raise AssertionError(message)


def dtype_from_fields(fields: Iterable[PointField], point_step: int | None = None) -> np.dtype:
    """Return the structured dtype of one point.

    A field of several values becomes as many fields, ``name_0``, ``name_1`` ...

    :param point_step: bytes per point; by default the size of the fields.
    :raises AssertionError: for a field of no values, or two fields of one name.
    """
    names: list[str] = []
    formats: list[np.dtype] = []
    offsets: list[int] = []
    for index, field in enumerate(fields):
        _require(field.count > 0, f'field {index} ({field.name!r}) has a count of 0')
        datatype = _DATATYPES[field.datatype]
        name = field.name or f'{DUMMY_FIELD_PREFIX}_{index}'
        for part in range(field.count):
            names.append(f'{name}_{part}' if field.count > 1 else name)
            formats.append(datatype)
            offsets.append(field.offset + part * datatype.itemsize)
    _require(len(set(names)) == len(names), f'two fields have the same name: {names}')
    layout: dict[str, Any] = {'names': names, 'formats': formats, 'offsets': offsets}
    if point_step is not None:
        layout['itemsize'] = point_step
    return np.dtype(layout)


def read_points(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Read a cloud into a structured array, a view of the message data if possible.

    :param field_names: fields to read, in this order; by default all.
    :param skip_nans: leave out points with a NaN, unless ``is_dense`` is set.
    :param uvs: indices into the flat cloud of the points to read.
    :param reshape_organized_cloud: return shape (width, height) for a cloud of several rows.
    :raises AssertionError: if ``cloud`` is not a PointCloud2 or lacks a field.
    :raises TypeError: if it has less data than points.
    """
    _require(isinstance(cloud, PointCloud2), 'Cloud is not a sensor_msgs.msg.PointCloud2')
    points: np.ndarray = np.ndarray(
        (cloud.width * cloud.height,),
        dtype_from_fields(cloud.fields, cloud.point_step),
        buffer=cloud.data,
    )
    if field_names is not None:
        known = points.dtype.names or ()
        missing = [name for name in field_names if name not in known]
        _require(not missing, f'the cloud has no field {missing}, only {list(known)}')
        points = points[list(field_names)]
    if bool(cloud.is_bigendian) != (sys.byteorder == 'big'):
        points = points.byteswap()
    if skip_nans and not cloud.is_dense:
        valid = np.ones(len(points), dtype=bool)
        for name in points.dtype.names or ():
            valid &= ~np.isnan(points[name])
        points = points[valid]
    if uvs is not None:
        points = points[uvs if isinstance(uvs, np.ndarray) else np.fromiter(uvs, int)]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.width, cloud.height)
    return points


def read_points_numpy(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Read fields of one type into a plain array, with the fields along its last axis.

    Parameters as in :func:`read_points`.

    :raises AssertionError: if the type of a field differs from the first field of the cloud.
    """
    wanted = [
        field for field in cloud.fields[1:] if field_names is None or field.name in field_names
    ]
    _require(
        all(field.datatype == cloud.fields[0].datatype for field in wanted),
        'All fields need to have the same datatype. Use `read_points()` otherwise.',
    )
    return structured_to_unstructured(
        read_points(cloud, field_names, skip_nans, uvs, reshape_organized_cloud)
    )


def read_points_list(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
) -> list[Any]:
    """Read a cloud into a list of named tuples (slow).

    Parameters as in :func:`read_points`.
    """
    _require(isinstance(cloud, PointCloud2), 'cloud is not a sensor_msgs.msg.PointCloud2')
    if field_names is None:
        field_names = [field.name for field in cloud.fields]
    point = namedtuple('Point', field_names)  # type: ignore[misc]
    return [point._make(values) for values in read_points(cloud, field_names, skip_nans, uvs)]


def create_cloud(
    header: Header,
    fields: Sequence[PointField],
    points: Iterable,
    point_step: int | None = None,
) -> PointCloud2:
    """Create a cloud.

    :param points: a structured array of exactly the fields' dtype; or a plain array with the
        fields along its last axis; or an iterable of points, each an iterable of values (slow).
        One axis of points makes an unorganised cloud, two an organised one (see the module).
    :param point_step: bytes per point; by default the size of the fields.
    :raises AssertionError: if the points do not match the fields.
    """
    dtype = dtype_from_fields(fields, point_step)
    if not isinstance(points, np.ndarray):
        points = np.array([tuple(point) for point in points], dtype=dtype)
    elif points.dtype.names is None:
        _require(
            all(field.datatype == fields[0].datatype for field in fields[1:]),
            'All fields need to have the same datatype. Pass a structured NumPy array with '
            'multiple dtypes otherwise.',
        )
        points = unstructured_to_structured(points, dtype=dtype)
    else:
        _require(
            points.dtype == dtype,
            'PointFields and structured NumPy array dtype do not match for all fields! Check '
            f'their field order, names and types: {points.dtype} is not {dtype}',
        )
    _require(
        points.ndim <= 2,
        'Too many dimensions for organized cloud! Points can only be organized in max. two '
        f'dimensional space, not in {points.ndim}',
    )
    cloud = PointCloud2(
        header=header,
        height=points.shape[1] if points.ndim == 2 else 1,
        width=points.shape[0],
        fields=fields,
        is_bigendian=sys.byteorder == 'big',
        point_step=points.dtype.itemsize,
        row_step=points.dtype.itemsize * points.shape[0],
        is_dense=False,
    )
    # array.array: other types are copied by a slow loop over bytes.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(points).reshape(-1).view(np.uint8))
    cloud.data = data
    return cloud


def create_cloud_xyz32(header: Header, points: Iterable) -> PointCloud2:
    """Create a cloud with FLOAT32 fields x, y and z; see :func:`create_cloud`."""
    fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate('xyz')
    ]
    return create_cloud(header, fields, points)
