# SPDX-License-Identifier: Apache-2.0
"""The set-up scripts, as far as they can be tried without installing anything."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'set_up'))

import checks  # noqa: E402
import environment  # noqa: E402
from environment import Environment, select_lock  # noqa: E402
from report import CommandError, Report, SetUpError  # noqa: E402

ENVIRONMENT = ROOT / '.venv' / 'bin' / 'activate'
NOT_SET_UP = pytest.mark.skipif(
    not (ENVIRONMENT.exists() and (ROOT / 'install' / 'local_setup.sh').exists()),
    reason='this checkout was not set up by make',
)


def run_shell(script: str, shell: str = 'bash', **variables: str) -> subprocess.CompletedProcess:
    """Run a script in a clean environment, as a user's new shell would."""
    env = {'HOME': os.environ['HOME'], 'PATH': os.defpath, **variables}
    return subprocess.run([shell, '-c', script], cwd='/', env=env, capture_output=True, text=True)


def write_executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class TestChoiceOfPython:
    """``set_up.sh`` in a copy, with interpreters that only print a version."""

    @pytest.fixture
    def checkout(self, tmp_path):
        (tmp_path / 'tools' / 'set_up').mkdir(parents=True)
        shutil.copy(ROOT / 'tools' / 'set_up.sh', tmp_path / 'tools')
        (tmp_path / 'bin').mkdir()
        for tool in ('sh', 'dirname', 'cat'):
            (tmp_path / 'bin' / tool).symlink_to(shutil.which(tool))
        return tmp_path

    def add_python(self, checkout: Path, name: str, supported: bool, version: str = '3.11.2'):
        write_executable(
            checkout / 'bin' / name,
            '#!/bin/sh\ncase $1 in\n'
            f'  --version) echo Python {version} ;;\n'
            f'  -c) exit {0 if supported else 1} ;;\n'
            f'  *) echo started {name} "$@" ;;\nesac\n',
        )

    def run(self, checkout: Path, **variables: str) -> subprocess.CompletedProcess:
        script = f'exec {checkout}/tools/set_up.sh'
        env = {'PATH': str(checkout / 'bin'), **variables}
        return subprocess.run(['/bin/sh', '-c', script], env=env, capture_output=True, text=True)

    def test_prefers_a_supported_python3(self, checkout):
        self.add_python(checkout, 'python3', True)
        self.add_python(checkout, 'python3.13', True)
        assert self.run(checkout).stdout.startswith('started python3 ')

    def test_falls_back_to_the_newest_supported_python(self, checkout):
        self.add_python(checkout, 'python3', False, '3.9.2')
        self.add_python(checkout, 'python3.10', True)
        self.add_python(checkout, 'python3.12', True)
        assert self.run(checkout).stdout.startswith('started python3.12 ')

    def test_python_variable_has_priority(self, checkout):
        self.add_python(checkout, 'python3', True)
        self.add_python(checkout, 'mine', True)
        assert self.run(checkout, PYTHON='mine').stdout.startswith('started mine ')

    def test_chosen_python_is_stored(self, checkout):
        self.add_python(checkout, 'python3', True)
        self.add_python(checkout, 'mine', True)
        (checkout / '.venv').mkdir()
        (checkout / '.venv' / 'made-from').write_text(str(checkout / 'bin' / 'mine'))
        assert self.run(checkout).stdout.startswith('started mine ')

    def test_ignores_an_active_environment(self, checkout):
        self.add_python(checkout, 'python3', True)
        active = checkout / '.venv' / 'bin'
        active.mkdir(parents=True)
        write_executable(active / 'python3', '#!/bin/sh\necho started the wrong one\n')
        path = f'{active}:{checkout / "bin"}'
        result = self.run(checkout, PATH=path, VIRTUAL_ENV=str(checkout / '.venv'))
        assert result.stdout.startswith('started python3 ')

    @pytest.mark.parametrize('variables', [{}, {'PYTHON': 'python3'}])
    def test_an_unsupported_python_gives_one_line_of_advice(self, checkout, variables):
        self.add_python(checkout, 'python3', False, '3.9.2')
        result = self.run(checkout, **variables)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert 'Python 3.9.2' in result.stderr
        assert 'apt install python3' in result.stderr

    def test_a_sourced_distro_is_used(self, checkout):
        self.add_python(checkout, 'python3', True)
        result = self.run(checkout, ROS_DISTRO='jazzy', AMENT_PREFIX_PATH='/opt/ros/jazzy')
        assert result.stdout.rstrip().endswith('--distro jazzy')

    def test_a_distro_without_rclpy_gives_one_line_of_advice(self, checkout):
        self.add_python(checkout, 'python3', False)
        result = self.run(checkout, ROS_DISTRO='jazzy', AMENT_PREFIX_PATH='/opt/ros/jazzy')
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert 'cannot import rclpy: install ros-jazzy-ros-base' in result.stderr

    def test_an_environment_on_a_distro_is_not_replaced_by_wheels(self, checkout):
        self.add_python(checkout, 'python3', True)
        (checkout / '.venv').mkdir()
        (checkout / '.venv' / 'ros-distro').write_text('humble')
        result = self.run(checkout)
        assert result.returncode == 1
        assert 'source /opt/ros/humble/setup.bash' in result.stderr


class TestChecks:
    def test_a_missing_compiler(self, monkeypatch, tmp_path):
        monkeypatch.setenv('PATH', str(tmp_path))
        monkeypatch.delenv('CC', raising=False)
        with pytest.raises(SetUpError, match=r'no C compiler .* apt install build-essential'):
            checks.check_tools()

    def test_another_compiler_may_be_named(self, monkeypatch, tmp_path):
        for name in ('my-cc', 'my-c++', 'make'):
            write_executable(tmp_path / name, '#!/bin/sh\n')
        monkeypatch.setenv('PATH', str(tmp_path))
        monkeypatch.setenv('CC', 'my-cc -m64')
        monkeypatch.setenv('CXX', 'my-c++')
        monkeypatch.setattr(checks.sysconfig, 'get_paths', lambda: {'include': str(tmp_path)})
        (tmp_path / 'Python.h').touch()
        checks.check_tools()

    def test_missing_headers(self, monkeypatch, tmp_path):
        for name in ('cc', 'c++', 'make'):
            write_executable(tmp_path / name, '#!/bin/sh\n')
        monkeypatch.setenv('PATH', str(tmp_path))
        monkeypatch.delenv('CC', raising=False)
        monkeypatch.delenv('CXX', raising=False)
        monkeypatch.setattr(checks.sysconfig, 'get_paths', lambda: {'include': str(tmp_path)})
        monkeypatch.setattr(checks.sys, 'base_prefix', '/usr')
        with pytest.raises(SetUpError, match=r'Python\.h is missing.* install python3\.\d+-dev'):
            checks.check_tools()

    def test_a_full_disk(self, monkeypatch, tmp_path):
        usage = shutil.disk_usage(tmp_path)._replace(free=200_000_000)
        monkeypatch.setattr(checks.shutil, 'disk_usage', lambda _: usage)
        with pytest.raises(SetUpError, match=r'3 GB of free disk .* there are 0\.2 GB'):
            checks.check_disk(tmp_path)

    def test_another_processor(self, monkeypatch):
        monkeypatch.setattr(checks.platform, 'machine', lambda: 'aarch64')
        with pytest.raises(SetUpError, match='linux on aarch64: install a ROS 2 distro'):
            checks.check_machine()

    def test_distro_with_missing_packages(self, monkeypatch):
        monkeypatch.setattr(checks, 'DISTRO_MODULES', ('os', 'no_such_module'))
        with pytest.raises(SetUpError, match=': no_such_module: rosdep install'):
            checks.check_distro('jazzy')

    @pytest.mark.parametrize(
        ('output', 'advice'),
        [
            ('... [Errno 28] No space left on device', 'the disk became full'),
            ("broken by 'NewConnectionError(...)'\nERROR: No match", 'cannot be reached'),
            ('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM', 'do not use it'),
            ('Collecting x\nERROR: No matching distribution\n', 'ERROR: No matching distribution'),
        ],
    )
    def test_pip_errors_become_one_line(self, output, advice):
        error = checks.explain_pip(CommandError(output), Path('log/set_up.log'))
        assert advice in str(error)
        assert '\n' not in str(error)


class TestEnvironment:
    @pytest.fixture
    def fresh(self, tmp_path):
        for name in ('tools', 'drop_ins'):
            shutil.copytree(ROOT / name, tmp_path / name)
        return Environment(tmp_path, '', Report(tmp_path / 'log' / 'set_up.log'))

    def test_keeps_an_unrelated_venv_folder(self, fresh):
        (fresh.folder / 'mine').mkdir(parents=True)
        with pytest.raises(SetUpError, match='was not created by this set-up'):
            fresh.ensure()
        assert (fresh.folder / 'mine').exists()

    def test_complete_environment_is_kept(self, fresh, monkeypatch):
        fresh.python.parent.mkdir(parents=True)
        fresh.python.touch()
        (fresh.folder / 'set-up-done').write_text(fresh.contents())
        monkeypatch.setenv('DUALFOCUS_SKIP_TORCH', '1')
        monkeypatch.setattr(environment, 'check_tools', lambda: pytest.fail('it does something'))
        fresh.ensure()

    @pytest.mark.parametrize(
        'path', ['tools/requirements.lock', 'drop_ins/cv_bridge/core.py', 'tools/set_up/checks.py']
    )
    def test_detects_changed_requirements(self, fresh, path):
        before = fresh.contents()
        with (fresh.root / path).open('a') as file:
            file.write('\n')
        assert fresh.contents() != before

    def test_no_other_ros_leaks_into_the_wheels(self, fresh, monkeypatch):
        monkeypatch.setenv('PYTHONPATH', '/opt/ros/other')
        monkeypatch.setenv('AMENT_PREFIX_PATH', '/opt/ros/other')
        variables = fresh.variables()
        assert 'PYTHONPATH' not in variables
        assert variables['AMENT_PREFIX_PATH'] == str(fresh.folder)

    def test_replaces_build_paths_of_wheels_once(self, fresh, monkeypatch):
        text = (
            'set_target_properties(t PROPERTIES\n'
            '  INTERFACE_INCLUDE_DIRECTORIES "${_PREFIX}/include/a;'
            '/opt/python/cp311-cp311/include/python3.11;'
            '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"\n)\n'
        )
        path = fresh.folder / 'share' / 'std_msgs' / 'cmake' / 'pyExport.cmake'
        path.parent.mkdir(parents=True)
        path.write_text(text)
        fresh.python.parent.mkdir()
        write_executable(fresh.python, '#!/bin/sh\necho "/my py/include"\necho /my/numpy\n')
        fresh._repair_cmake_files()
        repaired = path.read_text()
        assert '"${_PREFIX}/include/a;/my py/include;/my/numpy"' in repaired
        fresh._repair_cmake_files()
        assert path.read_text() == repaired

    def test_the_lock_is_selected_by_name(self):
        lock = (
            '# comment\n'
            'a==1 \\\n    --hash=sha256:11\n'
            "a-b==2 ; python_version < '3.11' \\\n    --hash=sha256:22 \\\n    --hash=sha256:33\n"
            'c==3 \\\n    --hash=sha256:44\n'
        )
        selected = select_lock(lock, {'a-b', 'c'}.__contains__)
        assert selected == lock[lock.index('a-b') :]

    def test_additions_to_a_distro_are_in_the_lock(self):
        lock = (ROOT / 'tools' / 'requirements.lock').read_text()
        for name in environment.EXTRA_PACKAGES:
            assert select_lock(lock, {name}.__contains__).startswith(f'{name}=='), name
        assert not environment.EXTRA_PACKAGES & {'numpy', 'opencv-python-headless', 'pytest'}


class TestReport:
    def test_output_of_failed_commands_is_logged(self, tmp_path):
        report = Report(tmp_path / 'log' / 'set_up.log')
        report.run(['echo', 'fine'], tmp_path, os.environ)
        with pytest.raises(CommandError) as caught:
            report.run(['sh', '-c', 'echo one; echo an error; echo end; exit 3'], tmp_path, {})
        assert caught.value.output == 'one\nan error\nend\n'
        assert caught.value.last_line() == 'an error'
        assert 'fine' in report.log_path.read_text()


@NOT_SET_UP
class TestActivate:
    SHOW = 'echo "$VIRTUAL_ENV|$AMENT_PREFIX_PATH|$CMAKE_PREFIX_PATH|$PYTHONPATH|$PATH"'

    @pytest.mark.parametrize('shell', ['bash', 'zsh'])
    def test_sourcing_twice_changes_nothing(self, shell):
        if shutil.which(shell) is None:
            pytest.skip(f'there is no {shell} here')
        if (ROOT / '.venv' / 'ros-distro').exists():
            pytest.skip('needs a shell that has sourced the distro')
        once = run_shell(f'set -eu; source {ROOT}/activate.sh; {self.SHOW}', shell)
        twice = run_shell(
            f'set -eu; source {ROOT}/activate.sh; source {ROOT}/activate.sh; {self.SHOW}', shell
        )
        assert once.returncode == 0, once.stderr
        assert once.stdout == twice.stdout
        assert once.stdout.startswith(f'{ROOT}/.venv|{ROOT}/install/dualfocus_ros:')
        assert twice.stderr == ''

    def test_the_dds_profile_is_set_unless_the_user_has_one(self):
        show = 'echo "$FASTDDS_DEFAULT_PROFILES_FILE|$FASTRTPS_DEFAULT_PROFILES_FILE"'
        script = f'source {ROOT}/activate.sh 2>/dev/null; {show}'
        profile = f'{ROOT}/config/fastdds_large_images.xml'
        assert run_shell(script).stdout.strip() == f'{profile}|{profile}'
        mine = run_shell(script, FASTRTPS_DEFAULT_PROFILES_FILE='/mine.xml').stdout.strip()
        assert mine == '|/mine.xml'

    def test_other_shells_get_an_error(self):
        result = run_shell(f'. {ROOT}/activate.sh', 'sh')
        if 'BASH_VERSION' not in run_shell('set', 'sh').stdout:
            assert 'source it from bash or zsh' in result.stderr


def test_activate_without_set_up_is_an_error(tmp_path):
    shutil.copy(ROOT / 'activate.sh', tmp_path)
    result = run_shell(f'source {tmp_path}/activate.sh; echo "status $?"')
    assert "run 'make setup' there" in result.stderr
    assert result.stdout.strip() == 'status 1'
