# SPDX-License-Identifier: Apache-2.0
"""The colcon build of this package, done again only when something about it has changed."""

from __future__ import annotations

from pathlib import Path
import shutil

from environment import Environment, digest
from report import CommandError, SetUpError

# Their files are linked into the installation: an edit is live, only a file more or less is not.
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
    """Build into ``build/`` and ``install/``, unless that is up to date."""
    root = environment.root
    stamp = root / 'install' / 'set-up-built'
    made_for = root / 'install' / 'set-up-made-for'
    state, identity = _state(environment), environment.identity()
    installed = (root / 'install' / 'local_setup.sh').exists()
    if installed and stamp.exists() and stamp.read_text() == state + identity:
        return
    stamp.unlink(missing_ok=True)
    # CMake's cache names Python and ROS prefix: with other ones it has to go.
    if not made_for.exists() or made_for.read_text() != identity:
        _remove_build(environment)
    with environment.report.step('building the package and its messages with colcon'):
        made_for.parent.mkdir(exist_ok=True)
        made_for.write_text(identity)
        try:
            _build(environment)
        except CommandError:
            # What a build left that was cut off, or that a file was removed from.
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
    # As a module of the environment's Python, because the `colcon` of a distro would use, and
    # write into scripts, the system's Python, which does not see what is installed here.
    command: list[str | Path] = [environment.python, '-m', 'colcon', 'build']
    command += ['--symlink-install']
    command += ['--base-paths', '.', '--packages-select', 'dualfocus_ros']
    command += ['--event-handlers', 'console_direct+', '--cmake-args', '-DBUILD_TESTING=OFF']
    command += [f'-DPython3_EXECUTABLE={environment.python}']
    environment.report.run(command, environment.root, environment.variables())
    # colcon does not take back the links to files that were removed or renamed since.
    for path in (environment.root / 'install').rglob('*'):
        if path.is_symlink() and not path.exists():
            path.unlink()
