# SPDX-License-Identifier: Apache-2.0
"""`make lint` fails on known vulnerabilities, and never takes silence for a clean bill."""

import importlib.util
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture(scope='module')
def audit():
    """Return tools/audit.py as a module."""
    spec = importlib.util.spec_from_file_location('audit', TOOLS / 'audit.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {'name': 'a', 'version': '1', 'vulns': []}
SKIPPED = {'name': 'b', 'skip_reason': 'not found'}
BAD = {
    'name': 'c',
    'version': '2',
    'vulns': [
        {'id': 'PYSEC-1', 'aliases': ['CVE-1'], 'fix_versions': ['3', '4']},
    ],
}


@pytest.mark.parametrize(
    ('packages', 'code', 'first'),
    [
        ([CLEAN, CLEAN], 0, '2 pinned packages, 0 known vulnerabilities'),
        ([CLEAN, SKIPPED], 0, '1 pinned packages, 0 known vulnerabilities'),
        ([CLEAN, BAD, SKIPPED], 1, '2 pinned packages, 1 known vulnerabilities'),
        ([SKIPPED, SKIPPED], 0, 'NOT ASKED: '),
        ([], 0, 'NOT ASKED: '),
    ],
)
def test_findings_fail_and_silence_is_reported(audit, packages, code, first):
    found, lines = audit.judge(packages)
    assert found == code and lines[0].startswith(first)
    assert any('c 2: PYSEC-1, CVE-1; fixed in 3, 4' in line for line in lines) == bool(code)


def test_every_pin_is_audited_once(audit, tmp_path):
    lock = tmp_path / 'requirements.lock'
    lock.write_text(
        "# pinned==0\nnumpy==2.2.6 ; python_version < '3.11' \\\n    --hash=sha256:a\n"
        "numpy==2.5.1 ; python_version >= '3.11' \\\n    --hash=sha256:b\nscipy==1.0\n"
    )
    assert audit.pins([lock, lock]) == [['numpy==2.2.6', 'scipy==1.0'], ['numpy==2.5.1']]
    names = {pin.partition('==')[0] for pinned in audit.pins(audit.PINNED) for pin in pinned}
    assert {'numpy', 'torch', 'safetensors', 'sphinx', 'pip-audit', 'ros-rclpy'} <= names


@pytest.mark.parametrize('lock', sorted(TOOLS.glob('requirements*.lock')), ids=lambda p: p.name)
def test_every_pin_has_hashes(lock):
    pinned = lock.read_text('utf-8').replace('\\\n', ' ').splitlines()
    for line in pinned:
        assert line.startswith('#') or not line.strip() or '--hash=sha256:' in line, line
