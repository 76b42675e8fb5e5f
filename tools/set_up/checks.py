# SPDX-License-Identifier: Apache-2.0
"""Checks before the installation; each failure is one line with its remedy."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
import platform
import shutil
import sys
import sysconfig

from report import CommandError, SetUpError

# Environment and build with the CPU build of torch take 2 GB. The CUDA build takes 6 GB more; pip
# chooses the build later, so explain_pip() covers a full disk as well.
DISK_NEEDED_GB = 3.0

# Import names of the packages in package.xml that rosdep installs. Packages with a compiled ABI
# must come from the distro: its cv_bridge is built against its numpy.
DISTRO_MODULES = (
    'PIL',
    'cv2',
    'cv_bridge',
    'diagnostic_msgs',
    'launch_ros',
    'lifecycle_msgs',
    'matplotlib',
    'numpy',
    'pytest',
    'scipy',
    'sensor_msgs',
    'sensor_msgs_py',
    'std_srvs',
    'yaml',
)


def _debian_name() -> str:
    """Return the stem of the Debian package names of this Python; empty if not from Debian."""
    is_system = Path(sys.base_prefix) == Path('/usr')
    return f'python3.{sys.version_info.minor}' if is_system else ''


def check_machine() -> None:
    """Refuse machines without wheels of ROS 2."""
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        raise SetUpError(
            f'ROS 2 wheels on PyPI are for Linux on x86_64 only, this is {sys.platform} on '
            f'{platform.machine()}: install a ROS 2 distro, source it, and run this again'
        )


def check_tools() -> None:
    """Refuse to start without compilers, Python headers and venv."""
    for language, variable, names in (
        ('C', 'CC', ('cc', 'gcc', 'clang')),
        ('C++', 'CXX', ('c++', 'g++', 'clang++')),
    ):
        chosen = os.environ.get(variable, '').split()
        if not any(shutil.which(name) for name in (chosen[:1] or names)):
            raise SetUpError(
                f'no {language} compiler found (looked for {", ".join(chosen[:1] or names)}): '
                'sudo apt install build-essential'
            )
    if shutil.which('make') is None and shutil.which('ninja') is None:
        raise SetUpError("no 'make' found (needed by CMake): sudo apt install build-essential")
    debian = _debian_name()
    if importlib.util.find_spec('venv') is None or importlib.util.find_spec('ensurepip') is None:
        how = f'sudo apt install {debian}-venv' if debian else 'install a complete Python'
        raise SetUpError(f'{sys.executable} cannot make virtual environments: {how}')
    header = Path(sysconfig.get_paths()['include']) / 'Python.h'
    if not header.exists():
        how = f'sudo apt install {debian}-dev' if debian else 'install its development files'
        raise SetUpError(f'{sys.executable} has no C headers ({header} is missing): {how}')


def check_distro(distro: str) -> None:
    """Refuse a distro without the packages of package.xml or the build tools."""
    missing = [name for name in DISTRO_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise SetUpError(
            f'ROS 2 {distro} is sourced, but these Python modules are missing: '
            f'{", ".join(missing)}: rosdep install --from-paths . --ignore-src -y'
        )
    if importlib.util.find_spec('colcon') is None and shutil.which('colcon') is None:
        raise SetUpError('no colcon found: sudo apt install python3-colcon-common-extensions')
    if shutil.which('cmake') is None:
        raise SetUpError('no cmake found: sudo apt install cmake')


def check_disk(root: Path) -> None:
    """Refuse to start without enough disk space."""
    free = shutil.disk_usage(root).free / 1e9
    if free < DISK_NEEDED_GB:
        raise SetUpError(
            f'{DISK_NEEDED_GB:.0f} GB of free disk are needed in {root}, and there are '
            f'{free:.1f} GB: free some, or clone the repository to another disk'
        )


def explain_pip(failed: CommandError, log_path: Path) -> SetUpError:
    """Return the error of pip as one line with its remedy."""
    output = failed.output
    if 'No space left on device' in output:
        return SetUpError(
            'the disk became full while installing: free some space (6 GB more for the CUDA build '
            'of torch; TMPDIR names where pip unpacks) and run this again'
        )
    if any(
        sign in output
        for sign in (
            'NewConnectionError',
            'NameResolutionError',
            'Name or service not known',
            'ConnectTimeoutError',
            'ReadTimeoutError',
            'Max retries exceeded',
            'Temporary failure in name resolution',
            'ProxyError',
            'Connection refused',
            'Network is unreachable',
        )
    ):
        return SetUpError(
            "the package index cannot be reached: check the network and pip's settings "
            f"('pip config list'), then run this again; details in {log_path}"
        )
    if 'THESE PACKAGES DO NOT MATCH THE HASHES' in output:
        return SetUpError(
            'a downloaded package differs from its hash in the lock file: do not use it; '
            f'details in {log_path}'
        )
    return SetUpError(f'pip failed: {failed.last_line()}; details in {log_path}')
