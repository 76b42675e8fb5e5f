# SPDX-License-Identifier: Apache-2.0
"""colcon build of this package, repeated only after changes."""

from __future__ import annotations

from pathlib import Path
import shutil

from environment import Environment, digest
from report import CommandError, SetUpError

# Folders that are linked into the installation: only added or removed files need a build.
_LINKED_FOLDERS = ('config', 'dualfocus_ros', 'launch', 'scripts')


def _state(environment: Environment) -> str:
    root = environment.root
    names = [
        str(path.relative_to(root))
        for folder in _LINKED_FOLDERS
        for path in sorted((root / folder).rglob('*'))
        if '__pycache__' not in path.parts
    ]
    sources = [root / 'CMakeLists.txt', root / 'package.xml', *(root / 'msg').glob('*.msg')]
    return digest(sources, *names)


def ensure_built(environment: Environment) -> None:
    """Build into ``build/`` and ``install/``, unless up to date."""
    root = environment.root
    stamp = root / 'install' / 'set-up-built'
    made_for = root / 'install' / 'set-up-made-for'
    state, identity = _state(environment), environment.identity()
    installed = (root / 'install' / 'local_setup.sh').exists()
    if installed and stamp.exists() and stamp.read_text() == state + identity:
        return
    stamp.unlink(missing_ok=True)
    # The cache of CMake contains Python and the ROS prefix: remove it if they change.
    if not made_for.exists() or made_for.read_text() != identity:
        _remove_build(environment)
    with environment.report.step('building the package and its messages with colcon'):
        made_for.parent.mkdir(exist_ok=True)
        made_for.write_text(identity)
        try:
            _build(environment)
        except CommandError:
            # Leftovers of an interrupted build, or of removed files.
            _remove_build(environment)
            made_for.parent.mkdir()
            made_for.write_text(identity)
            try:
                _build(environment)
            except CommandError as failed:
                raise SetUpError(
                    f'colcon build failed: {failed.last_line()}; '
                    f'details in {environment.report.log_path}'
                ) from None
        stamp.write_text(state + identity)


def _remove_build(environment: Environment) -> None:
    for name in ('build', 'install'):
        shutil.rmtree(environment.root / name, ignore_errors=True)


def _build(environment: Environment) -> None:
    # As a module: the `colcon` of a distro would use the system's Python, without the packages of
    # this environment, and write it into scripts.
    command: list[str | Path] = [environment.python, '-m', 'colcon', 'build']
    command += ['--symlink-install']
    command += ['--base-paths', '.', '--packages-select', 'dualfocus_ros']
    command += ['--event-handlers', 'console_direct+', '--cmake-args', '-DBUILD_TESTING=OFF']
    command += [f'-DPython3_EXECUTABLE={environment.python}']
    environment.report.run(command, environment.root, environment.variables())
    # colcon does not remove links to removed or renamed files.
    for path in (environment.root / 'install').rglob('*'):
        if path.is_symlink() and not path.exists():
            path.unlink()
