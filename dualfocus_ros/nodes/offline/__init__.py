# SPDX-License-Identifier: Apache-2.0
"""The depth node without DDS, fed from bags."""
