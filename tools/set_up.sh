#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Creates or updates the environment of `source activate.sh`; called by all make targets.
#
# Selects the ROS 2 distro, if sourced, and Python. The rest is in set_up/, in Python.
#
# Variables: PYTHON              the interpreter to use, a name or a path
#            DUALFOCUS_SKIP_TORCH  1: leave torch out, to install another build into .venv by
#                                hand
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)

fail() {
  echo "set-up: $*" >&2
  exit 1
}

# In an activated environment `python3` would be the Python of the environment itself.
if [ -n "${VIRTUAL_ENV:-}" ]; then
  kept=
  saved_ifs=$IFS
  IFS=:
  for folder in $PATH; do
    [ "$folder" = "$VIRTUAL_ENV/bin" ] || kept=${kept:+$kept:}$folder
  done
  IFS=$saved_ifs
  PATH=$kept
  unset VIRTUAL_ENV
fi

# With a sourced distro, its packages and its Python instead of the wheels.
if [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import rclpy' >/dev/null 2>&1 || fail \
    "ROS 2 $ROS_DISTRO is sourced, but '$python' cannot import rclpy:" \
    "install ros-$ROS_DISTRO-ros-base, or use a shell without the distro to get ROS from PyPI"
  exec "$python" "$root/tools/set_up" --distro "$ROS_DISTRO"
fi
if [ -e "$root/.venv/ros-distro" ]; then
  distro=$(cat "$root/.venv/ros-distro")
  fail "this folder was set up for ROS 2 $distro: source /opt/ros/$distro/setup.bash first," \
    "or run 'make clean-all' to start over without it"
fi

# True for a CPython that has wheels.
is_supported() {
  "$1" -c 'import sys
ok = (3, 10) <= sys.version_info[:2] <= (3, 13) and sys.implementation.name == "cpython"
sys.exit(not ok)' >/dev/null 2>&1
}

advice="install one (sudo apt install python3.11 python3.11-venv python3.11-dev) or name one\
 (make setup PYTHON=/path/to/python3.12)"
if [ -n "${PYTHON:-}" ]; then
  command -v "$PYTHON" >/dev/null 2>&1 || fail "there is no '$PYTHON': $advice"
  is_supported "$PYTHON" || fail \
    "'$PYTHON' is $("$PYTHON" --version 2>&1), but Python 3.10 to 3.13 is needed: $advice"
  python=$PYTHON
else
  # Keep the Python of the environment, so that PYTHON= need be given only once.
  python=
  made_from=$(cat "$root/.venv/made-from" 2>/dev/null || true)
  for candidate in "$made_from" python3 python3.13 python3.12 python3.11 python3.10; do
    if [ -n "$candidate" ] && is_supported "$candidate"; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || fail \
    "no Python 3.10 to 3.13 found (python3 is $(python3 --version 2>&1 || true)): $advice"
fi
exec "$python" "$root/tools/set_up"
