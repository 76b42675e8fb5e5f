#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the site from docs/ with Sphinx in .venv-docs, without ROS.
#   tools/build_docs.sh [output folder]
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
cd -- "$root"
venv=$root/.venv-docs
lock=tools/requirements_docs.lock

# The environment is complete once it contains its lock file.
if ! cmp -s "$lock" "$venv/made-from.lock"; then
  echo "docs: installing Sphinx into .venv-docs" >&2
  # The Python of .venv is a supported one; without .venv as in set_up.sh.
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
