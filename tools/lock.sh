#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write each requirements*.lock from its requirements*.in: one file for every Python from 3.10 on, with
# hashes and without index URLs. Existing pins are kept unless a requirement excludes them; remove a
# lock file to renew all of its pins.
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
  [ ! -e "$lock" ] || cp "$lock" "$work/pins"
  "$work/venv/bin/uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$wanted" -o "$work/pins"
  {
    echo '# SPDX-License-Identifier: Apache-2.0'
    echo "# Written by \`make lock\` from $wanted; for Python 3.10 and newer."
    cat "$work/pins"
  } > "$work/$lock"
  rm "$work/pins"
  mv "$work/$lock" "$lock"
done
