#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the site from docs/ with tools of its own environment, .venv-docs, which needs no ROS.
#   tools/build_docs.sh [the site's folder]
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd -- "$root"
venv=$root/.venv-docs
lock=tools/requirements_docs.lock

# The environment is complete when it holds the lock that it was made from.
if ! cmp -s "$lock" "$venv/made-from.lock"; then
  echo "docs: installing Sphinx into .venv-docs" >&2
  # Where there is a .venv its Python is a supported one; else as in set_up.sh.
  python=$(cat "$root/.venv/made-from" 2>/dev/null || echo "${PYTHON:-python3}")
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install -qq --disable-pip-version-check --no-input --no-compile \
    --require-hashes --no-deps -r "$lock"
  cp "$lock" "$venv/made-from.lock"
fi
site=${1:-site}
"$venv/bin/python" -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -b html \
  -d "$venv/doctrees" docs "$site"
echo "docs: $site/index.html" >&2
