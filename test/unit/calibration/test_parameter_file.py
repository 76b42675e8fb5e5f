# SPDX-License-Identifier: Apache-2.0
"""Parameter files."""

import yaml

from dualfocus_ros.calibration.parameter_file import write_parameters


def test_ros_reads_numbers_with_their_type(tmp_path):
    path = tmp_path / 'a.yaml'
    values = {'x.small': 1e-7, 'x.list': [1.0, 2.5e-5], 'n': 3, 'm': 'polynomial', 'is': True}
    write_parameters(path, values, ['why'])
    assert path.read_text().startswith('# why\n/**:\n  ros__parameters:\n')
    assert '[1.0, 2.5e-05]' in path.read_text()
    assert yaml.safe_load(path.read_text()) == {'/**': {'ros__parameters': values}}
