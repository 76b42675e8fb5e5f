#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Looks up the pinned packages in the database of known vulnerabilities, with pip-audit in
# .venv-audit. Fails on findings; prints a message if the database cannot be reached.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd -- "$root"
venv=$root/.venv-audit
lock=tools/requirements_audit.lock

# The environment is complete once it contains its lock file.
if ! cmp -s "$lock" "$venv/made-from.lock"; then
  # The Python of .venv is a supported one; without .venv as in set_up.sh.
  python=$(cat "$root/.venv/made-from" 2>/dev/null || echo "${PYTHON:-python3}")
  rm -rf "$venv"
  if ! { "$python" -m venv "$venv" && "$venv/bin/pip" install -qq --disable-pip-version-check \
    --no-input --no-compile --require-hashes --no-deps -r "$lock"; } then
    echo "audit: NOT ASKED: pip-audit cannot be installed here"
    rm -rf "$venv"
    exit 0
  fi
  cp "$lock" "$venv/made-from.lock"
fi
exec "$venv/bin/python" tools/audit.py
