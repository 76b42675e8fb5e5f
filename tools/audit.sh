#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Looks for known vulnerabilities of the pinned packages, with pip-audit in an environment of its
# own, .venv-audit. Fails on findings; where it cannot ask it says so.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd -- "$root"
venv=$root/.venv-audit
lock=tools/requirements_audit.lock

# The environment is complete when it holds the lock that it was made from.
if ! cmp -s "$lock" "$venv/made-from.lock"; then
  # Where there is a .venv its Python is a supported one; else as in set_up.sh.
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
