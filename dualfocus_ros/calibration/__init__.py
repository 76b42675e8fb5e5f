# SPDX-License-Identifier: Apache-2.0
"""What a lens does, measured: focus scale, breathing, settling, blur. No ROS, no files."""
