# SPDX-License-Identifier: Apache-2.0
"""Containers, workflows, systemd unit and files about the project: consistent, well-formed."""

from __future__ import annotations

from pathlib import Path
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from documented_commands import DOCS, ROOT, commands, declared_arguments
import dualfocus_ros

DOCKERFILE = (ROOT / 'docker' / 'Dockerfile').read_text('utf-8')
WORKFLOW = ROOT / '.github' / 'workflows' / 'ci.yaml'
UNIT = (ROOT / 'deploy' / 'dualfocus.service').read_text('utf-8')
DISTROS = {'humble', 'jazzy', 'kilted', 'lyrical'}


def tool(name: str) -> str:
    """Return the path of a linter of `make docs`, or skip."""
    own = ROOT / '.venv-docs' / 'bin' / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f'there is no {name}: make docs installs it')
    return found


def instructions(name: str) -> list[str]:
    """Return the operands of an instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r'\\\n', ' ', re.sub(r'^#.*\n', '', DOCKERFILE, flags=re.M))
    return re.findall(rf'^{name} (.*)$', text, re.M)


def jobs() -> dict:
    return yaml.safe_load(WORKFLOW.read_text('utf-8'))['jobs']


class TestContainers:
    def test_hadolint(self):
        subprocess.run([tool('hadolint'), ROOT / 'docker' / 'Dockerfile'], check=True)

    def test_copied_files_exist_and_are_not_ignored(self):
        ignored = set((ROOT / '.dockerignore').read_text('utf-8').split())
        sources = [word for copied in instructions('COPY') for word in copied.split()[:-1]]
        assert sources == ['package.xml', '.']
        for needed in ('package.xml', 'tools', 'Makefile', 'dualfocus_ros', 'docker', 'examples'):
            assert (ROOT / needed).exists() and needed not in ignored
        assert {'.venv', 'build', 'install', '.git'} <= ignored

    def test_follows_the_documented_ros_set_up(self):
        ran = ' '.join(instructions('RUN'))
        assert 'rosdep install --from-paths . --ignore-src -y' in ran
        assert 'make setup' in ran
        skipped = re.search(r'--skip-keys "([^"]+)"', ran)[1].split()
        declared = (ROOT / 'package.xml').read_text('utf-8')
        assert all(f'>{key}<' in declared for key in skipped)

    def test_entry_point(self):
        (entry,) = instructions('ENTRYPOINT')
        path = ROOT / Path(yaml.safe_load(entry)[0]).relative_to('/opt/dualfocus_ros')
        assert path.stat().st_mode & 0o111
        subprocess.run(['bash', '-n', path], check=True)
        assert (ROOT / 'activate.sh').is_file() and 'activate.sh' in path.read_text('utf-8')
        _check_launch(yaml.safe_load(instructions('CMD')[0]))

    def test_build_arguments_are_documented_and_in_compose(self):
        declared = set(re.findall(r'^ARG (\w+)', DOCKERFILE, re.M))
        page = (DOCS / 'deployment.md').read_text('utf-8')
        assert set(re.findall(r'^\| `([A-Z_]+)` \|', page, re.M)) == declared
        used = set(re.findall(r'--build-arg (\w+)=', page))
        compose = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text('utf-8'))
        assert set(compose['services']) == {'cpu', 'cuda', 'jetson'}
        for service in compose['services'].values():
            used |= service['build']['args'].keys()
            assert (ROOT / 'docker' / service['build']['context']).resolve() == ROOT
            assert (ROOT / service['build']['dockerfile']).is_file()
            _check_launch(re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', service['command']).split())
        assert used <= declared

    def test_compose_file_is_valid(self):
        _by_schema('compose-spec', ROOT / 'docker' / 'compose.yaml')


def _check_launch(words: list[str]) -> None:
    assert words[:3] == ['ros2', 'launch', 'dualfocus_ros']
    declared = declared_arguments(ROOT / 'launch' / words[3])
    for word in words[4:]:
        name, assigned, value = word.partition(':=')
        assert assigned and name in declared
        assert not declared[name] or value in declared[name]


def _by_schema(schema: str, path: Path) -> None:
    command = [tool('check-jsonschema'), '--builtin-schema', f'vendor.{schema}', path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class TestWorkflows:
    def test_schema(self):
        _by_schema('github-workflows', WORKFLOW)

    def test_covers_every_distro_and_bare_machine(self):
        assert set(jobs()['ros']['strategy']['matrix']['distro']) == DISTROS
        images = jobs()['bare']['strategy']['matrix']['image']
        assert {image.partition(':')[0] for image in images} == {'ubuntu', 'debian'}
        python = {
            (entry['python'], entry['numpy'].partition('.')[0])
            for entry in jobs()['workstation']['strategy']['matrix']['include']
        }
        assert {version for version, _ in python} == {'3.10', '3.11', '3.12', '3.13'}
        assert {numpy for _, numpy in python} == {'1', '2'}

    def test_commands_exist(self):
        steps = [step for job in jobs().values() for step in job['steps']]
        text = '\n'.join(step.get('run', '') for step in steps)
        makefile = (ROOT / 'Makefile').read_text('utf-8')
        targets = re.findall(r'^\s*make (\w+)', text, re.M)
        assert {'test', 'lint', 'docs'} <= set(targets)
        assert all(re.search(rf'^{target}:', makefile, re.M) for target in targets)
        assert 'colcon test --packages-select dualfocus_ros' in text
        assert 'colcon test-result' in text, 'colcon test does not fail by itself'
        assert '-f docker/Dockerfile' in text

    def test_scripts_parse(self):
        for job in jobs().values():
            for step in job['steps']:
                script = re.sub(r'\$\{\{.*?\}\}', 'x', step.get('run', ''))
                subprocess.run(['bash', '-n'], input=script, text=True, check=True)

    def test_jobs_have_limits_and_no_write_permission(self):
        assert yaml.safe_load(WORKFLOW.read_text('utf-8'))['permissions'] == {'contents': 'read'}
        assert all(job['timeout-minutes'] <= 90 for job in jobs().values())


class TestSystemdUnit:
    def test_systemd_accepts_it(self, tmp_path):
        if shutil.which('systemd-analyze') is None:
            pytest.skip('there is no systemd-analyze here')
        done = subprocess.run(
            ['systemd-analyze', 'verify', '--man=no', ROOT / 'deploy' / 'dualfocus.service'],
            capture_output=True,
            text=True,
            env={'PATH': '/usr/bin:/bin', 'HOME': str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert 'dualfocus.service' not in done.stderr, done.stderr

    def test_service_variables_and_arguments_exist(self):
        (start,) = re.findall(r"^ExecStart=/bin/bash -c '(.*)'$", UNIT, re.M)
        subprocess.run(['bash', '-n', '-c', start], check=True)
        lines = (ROOT / 'deploy' / 'dualfocus.env').read_text('utf-8').splitlines()
        values = dict(line.split('=', 1) for line in lines if line and not line.startswith('#'))
        assert set(re.findall(r'\$(\w+)', start)) <= values.keys()
        words = shlex.split(start.rpartition('exec ')[2])
        arguments = shlex.split(values['ARGUMENTS'].strip('"'))
        _check_launch([*words[:-1], *arguments])

    def test_service_stops_nodes_with_sigint(self):
        assert 'KillSignal=SIGINT' in UNIT and 'KillMode=mixed' in UNIT


class TestAboutTheProject:
    def test_one_version(self):
        citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
        assert citation['version'] == dualfocus_ros.__version__
        changelog = (ROOT / 'CHANGELOG.md').read_text('utf-8')
        versions = re.findall(r'^## (\S+)', changelog, re.M)
        assert versions[0] == 'Unreleased' and versions[1] == dualfocus_ros.__version__

    def test_citation_is_valid(self):
        _by_schema('citation-file-format', ROOT / 'CITATION.cff')

    def test_licences_agree(self):
        assert 'Apache License' in (ROOT / 'LICENSE').read_text('utf-8')
        citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
        package = (ROOT / 'package.xml').read_text('utf-8')
        assert f'<license>{citation["license"]}</license>' in package

    def test_pre_commit_commands_exist(self):
        path = ROOT / '.pre-commit-config.yaml'
        hooks = yaml.safe_load(path.read_text('utf-8'))['repos']
        local = [hook for repo in hooks if repo['repo'] == 'local' for hook in repo['hooks']]
        assert {hook['id'] for hook in local} == {
            'ruff',
            'ruff-format',
            'mypy',
            'prose',
            'reference',
        }
        lock = (ROOT / 'tools' / 'requirements.lock').read_text('utf-8')
        for hook in local:
            for word in hook['entry'].split():
                if word.startswith('.venv/bin/') and word != '.venv/bin/python':
                    assert f'\n{Path(word).name}==' in lock

    def test_file_size_limit_admits_the_weights(self):
        text = (ROOT / '.pre-commit-config.yaml').read_text('utf-8')
        limit = int(re.search(r'--maxkb=(\d+)', text)[1]) * 1024
        assert all(path.stat().st_size < limit for path in ROOT.glob('dualfocus_ros/weights/*'))

    def test_docker_commands_are_valid(self):
        documented = [c for c in commands(DOCS / 'deployment.md') if c.words[0] == 'docker']
        assert len(documented) >= 4
        for command in documented:
            if command.words[1] == 'build':
                file = command.words[command.words.index('-f') + 1]
                assert (ROOT / file).is_file() and command.words[-1] == '.'
