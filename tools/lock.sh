#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes each requirements*.lock from its requirements*.in: one file for every Python from 3.10 on,
# with hashes, and without a trace of the index it was made with.
#   tools/lock.sh [requirements_docs.in …]
set -eu
cd -- "$(dirname -- "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uv
[ $# -gt 0 ] || set -- requirements*.in
for wanted in "$@"; do
  lock=${wanted%.in}.lock
  {
    echo '# SPDX-License-Identifier: Apache-2.0'
    echo "# Written by \`make lock\` from $wanted; for Python 3.10 and newer."
    "$work/venv/bin/uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes \
      --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$wanted"
  } > "$work/$lock"
  mv "$work/$lock" "$lock"
done
