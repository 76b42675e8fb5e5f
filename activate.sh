# SPDX-License-Identifier: Apache-2.0
# Puts a shell into the environment that `make` set up:   source activate.sh
#
# Virtual environment, ROS prefix, the built package, and the Fast DDS profile for large images.
# For bash and zsh; harmless when sourced twice. It sets variables and, in interactive
# shells, completion of dualfocus; scripts under `set -eu` can source it too.

# The folder of this file: bash names a sourced file in BASH_SOURCE, zsh in the prompt escape %x.
if [ -n "${BASH_VERSION:-}" ]; then
  _dualfocus_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
  # Hidden in eval, because other shells cannot parse it.
  eval '_dualfocus_root=${${(%):-%x}:A:h}'
else
  echo 'activate.sh: source it from bash or zsh' >&2
  return 1
fi

if [ ! -e "$_dualfocus_root/.venv/bin/activate" ] \
    || [ ! -e "$_dualfocus_root/install/local_setup.sh" ]; then
  echo "activate.sh: nothing is set up yet in $_dualfocus_root: run 'make setup' there" >&2
  unset _dualfocus_root
  return 1
fi

# Scripts of other origin: some read variables that need not be set, which `set -u` would refuse.
case $- in
  *u*) _dualfocus_nounset=1; set +u ;;
  *) _dualfocus_nounset= ;;
esac

# Activating an active environment again would lose the prompt and the path that `deactivate`
# restores.
if [ "${VIRTUAL_ENV:-}" != "$_dualfocus_root/.venv" ]; then
  . "$_dualfocus_root/.venv/bin/activate"
fi

# Without a distro the wheels in the virtual environment are the ROS prefix. With one, its own
# setup file was sourced when this environment was made and has to be sourced now.
if [ -e "$_dualfocus_root/.venv/ros-distro" ]; then
  if [ "${ROS_DISTRO:-}" != "$(cat "$_dualfocus_root/.venv/ros-distro")" ]; then
    echo "activate.sh: this was set up for ROS 2 $(cat "$_dualfocus_root/.venv/ros-distro"):" \
      'source its setup file first' >&2
  fi
else
  case ":${AMENT_PREFIX_PATH:-}:" in
    *":$_dualfocus_root/.venv:"*) ;;
    *) export AMENT_PREFIX_PATH="$_dualfocus_root/.venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}" ;;
  esac
  case ":${CMAKE_PREFIX_PATH:-}:" in
    *":$_dualfocus_root/.venv:"*) ;;
    *) export CMAKE_PREFIX_PATH="$_dualfocus_root/.venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}" ;;
  esac
fi

# colcon writes this file for every POSIX shell, but it finds itself only in some: name its place.
_dualfocus_prefix=${COLCON_CURRENT_PREFIX:-}
COLCON_CURRENT_PREFIX="$_dualfocus_root/install"
. "$_dualfocus_root/install/local_setup.sh"
if [ -n "$_dualfocus_prefix" ]; then
  COLCON_CURRENT_PREFIX=$_dualfocus_prefix
else
  unset COLCON_CURRENT_PREFIX
fi

# Images between processes are slow or lost with the default shared-memory segment. A profile that
# the user chose is left alone. Both names, because Humble's Fast DDS knows only the older one.
if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  export FASTDDS_DEFAULT_PROFILES_FILE="$_dualfocus_root/config/fastdds_large_images.xml"
  export FASTRTPS_DEFAULT_PROFILES_FILE="$FASTDDS_DEFAULT_PROFILES_FILE"
fi

case $- in
  *i*)
    if [ -n "${BASH_VERSION:-}" ]; then
      . "$_dualfocus_root/env-hooks/dualfocus_completion.bash"
    else
      . "$_dualfocus_root/env-hooks/dualfocus_completion.zsh"
    fi
    ;;
esac

if [ -n "$_dualfocus_nounset" ]; then set -u; fi
unset _dualfocus_root _dualfocus_nounset _dualfocus_prefix
