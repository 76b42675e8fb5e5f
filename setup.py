# SPDX-License-Identifier: Apache-2.0
"""Install the part that needs no ROS, and the ``dualfocus`` command, with ``pip install .``.

For a workstation that trains or processes recordings. On a robot, colcon builds the package from
CMakeLists.txt, with the messages and the nodes' executables.
"""

from glob import glob
from pathlib import Path
import re

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r"^__version__ = '(.+)'$", (HERE / 'dualfocus_ros/__init__.py').read_text('utf-8'), re.M
).group(1)

setup(
    name='dualfocus_ros',
    version=VERSION,
    description='Metric depth from focal stacks with the DualFocus network, for ROS 2 and without',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['dualfocus_ros', 'dualfocus_ros.*']),
    package_data={
        'dualfocus_ros': [
            'weights/*',
            'visualization/*.html',
            'visualization/*.css',
            'visualization/*.js',
        ]
    },
    install_requires=[
        'argcomplete>=1.8',
        'matplotlib>=3.5',
        'numpy>=1.26',
        'opencv-python-headless>=4.6',
        'pillow>=9.0',
        'pyyaml>=6.0',
        'rosbags>=0.11',
        'safetensors>=0.4',
        'scipy>=1.8',
        'torch>=2.4',
        'tqdm>=4.60',
    ],
    # Public data sets: DDFF12 and NYUv2 are HDF5, FoD500 and Middlebury-FS hold EXR depth.
    extras_require={
        'eval': ['h5py>=3.6', 'OpenEXR>=3.3'],
        # Older torch has no exporter of this kind.
        'export': ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.3', 'torch>=2.6'],
        # TensorBoard's pictures need a newer Pillow than the rest does.
        'train': ['pillow>=9.1', 'tensorboard>=2.10'],
    },
    # Recordings hold our messages: reading one without ROS needs their definitions.
    data_files=[('share/dualfocus_ros/msg', sorted(glob('msg/*.msg')))],
    entry_points={'console_scripts': ['dualfocus = dualfocus_ros.cli.main:main']},
    zip_safe=False,
)
