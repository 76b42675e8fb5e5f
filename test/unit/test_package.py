# SPDX-License-Identifier: Apache-2.0
"""The package as others meet it: names, messages, declared dependencies, executables."""

from __future__ import annotations

import ast
import os
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import dualfocus_ros

ROOT = Path(__file__).resolve().parents[2]
CODE = [*ROOT.glob('dualfocus_ros/**/*.py'), *ROOT.glob('launch/*.py')]

# Imported as -> key in package.xml, where the two differ.
ROSDEP_KEYS = {
    'argcomplete': 'python3-argcomplete',
    'PIL': 'python3-pil',
    'cv2': 'python3-opencv',
    'matplotlib': 'python3-matplotlib',
    'mpl_toolkits': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'rosbags': 'python3-rosbags-pip',
    'scipy': 'python3-scipy',
    'torch': 'python3-pytorch-pip',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}
WITHOUT_KEY = {'safetensors'}
PIP_NAMES = {'PIL': 'pillow', 'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}
# Parts that may use ROS, and so need not work after `pip install .` alone.
ROS_MODULES = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'sensor_msgs_py',
    'std_msgs',
    'std_srvs',
    'geometry_msgs',
}

MESSAGES = {
    'FocusState': {
        'header': 'std_msgs/Header',
        'focus_dioptres': 'float',
        'focus_sigma': 'float',
        'lens_position': 'int32',
        'state': 'uint8',
        'sweep_id': 'uint32',
        'plane_index': 'uint16',
        'plane_count': 'uint16',
    },
    'FocusCommand': {
        'header': 'std_msgs/Header',
        'focus_dioptres': 'float',
        'sweep_id': 'uint32',
        'plane_index': 'uint16',
        'plane_count': 'uint16',
    },
    'FocalStack': {
        'header': 'std_msgs/Header',
        'camera_info': 'sensor_msgs/CameraInfo',
        'focus_dioptres': 'sequence<float>',
        'images': 'sequence<sensor_msgs/Image>',
    },
    'StackInfo': {
        'header': 'std_msgs/Header',
        'stamps': 'sequence<builtin_interfaces/Time>',
        'focus_dioptres': 'sequence<float>',
        'sweep_id': 'uint32',
        'flags': 'uint8',
        'sweep_duration': 'float',
        'assemble_ms': 'float',
        'inference_ms': 'float',
        'publish_ms': 'float',
        'latency_ms': 'float',
        'model': 'string',
        'device': 'string',
    },
}


def imported_modules() -> set[str]:
    """Top-level names that the code imports and that are not Python's own or ours."""
    found = set()
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition('.')[0])
    return found - set(sys.stdlib_module_names) - {'dualfocus_ros', '__future__'}


class TestMetadata:
    def test_one_version(self):
        package = ElementTree.parse(ROOT / 'package.xml').getroot()
        assert package.findtext('version') == dualfocus_ros.__version__

    def test_package_xml_declares_all_that_is_imported(self):
        package = ElementTree.parse(ROOT / 'package.xml').getroot()
        declared = {element.text for element in package if element.tag.endswith('depend')}
        needed = {ROSDEP_KEYS.get(name, name) for name in imported_modules() - WITHOUT_KEY}
        assert needed - declared == set()

    def test_pyproject_requires_imports_without_ros(self):
        text = (ROOT / 'pyproject.toml').read_text('utf-8')
        block = text.partition('\ndependencies = [')[2].partition('\n]')[0]
        required = set(re.findall(r'^  "([a-z0-9-]+)>=', block, re.M))
        needed = {PIP_NAMES.get(name, name) for name in imported_modules() - ROS_MODULES}
        assert needed - {'mpl_toolkits'} - required == set()

    def test_lock_pins_requirements_with_hashes(self):
        lock = (ROOT / 'tools' / 'requirements.lock').read_text('utf-8')
        assert '://' not in lock
        entries = re.split(r'\n(?=[a-z0-9])', lock.partition('\n')[2])
        pinned = {entry.partition('==')[0] for entry in entries if '==' in entry}
        assert all('--hash=sha256:' in entry for entry in entries if '==' in entry)
        wanted = re.findall(
            r'^([a-z0-9-]+)', (ROOT / 'tools' / 'requirements.in').read_text('utf-8'), re.M
        )
        assert set(wanted) - pinned == set()


class TestMessages:
    @pytest.mark.parametrize('name', MESSAGES)
    def test_fields(self, name):
        messages = pytest.importorskip('dualfocus_ros.msg')
        assert getattr(messages, name).get_fields_and_field_types() == MESSAGES[name]

    def test_constants(self):
        messages = pytest.importorskip('dualfocus_ros.msg')
        state, info = messages.FocusState, messages.StackInfo
        assert (state.UNKNOWN, state.SETTLED, state.MOVING, state.FAULT) == (0, 1, 2, 3)
        flags = info.FLAG_PLANE_MISSING, info.FLAG_MOTION, info.FLAG_SATURATED, info.FLAG_PARTIAL
        assert flags == (1, 2, 4, 8)

    def test_flags_are_those_of_the_stack(self):
        messages = pytest.importorskip('dualfocus_ros.msg')
        from dualfocus_ros.focal_stack import StackFlag

        for flag in StackFlag:
            if flag:
                assert getattr(messages.StackInfo, f'FLAG_{flag.name}') == flag

    def test_installed_package_has_code_and_messages(self, tmp_path):
        # From another folder, where the source tree does not come first.
        pytest.importorskip('dualfocus_ros.msg')
        script = (
            'import dualfocus_ros, dualfocus_ros.msg, dualfocus_ros.camera.thin_lens as lens;'
            'print(dualfocus_ros.__version__, lens.Lens.__name__)'
        )
        output = subprocess.run(
            [sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True
        )
        assert output.stdout.split() == [dualfocus_ros.__version__, 'Lens'], output.stderr


class TestExecutables:
    def test_every_script_is_installed(self):
        rules = (ROOT / 'CMakeLists.txt').read_text('utf-8')
        listed = set(re.findall(r'^  scripts/(\w+)$', rules, re.M))
        assert listed == {path.name for path in (ROOT / 'scripts').iterdir() if path.is_file()}
        assert listed == {'depth_node', 'focus_sweep_node', 'sim_camera_node', 'dualfocus'}

    def test_every_message_is_generated(self):
        rules = (ROOT / 'CMakeLists.txt').read_text('utf-8')
        listed = set(re.findall(r'^  msg/(\w+)\.msg$', rules, re.M))
        assert listed == {path.stem for path in (ROOT / 'msg').glob('*.msg')} == set(MESSAGES)

    @pytest.mark.parametrize('path', sorted((ROOT / 'scripts').glob('*')), ids=lambda p: p.name)
    def test_scripts_run_in_the_python_of_the_shell(self, path):
        # Not the one that colcon was started with, which need not see torch.
        assert os.access(path, os.X_OK)
        assert path.read_text('utf-8').startswith('#!/usr/bin/env python3\n')


class TestDdsProfile:
    def test_one_segment_holds_several_images(self):
        tree = ElementTree.parse(ROOT / 'config' / 'fastdds_large_images.xml')
        namespace = {'dds': 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'}
        found = {
            item.findtext('dds:type', namespaces=namespace): item
            for item in tree.iterfind('.//dds:transport_descriptor', namespace)
        }
        assert set(found) == {'SHM', 'UDPv4'}
        assert found['SHM'].findtext('dds:segment_size', namespaces=namespace) == str(64 << 20)
        assert found['SHM'].findtext('dds:maxMessageSize', namespaces=namespace) == str(16 << 20)
        participant = tree.find('.//dds:participant', namespace)
        assert participant.get('is_default_profile') == 'true'
        used = participant.iterfind('.//dds:userTransports/dds:transport_id', namespace)
        assert {item.text for item in used} == {
            item.findtext('dds:transport_id', namespaces=namespace) for item in found.values()
        }
