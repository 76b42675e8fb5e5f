# SPDX-License-Identifier: Apache-2.0
"""Virtual environment: its contents, and whether it is up to date."""

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

# Not in the lock file, because the hashes of CPU and CUDA builds of one version differ. The index
# in the pip configuration of the user decides which is installed.
TORCH = 'torch==2.13.0'

# Packages that distros lack, installed in addition to those of the distro. None depends on the ABI
# of a distro package; without pytest, because launch_testing needs the pytest of its distro.
EXTRA_PACKAGES = frozenset(
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
    """Return a hash of files and texts."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(f'{path.name}\0{path.stat().st_size}\0'.encode())
        state.update(path.read_bytes())
    for text in texts:
        state.update(text.encode() + b'\0')
    return state.hexdigest()


def select_lock(lock: str, selects: Callable[[str], bool]) -> str:
    """Return the part of a lock file with the packages for which ``selects`` is true."""
    kept: list[str] = []
    keep = False
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith('#'):
            keep = selects(re.split(r'[\[=; ]', line, maxsplit=1)[0])
        if keep:
            kept.append(line)
    return '\n'.join(kept) + '\n'


@dataclass(frozen=True)
class Environment:
    """Virtual environment of one checkout.

    :param root: folder of the checkout.
    :param distro: sourced ROS 2 distro; empty for the wheels of PyPI.
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
        """Return the identity of the environment; a new identity needs a new environment."""
        version = '.'.join(map(str, sys.version_info[:3]))
        return json.dumps([str(self.root), sys.base_prefix, version, self.distro])

    def contents(self) -> str:
        """Return a hash of everything that determines the installed packages."""
        tools = self.root / 'tools'
        paths = [tools / 'requirements.lock', *(tools / 'set_up').glob('*.py')]
        paths += (self.root / 'drop_ins').glob('*/*.py')
        return digest(paths, self.identity())

    def variables(self) -> dict[str, str]:
        """Return the environment variables of commands that run inside."""
        env = dict(os.environ)
        # With the variables of make, the make of the build would look for its job server.
        dropped = ['PYTHONHOME', 'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL']
        if not self.distro:
            # Isolate the wheels from other ROS installations.
            dropped += ['PYTHONPATH', 'LD_LIBRARY_PATH', 'COLCON_PREFIX_PATH']
            env['AMENT_PREFIX_PATH'] = env['CMAKE_PREFIX_PATH'] = str(self.folder)
        for name in dropped:
            env.pop(name, None)
        env['VIRTUAL_ENV'] = str(self.folder)
        env['PATH'] = f'{self.folder / "bin"}{os.pathsep}{env["PATH"]}'
        return env

    def ensure(self) -> None:
        """Create or update the environment, unless it is up to date."""
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
                f"'{self.folder}' was not created by this set-up: move it away and run this again"
            )
        # Incomplete environments, and those for another Python, path or distro, are created again:
        # quick, thanks to the cache of pip.
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
        with self.report.step(f'creating .venv with Python {version} for {base}'):
            # The marker first: a folder without it belongs to the user.
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
            names = EXTRA_PACKAGES
            with self.report.step('installing packages that the distro lacks'):
                self._pip_locked(select_lock(lock, names.__contains__))
        else:
            first = {'setuptools', 'wheel'}
            # The system's cmake is preferred; the one on PyPI has 28 MB.
            left_out = first | ({'cmake'} if shutil.which('cmake') else set())
            with self.report.step('installing ROS 2, OpenCV and the other pinned packages'):
                # First the two that build the package without a wheel: pip would fetch
                # unpinned ones.
                self._pip_locked(select_lock(lock, first.__contains__))
                rest = select_lock(lock, lambda name: name not in left_out)
                self._pip_locked(rest, '--no-build-isolation')
        if not self._torch_is_settled():
            with self.report.step(f"installing {TORCH}, the build that pip's settings choose"):
                self._pip(TORCH)

    def _torch_is_settled(self) -> bool:
        """Return whether torch is installed (also in the distro's Python) or skipped."""
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
        # Compiling all modules takes longer than compiling the imported ones on first use.
        command: list[str | Path] = [self.python, '-m', 'pip', 'install', '--no-compile']
        command += ['--retries', '2', '--disable-pip-version-check', '--no-input', *arguments]
        try:
            self.report.run(command, self.root, self.variables())
        except CommandError as failed:
            raise explain_pip(failed, self.report.log_path) from None

    def _repair_cmake_files(self) -> None:
        """Replace include folders of the build machine in the CMake files of the wheels.

        Otherwise ``find_package`` of message packages fails. Idempotent.
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
        """Write a pytest command that runs in the Python of this environment.

        The command of the distro runs in the system's Python, without torch.
        """
        script = self.folder / 'bin' / 'pytest'
        script.write_text(
            f'#!{self.python}\nimport sys\n\nimport pytest\n\n'
            # Processes that tests spawn import this file again, hence the guard.
            "if __name__ == '__main__':\n    sys.exit(pytest.console_main())\n"
        )
        script.chmod(0o755)

    def _install_drop_ins(self) -> None:
        for source in (self.root / 'drop_ins').iterdir():
            target = self.site_packages / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
