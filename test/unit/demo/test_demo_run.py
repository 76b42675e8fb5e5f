# SPDX-License-Identifier: Apache-2.0
"""Output folder and arguments of ``dualfocus demo``."""

import pytest

from dualfocus_ros.cli.main import main


def test_a_folder_with_other_files_is_kept(tmp_path, capsys):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'thesis.txt').write_text('mine')
    assert main(['demo', '-o', str(tmp_path / 'demo')]) == 1
    assert 'was not made by this command' in capsys.readouterr().err
    assert (tmp_path / 'demo' / 'thesis.txt').read_text() == 'mine'
    assert main(['demo', '-o', str(tmp_path / 'x'), '--planes', '1']) == 2
