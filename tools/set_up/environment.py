# SPDX-License-Identifier: Apache-2.0
"""The virtual environment: what goes into it, and how to tell that it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from checks import check_disk, check_distro, check_machine, check_tools, explain_pip
from report import CommandError, Report, SetUpError

# Not in the lock file, which holds hashes: the CPU and the CUDA builds of one version differ.
# Which of them is installed is decided by the user's pip configuration (its index).
TORCH = 'torch==2.13.0'

# What no distro has, or not reliably; these go into the environment beside a distro's packages.
# Nothing here is bound to the ABI of a package of the distro, and pytest is not here because
# launch_testing loads only under the pytest that comes with it.
BESIDE_A_DISTRO = frozenset(
    {
        'rosbags',
        'apsw',
        'backports-zstd',
        'lz4',
        'ruamel-yaml',
        'safetensors',
        'tqdm',
        'filelock',
        'fsspec',
        'jinja2',
        'markupsafe',
        'mpmath',
        'networkx',
        'sympy',
        'typing-extensions',
        'hypothesis',
        'pytest-timeout',
        'sortedcontainers',
        'mypy',
        'ast-serialize',
        'librt',
        'mypy-extensions',
        'pathspec',
        'tomli',
        'types-pyyaml',
        'types-tqdm',
        'ruff',
    }
)

_MACHINE_PATH = re.compile(r'/opt/python/[^/";]+/include/python3\.\d+')
_MACHINE_NUMPY = re.compile(r'/opt/python/[^";]*?/numpy/(?:_core|core)/include')


def digest(paths: Iterable[Path], *texts: str) -> str:
    """Return a hash over the contents of files and over texts."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(f'{path.name}\0{path.stat().st_size}\0'.encode())
        state.update(path.read_bytes())
    for text in texts:
        state.update(text.encode() + b'\0')
    return state.hexdigest()


def select_lock(lock: str, wanted: Callable[[str], bool]) -> str:
    """Return the part of a lock file that pins the packages for which ``wanted`` is true."""
    kept: list[str] = []
    keep = False
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith('#'):
            keep = wanted(re.split(r'[\[=; ]', line, maxsplit=1)[0])
        if keep:
            kept.append(line)
    return '\n'.join(kept) + '\n'


@dataclass(frozen=True)
class Environment:
    """The environment of one checkout.

    :param root: the checkout.
    :param distro: the sourced ROS 2 distro that it stands on, or an empty string for the wheels.
    """

    root: Path
    distro: str
    report: Report

    @property
    def folder(self) -> Path:
        return self.root / '.venv'

    @property
    def python(self) -> Path:
        return self.folder / 'bin' / 'python3'

    @property
    def site_packages(self) -> Path:
        version = f'python{sys.version_info.major}.{sys.version_info.minor}'
        return self.folder / 'lib' / version / 'site-packages'

    def identity(self) -> str:
        """What an environment is made for: when this changes, it has to be made anew."""
        version = '.'.join(map(str, sys.version_info[:3]))
        return json.dumps([str(self.root), sys.base_prefix, version, self.distro])

    def contents(self) -> str:
        """A hash over all that decides what is installed."""
        tools = self.root / 'tools'
        paths = [tools / 'requirements.lock', *(tools / 'set_up').glob('*.py')]
        paths += (self.root / 'drop_ins').glob('*/*.py')
        return digest(paths, self.identity())

    def variables(self) -> dict[str, str]:
        """The environment variables for commands run inside it."""
        env = dict(os.environ)
        # make's own would have the build's make talk to a job server that is not there.
        dropped = ['PYTHONHOME', 'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL']
        if not self.distro:
            # Nothing of another ROS installation may leak into one made of wheels.
            dropped += ['PYTHONPATH', 'LD_LIBRARY_PATH', 'COLCON_PREFIX_PATH']
            env['AMENT_PREFIX_PATH'] = env['CMAKE_PREFIX_PATH'] = str(self.folder)
        for name in dropped:
            env.pop(name, None)
        env['VIRTUAL_ENV'] = str(self.folder)
        env['PATH'] = f'{self.folder / "bin"}{os.pathsep}{env["PATH"]}'
        return env

    def ensure(self) -> None:
        """Make or update the environment, unless it is complete already."""
        stamp = self.folder / 'set-up-done'
        marker = self.folder / 'made-from'
        current = stamp.exists() and stamp.read_text() == self.contents()
        if current and self.python.exists() and self._torch_is_settled():
            return
        check_tools()
        if self.distro:
            check_distro(self.distro)
        else:
            check_machine()
        if self.folder.exists() and not marker.exists():
            raise SetUpError(
                f"'{self.folder}' was not made by this set-up: move it away and run this again"
            )
        # An environment whose making was cut off, or that was made for another Python, place or
        # distro, is not worth mending: pip's cache makes starting over quick.
        identity = self.folder / 'made-for'
        reusable = stamp.exists() and self.python.exists() and identity.exists()
        if self.folder.exists() and not (reusable and identity.read_text() == self.identity()):
            with self.report.step('removing the incomplete or outdated environment'):
                shutil.rmtree(self.folder)
        stamp.unlink(missing_ok=True)
        if not self.folder.exists():
            self._create(marker, identity)
        self._install()
        if self.distro:
            self._write_pytest()
        else:
            with self.report.step("repairing the paths in the wheels' CMake files"):
                self._repair_cmake_files()
                self._install_drop_ins()
        stamp.write_text(self.contents())

    def _create(self, marker: Path, identity: Path) -> None:
        check_disk(self.root)
        base = f'ROS 2 {self.distro}' if self.distro else 'ROS 2 Jazzy from PyPI'
        version = '.'.join(map(str, sys.version_info[:3]))
        with self.report.step(f'making .venv with Python {version} for {base}'):
            # First of all the marker: a folder without it is the user's own.
            self.folder.mkdir()
            marker.write_text(sys.executable)
            options = ['--system-site-packages'] if self.distro else []
            self.report.run(
                [sys.executable, '-m', 'venv', *options, self.folder], self.root, self.variables()
            )
            if self.distro:
                (self.folder / 'ros-distro').write_text(self.distro)
            identity.write_text(self.identity())

    def _install(self) -> None:
        lock = (self.root / 'tools' / 'requirements.lock').read_text()
        if self.distro:
            names = BESIDE_A_DISTRO
            with self.report.step('installing what the distro does not have'):
                self._pip_locked(select_lock(lock, names.__contains__))
        else:
            first = {'setuptools', 'wheel'}
            # The system's cmake is used where there is one; the one on PyPI is 28 MB.
            left_out = first | ({'cmake'} if shutil.which('cmake') else set())
            with self.report.step('installing ROS 2, OpenCV and the other pinned packages'):
                # These two first: one package has no wheel, and they build it. pip would fetch
                # others for that, unpinned and unchecked.
                self._pip_locked(select_lock(lock, first.__contains__))
                rest = select_lock(lock, lambda name: name not in left_out)
                self._pip_locked(rest, '--no-build-isolation')
        if not self._torch_is_settled():
            with self.report.step(f"installing {TORCH}, the build that pip's settings choose"):
                self._pip(TORCH)

    def _torch_is_settled(self) -> bool:
        """True when torch is there, in the distro's Python where one is used, or not wanted."""
        if os.environ.get('DUALFOCUS_SKIP_TORCH') == '1':
            return True
        if any(self.site_packages.glob('torch-*.dist-info/RECORD')):
            return True
        if not self.distro:
            return False
        check = 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'
        return subprocess.run([self.python, '-c', check], env=self.variables()).returncode == 0

    def _pip_locked(self, requirements: str, *options: str) -> None:
        path = self.folder / 'requirements.txt'
        path.write_text(requirements)
        self._pip('--require-hashes', '--no-deps', *options, '-r', str(path))

    def _pip(self, *arguments: str) -> None:
        # Compiling everything takes longer than Python takes to compile what is ever imported.
        command: list[str | Path] = [self.python, '-m', 'pip', 'install', '--no-compile']
        command += ['--retries', '2', '--disable-pip-version-check', '--no-input', *arguments]
        try:
            self.report.run(command, self.root, self.variables())
        except CommandError as failed:
            raise explain_pip(failed, self.report.log_path) from None

    def _repair_cmake_files(self) -> None:
        """Replace the include folders of the machine that built the wheels by this one's.

        ``find_package`` of any message package fails without. Doing it again changes nothing.
        """
        query = (
            'import numpy, sysconfig; print(sysconfig.get_paths()["include"]); '
            'print(numpy.get_include())'
        )
        include, numpy_include = subprocess.run(
            [self.python, '-c', query],
            env=self.variables(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for path in (self.folder / 'share').glob('*/cmake/*.cmake'):
            text = path.read_text()
            repaired = _MACHINE_PATH.sub(lambda _: include, text)
            repaired = _MACHINE_NUMPY.sub(lambda _: numpy_include, repaired)
            if repaired != text:
                path.write_text(repaired)

    def _write_pytest(self) -> None:
        """Give the distro's pytest a command that runs in this environment's Python.

        The distro's own command runs in the system's Python, which does not see torch.
        """
        script = self.folder / 'bin' / 'pytest'
        script.write_text(
            f'#!{self.python}\nimport sys\n\nimport pytest\n\n'
            # The guard is for tests that start processes by spawning: they import this again.
            "if __name__ == '__main__':\n    sys.exit(pytest.console_main())\n"
        )
        script.chmod(0o755)

    def _install_drop_ins(self) -> None:
        for source in (self.root / 'drop_ins').iterdir():
            target = self.site_packages / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
