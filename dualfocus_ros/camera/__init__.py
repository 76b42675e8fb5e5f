# SPDX-License-Identifier: Apache-2.0
"""Camera geometry and optics: pinhole, thin lens, rectification, sRGB, depth resolution."""
