# SPDX-License-Identifier: Apache-2.0
"""Look up the pinned packages in the database of known vulnerabilities.

Run by ``audit.sh`` with the Python of .venv-audit. Exit code 1 on a finding, 0 with a message if
the database cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Any

TOOLS = Path(__file__).resolve().parent
# The version of torch is pinned in the set-up, see requirements.in.
PINNED = (*sorted(TOOLS.glob('requirements*.lock')), TOOLS / 'set_up' / 'environment.py')
_PIN = re.compile(r"^(?:TORCH = ')?([A-Za-z0-9._-]+)==([^\s;\\']+)", re.MULTILINE)


def pins(files: Iterable[Path]) -> list[list[str]]:
    """Return all pinned packages as ``name==version``, in lists with each name once."""
    lists: list[dict[str, str]] = []
    found = {pin for file in files for pin in _PIN.findall(file.read_text('utf-8'))}
    for name, version in sorted(found):
        free = next((known for known in lists if name not in known), None)
        if free is None:
            lists.append(free := {})
        free[name] = version
    return [[f'{name}=={version}' for name, version in known.items()] for known in lists]


def judge(packages: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return exit code and report lines for the answers of pip-audit."""
    findings = [
        f'{p["name"]} {p["version"]}: {", ".join([v["id"], *v.get("aliases", [])])}'
        f'; fixed in {", ".join(v["fix_versions"]) or "no release yet"}'
        for p in packages
        for v in p.get('vulns', [])
    ]
    unknown = [p for p in packages if 'skip_reason' in p]
    if not packages or len(unknown) == len(packages):
        why = unknown[0]['skip_reason'] if unknown else 'no answer'
        return 0, [f'NOT ASKED: no answer from the database of vulnerabilities ({why})']
    known = len(packages) - len(unknown)
    lines = [f'{known} pinned packages, {len(findings)} known vulnerabilities', *findings]
    if unknown:
        names = ', '.join(sorted(p['name'] for p in unknown))
        lines.append(f'{len(unknown)} packages are not in the database: {names}')
    return int(bool(findings)), lines


def ask(pinned: list[str]) -> list[dict[str, Any]] | str:
    """Return the answer of pip-audit for each package, or its error as text."""
    with tempfile.TemporaryDirectory() as folder:
        listed, answer = Path(folder, 'pins.txt'), Path(folder, 'answer.json')
        listed.write_text('\n'.join(pinned) + '\n', 'utf-8')
        done = subprocess.run(
            [
                sys.executable,
                '-m',
                'pip_audit',
                '--requirement',
                listed,
                '--no-deps',
                '--disable-pip',
                '--progress-spinner',
                'off',
                '--format',
                'json',
                '--output',
                answer,
            ],
            capture_output=True,
            text=True,
        )
        try:
            packages: list[dict[str, Any]] = json.loads(answer.read_text('utf-8'))['dependencies']
        except (OSError, ValueError, KeyError):
            lines = done.stderr.strip().splitlines()
            return lines[-1] if lines else f'pip-audit ended with {done.returncode}'
    return packages


def main() -> int:
    """Print the report; return the exit code."""
    packages: list[dict[str, Any]] = []
    for pinned in pins(PINNED):
        answer = ask(pinned)
        if isinstance(answer, str):
            print(f'audit: NOT ASKED: {answer}')
            return 0
        packages += answer
    code, lines = judge(packages)
    print('\n'.join(f'audit: {line}' for line in lines))
    return code


if __name__ == '__main__':
    sys.exit(main())
