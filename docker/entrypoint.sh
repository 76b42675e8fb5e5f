#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command with ROS and the package in its environment.
set -e
# shellcheck source=/dev/null
source "$ROS_SETUP"
# shellcheck source=/dev/null
source /opt/dualfocus_ros/activate.sh
exec "$@"
