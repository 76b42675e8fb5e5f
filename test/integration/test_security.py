# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policy is that of the running nodes; without security plugins nothing runs open."""

import os
from pathlib import Path
import subprocess

from ament_index_python.packages import get_package_prefix
import pytest

from security_policy import running_policy

FILE = Path(__file__).parents[2] / 'config' / 'security_policy.xml'
NODES = ('/dualfocus', '/focus_sweep', '/sim_camera')


@pytest.mark.skipif(
    os.environ.get('ROS_DISTRO', 'jazzy') != 'jazzy',
    reason='other distros add other services to each node',
)
@pytest.mark.slow
def test_policy_matches_running_nodes(start):
    start('sim_camera_node', width=96, height=64, rate=5.0, threads=1)
    start('focus_sweep_node', count=3)
    start('depth_node', device='cpu', threads=1)
    policy = running_policy(NODES)
    assert policy == FILE.read_text('utf-8'), f'{FILE} is out of date; it must be\n{policy}'


def test_absent_node_has_no_policy():
    with pytest.raises(TimeoutError) as error:
        running_policy(['/absent'], timeout=1.0)
    assert str(error.value) == 'not all of /absent are running'


def test_no_node_runs_without_required_security(tmp_path):
    """With keys that are none, or a DDS that was built without security."""
    enclave = tmp_path / 'enclaves' / 'perception' / 'dualfocus'
    enclave.mkdir(parents=True)
    for name in (
        'identity_ca.cert.pem',
        'cert.pem',
        'key.pem',
        'permissions_ca.cert.pem',
        'governance.p7s',
        'permissions.p7s',
    ):
        (enclave / name).touch()
    node = Path(get_package_prefix('dualfocus_ros'), 'lib', 'dualfocus_ros', 'focus_sweep_node')
    environment = {
        **os.environ,
        'ROS_SECURITY_KEYSTORE': str(tmp_path),
        'ROS_SECURITY_ENABLE': 'true',
        'ROS_SECURITY_STRATEGY': 'Enforce',
    }
    for name in ('/perception/dualfocus', '/nowhere'):
        ended = subprocess.run(
            [node, '--ros-args', '--enclave', name],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        assert ended.returncode in (1, 2)
        assert 'Traceback' not in ended.stderr
        assert 'ecurity' in ended.stderr or 'SECURITY' in ended.stderr
