# SPDX-License-Identifier: Apache-2.0
"""Find words in code and documentation that hide what happens: metaphors, calques, riddles.

``python tools/check_prose.py [PATH ...]`` prints the lines with such words and fails on any.
The standard term, a technical noun or an imperative verb takes its place; docs/contributing.md has
the rule and examples.
"""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

WORDS = (
    'alike',
    'anew',
    'beside',
    'burnt',
    'nobody',
    'of its own',
    'of their own',
    'out of itself',
    'somebody',
    'tells',
    'told',
    'whatever',
    r'what (?:is|was|were|are|has|have|had|comes?|came|needs?|it|they|stays|remains|lies)',
)
PATTERN = re.compile(rf'(?<!/)\b(?:{"|".join(WORDS)})\b', re.IGNORECASE)
SUFFIXES = {'.md', '.msg', '.py', '.sh', '.toml', '.xml', '.yaml'}
SELF = Path(__file__).resolve()


def tracked_files() -> list[Path]:
    """Return the files that git knows."""
    listed = subprocess.run(['git', 'ls-files'], capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.splitlines()]


def find(path: Path) -> list[str]:
    """Return a line of text for each line of a file that contains a listed word."""
    if path.suffix not in SUFFIXES or path.resolve() == SELF or not path.is_file():
        return []
    return [
        f'{path}:{number}: {match[0]}: {line.strip()}'
        for number, line in enumerate(path.read_text('utf-8').splitlines(), start=1)
        for match in [PATTERN.search(line)]
        if match
    ]


def main(arguments: list[str]) -> int:
    """Print the findings in the named files and folders, or in all tracked files."""
    given = [Path(argument) for argument in arguments]
    files = [
        file for path in given for file in (sorted(path.rglob('*')) if path.is_dir() else [path])
    ] or tracked_files()
    findings = [finding for file in files for finding in find(file)]
    for finding in findings:
        sys.stdout.write(f'{finding}\n')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
