# SPDX-License-Identifier: Apache-2.0
"""Behaviour of ``sensor_msgs_py`` that this project uses, in the original and our replacement."""

from __future__ import annotations

import array
import sys

import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg')
pytest.importorskip('sensor_msgs_py')

from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

FLOAT32, UINT8, UINT16 = PointField.FLOAT32, PointField.UINT8, PointField.UINT16


def make_fields(*fields: tuple) -> list[PointField]:
    """Return fields from tuples of (name, offset, datatype[, count])."""
    return [
        PointField(name=name, offset=offset, datatype=datatype, count=(rest or [1])[0])
        for name, offset, datatype, *rest in fields
    ]


XYZ = make_fields(('x', 0, FLOAT32), ('y', 4, FLOAT32), ('z', 8, FLOAT32))
XYZ_I = [*XYZ, *make_fields(('intensity', 12, UINT16))]
POINTS = np.array(
    [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [np.nan, 4.0, 5.0], [-1.0, 1e6, 1e-6]], np.float32
)


@pytest.fixture
def cloud() -> PointCloud2:
    return point_cloud2.create_cloud_xyz32(Header(frame_id='camera'), POINTS)


class TestDtypeFromFields:
    def test_names_types_and_offsets(self):
        dtype = point_cloud2.dtype_from_fields(XYZ_I)
        assert dtype.names == ('x', 'y', 'z', 'intensity')
        assert dtype.fields['intensity'] == (np.dtype('u2'), 12)
        assert dtype.itemsize == 14

    def test_point_step_adds_padding(self):
        assert point_cloud2.dtype_from_fields(XYZ_I, point_step=16).itemsize == 16

    @pytest.mark.parametrize(
        ('datatype', 'dtype'),
        [
            (PointField.INT8, 'i1'),
            (PointField.UINT8, 'u1'),
            (PointField.INT16, 'i2'),
            (PointField.UINT16, 'u2'),
            (PointField.INT32, 'i4'),
            (PointField.UINT32, 'u4'),
            (PointField.FLOAT32, 'f4'),
            (PointField.FLOAT64, 'f8'),
        ],
    )
    def test_every_datatype(self, datatype, dtype):
        assert point_cloud2.dtype_from_fields(make_fields(('a', 0, datatype)))['a'] == dtype

    def test_a_field_of_several_values_becomes_several_fields(self):
        dtype = point_cloud2.dtype_from_fields(make_fields(('n', 4, FLOAT32, 3)))
        assert {name: dtype.fields[name][1] for name in dtype.names} == {
            'n_0': 4,
            'n_1': 8,
            'n_2': 12,
        }

    def test_a_field_without_a_name_gets_one(self):
        dtype = point_cloud2.dtype_from_fields(make_fields(('x', 0, FLOAT32), ('', 4, FLOAT32)))
        assert dtype.names == ('x', 'unnamed_field_1')

    def test_inconsistent_fields_are_refused(self):
        with pytest.raises(AssertionError):
            point_cloud2.dtype_from_fields(make_fields(('x', 0, FLOAT32, 0)))
        with pytest.raises(AssertionError):
            point_cloud2.dtype_from_fields(make_fields(('x', 0, FLOAT32), ('x', 4, FLOAT32)))


class TestCreate:
    def test_xyz32(self, cloud):
        assert cloud.header.frame_id == 'camera'
        assert (cloud.height, cloud.width) == (1, 4)
        assert (cloud.point_step, cloud.row_step) == (12, 48)
        assert cloud.fields == XYZ
        assert not cloud.is_dense
        assert cloud.is_bigendian == (sys.byteorder == 'big')
        assert isinstance(cloud.data, array.array)
        assert cloud.data.tobytes() == POINTS.tobytes()

    def test_from_lists(self, cloud):
        listed = point_cloud2.create_cloud_xyz32(cloud.header, POINTS.tolist())
        assert listed.data.tobytes() == cloud.data.tobytes()

    def test_structured_array_of_mixed_types(self):
        points = np.zeros(5, point_cloud2.dtype_from_fields(XYZ_I, point_step=16))
        points['z'] = np.arange(5)
        points['intensity'] = 1000 + np.arange(5)
        cloud = point_cloud2.create_cloud(Header(), XYZ_I, points, point_step=16)
        assert (cloud.width, cloud.point_step, cloud.row_step) == (5, 16, 80)
        assert cloud.data.tobytes() == points.tobytes()
        np.testing.assert_array_equal(
            point_cloud2.read_points(cloud)['intensity'], points['intensity']
        )

    def test_tuples_of_mixed_types(self):
        cloud = point_cloud2.create_cloud(Header(), XYZ_I, [(1, 2, 3, 4), (5, 6, 7, 8)])
        assert cloud.point_step == 14
        points = point_cloud2.read_points(cloud)
        assert points['x'].tolist() == [1, 5]
        assert points['intensity'].tolist() == [4, 8]

    def test_flat_then_organised_by_hand_is_row_major(self):
        # The layout of organised clouds in this project.
        rows, columns = np.mgrid[0:3, 0:5]
        image = np.stack([columns, rows, rows * 10 + columns], axis=-1).astype(np.float32)
        cloud = point_cloud2.create_cloud_xyz32(Header(), image.reshape(-1, 3))
        cloud.height, cloud.width, cloud.row_step = 3, 5, 5 * cloud.point_step
        first_of_row_2 = 2 * cloud.row_step
        x, y, z = np.frombuffer(cloud.data, np.float32, 3, first_of_row_2)
        assert (x, y, z) == (0, 2, 20)
        np.testing.assert_array_equal(
            point_cloud2.read_points_numpy(cloud).reshape(3, 5, 3), image
        )

    def test_organised_layout_is_width_by_height(self):
        points = np.arange(2 * 5 * 3, dtype=np.float32).reshape(5, 2, 3)
        cloud = point_cloud2.create_cloud_xyz32(Header(), points)
        assert (cloud.width, cloud.height) == (5, 2)
        assert cloud.row_step == 5 * 12
        result = point_cloud2.read_points_numpy(cloud, reshape_organized_cloud=True)
        np.testing.assert_array_equal(result, points)
        assert point_cloud2.read_points_numpy(cloud).shape == (10, 3)

    def test_no_points(self):
        cloud = point_cloud2.create_cloud_xyz32(Header(), np.zeros((0, 3), np.float32))
        assert (cloud.width, cloud.height, len(cloud.data)) == (0, 1, 0)
        assert len(point_cloud2.read_points(cloud)) == 0

    def test_points_that_do_not_fit_the_fields_are_refused(self):
        with pytest.raises(AssertionError):
            point_cloud2.create_cloud(Header(), XYZ_I, np.zeros((4, 4), np.float32))
        wrong = np.zeros(4, point_cloud2.dtype_from_fields(XYZ_I))
        with pytest.raises(AssertionError):
            point_cloud2.create_cloud(Header(), XYZ, wrong)
        with pytest.raises(AssertionError):
            point_cloud2.create_cloud_xyz32(Header(), np.zeros((2, 2, 2, 3), np.float32))


class TestRead:
    def test_all_fields(self, cloud):
        points = point_cloud2.read_points(cloud)
        assert points.dtype.names == ('x', 'y', 'z')
        np.testing.assert_array_equal(points['y'], POINTS[:, 1])

    def test_some_fields_in_another_order(self, cloud):
        points = point_cloud2.read_points(cloud, field_names=['z', 'x'])
        assert points.dtype.names == ('z', 'x')
        np.testing.assert_array_equal(
            point_cloud2.read_points_numpy(cloud, field_names=['z', 'x']), POINTS[:, [2, 0]]
        )

    def test_unknown_field(self, cloud):
        with pytest.raises(AssertionError):
            point_cloud2.read_points(cloud, field_names=['x', 'rgb'])

    def test_points_with_a_nan_are_skipped_on_request(self, cloud):
        assert len(point_cloud2.read_points_numpy(cloud)) == 4
        valid = point_cloud2.read_points_numpy(cloud, skip_nans=True)
        np.testing.assert_array_equal(valid, POINTS[[0, 1, 3]])

    def test_only_the_fields_read_count_for_nans(self, cloud):
        valid = point_cloud2.read_points_numpy(cloud, field_names=['y', 'z'], skip_nans=True)
        assert len(valid) == 4

    def test_a_dense_cloud_is_not_searched_for_nans(self, cloud):
        cloud.is_dense = True
        assert len(point_cloud2.read_points(cloud, skip_nans=True)) == 4

    @pytest.mark.parametrize('uvs', [[3, 0], np.array([3, 0]), iter([3, 0])])
    def test_points_by_index(self, cloud, uvs):
        np.testing.assert_array_equal(
            point_cloud2.read_points_numpy(cloud, uvs=uvs), POINTS[[3, 0]]
        )

    def test_big_endian(self, cloud):
        cloud.data = array.array('B', POINTS.astype('>f4').tobytes())
        cloud.is_bigendian = True
        np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), POINTS)

    def test_list_of_named_tuples(self, cloud):
        points = point_cloud2.read_points_list(cloud, skip_nans=True)
        assert [point.z for point in points] == [0.0, 3.0, np.float32(1e-6)]
        assert points[1]._fields == ('x', 'y', 'z')

    def test_mixed_types_need_the_structured_reader(self):
        cloud = point_cloud2.create_cloud(Header(), XYZ_I, [(1, 2, 3, 4)])
        with pytest.raises(AssertionError):
            point_cloud2.read_points_numpy(cloud)
        xyz = point_cloud2.read_points_numpy(cloud, field_names=['x', 'y', 'z'])
        np.testing.assert_array_equal(xyz, [[1, 2, 3]])

    def test_rgb_packed_in_a_float_keeps_its_bits(self):
        fields = [*XYZ, *make_fields(('rgb', 12, FLOAT32))]
        colours = np.array([0x00FF8001, 0x007F0203], np.uint32)
        points = np.zeros((2, 4), np.float32)
        points[:, 3] = colours.view(np.float32)
        cloud = point_cloud2.create_cloud(Header(), fields, points)
        assert cloud.point_step == 16
        result = np.ascontiguousarray(point_cloud2.read_points(cloud)['rgb'])
        np.testing.assert_array_equal(result.view(np.uint32), colours)

    def test_other_messages_are_refused(self):
        with pytest.raises(AssertionError):
            point_cloud2.read_points(POINTS)
        with pytest.raises(AssertionError):
            point_cloud2.read_points_list(POINTS)

    def test_too_little_data_is_refused(self, cloud):
        cloud.data = cloud.data[:-1]
        with pytest.raises(TypeError):
            point_cloud2.read_points(cloud)
